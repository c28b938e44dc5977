package jumio

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"time"
)

var errNoProgress = errors.New("no progress for too long")

// newTransport is one client's connection pool. Compression is off, so that an image's
// bytes and Content-Length are as sent.
func newTransport(timeout time.Duration) *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout: timeout,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:   true,
		// Without pings, request after request would time out on a dead HTTP/2
		// connection.
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: timeout / 2, PingTimeout: timeout / 2},
		MaxIdleConns:           64,
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        75 * time.Second,
		DisableCompression:     true,
		MaxResponseHeaderBytes: 64 << 10,
	}
}

// progressTransport ends a request that makes no progress within timeout. Progress is
// a connection, a finished handshake, bytes of the request's body, the request written,
// the first byte of the response, and bytes of its body.
type progressTransport struct {
	base    http.RoundTripper
	timeout time.Duration
}

// RoundTrip implements http.RoundTripper.
func (t *progressTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	timer := time.AfterFunc(t.timeout, func() { cancel(errNoProgress) })
	progress := func() { timer.Reset(t.timeout) }
	trace := &httptrace.ClientTrace{
		GotConn:              func(httptrace.GotConnInfo) { progress() },
		ConnectDone:          func(_, _ string, err error) { progress() },
		TLSHandshakeDone:     func(tls.ConnectionState, error) { progress() },
		WroteRequest:         func(httptrace.WroteRequestInfo) { progress() },
		GotFirstResponseByte: progress,
	}
	req = req.WithContext(httptrace.WithClientTrace(ctx, trace)) // a copy
	if req.Body != nil && req.Body != http.NoBody {
		req.Body = &sentBody{ReadCloser: req.Body, progress: progress}
	}
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		if errors.Is(context.Cause(ctx), errNoProgress) {
			err = errNoProgress
		}
		timer.Stop()
		cancel(nil)
		return nil, err
	}
	resp.Body = &progressBody{ReadCloser: resp.Body, ctx: ctx, progress: progress, stop: func() { timer.Stop(); cancel(nil) }}
	return resp, nil
}

// sentBody is a request's body whose reads count as progress: it is read as fast as it
// can be sent.
type sentBody struct {
	io.ReadCloser
	progress func()
}

func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.progress()
	}
	return n, err
}

// progressBody is a body whose reads count as progress.
type progressBody struct {
	io.ReadCloser
	ctx      context.Context
	progress func()
	stop     func()
}

func (b *progressBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.progress()
	}
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(b.ctx), errNoProgress) {
		err = errNoProgress
	}
	return n, err
}

func (b *progressBody) Close() error {
	b.stop()
	return b.ReadCloser.Close()
}
