package tracing

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

const (
	// firstPause passes before a batch is sent again, twice as long each time.
	firstPause = time.Second
	// maxAnswer bounds what is read of a collector's answer.
	maxAnswer = 64 << 10
)

// client sends spans in binary Protobuf over HTTP (OTLP specification,
// "OTLP/HTTP"). OpenTelemetry's own clients bring in all of gRPC: 59
// packages, a fifth of what a first build downloads.
type client struct {
	Exporter
	gzip bool
	http *http.Client
}

var _ otlptrace.Client = (*client)(nil)

func newClient(o Exporter) (*client, error) {
	transport, err := newTransport()
	if err != nil {
		return nil, err
	}
	name, compression := setting("COMPRESSION")
	if compression != "" && compression != "none" && compression != "gzip" {
		return nil, fmt.Errorf("tracing: %s is %q, want gzip or none", name, compression)
	}
	return &client{Exporter: o, gzip: compression == "gzip", http: &http.Client{
		Transport: transport,
		// The headers, which are secrets, must not go elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// setting reads a variable of the OTLP exporter that is not in callbackd's
// configuration; the one for traces takes precedence.
func setting(suffix string) (name, value string) {
	name = "OTEL_EXPORTER_OTLP_TRACES_" + suffix
	if value = os.Getenv(name); value != "" {
		return name, value
	}
	name = "OTEL_EXPORTER_OTLP_" + suffix
	return name, os.Getenv(name)
}

func newTransport() (*http.Transport, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	if name, file := setting("CERTIFICATE"); file != "" {
		pem, err := os.ReadFile(file)
		roots := x509.NewCertPool()
		if err == nil && !roots.AppendCertsFromPEM(pem) {
			err = errors.New("the file holds no PEM certificate")
		}
		if err != nil {
			return nil, fmt.Errorf("tracing: %s: %w", name, err)
		}
		transport.TLSClientConfig.RootCAs = roots
	}
	name, certificate := setting("CLIENT_CERTIFICATE")
	keyName, key := setting("CLIENT_KEY")
	if certificate != "" || key != "" {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("tracing: %s and %s: %w", name, keyName, err)
		}
		transport.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	return transport, nil
}

// Start implements otlptrace.Client.
func (c *client) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *client) Stop(context.Context) error {
	c.http.CloseIdleConnections()
	return nil
}

// UploadTraces implements otlptrace.Client. If the collector asks for it, the
// batch is sent again, within the time-out.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// On the wire, TracesData is ExportTraceServiceRequest, whose package needs gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return fmt.Errorf("encode the spans: %w", err)
	}
	if c.gzip {
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		_, err := w.Write(body)
		if err = cmp.Or(err, w.Close()); err != nil {
			return fmt.Errorf("compress the spans: %w", err)
		}
		body = zipped.Bytes()
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	for pause := firstPause; ; pause *= 2 {
		after, err := c.post(ctx, body)
		if after < 0 {
			return err
		}
		timer := time.NewTimer(max(after, time.Duration((0.5+rand.Float64()/2)*float64(pause))))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// post sends a batch once. It may be sent again after the time returned; never if
// that is negative.
func (c *client) post(ctx context.Context, body []byte) (after time.Duration, err error) {
	const never = -1
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Endpoint, bytes.NewReader(body))
	if err != nil {
		return never, err
	}
	request.Header.Set("User-Agent", "callbackd")
	for name, value := range c.Headers {
		request.Header.Set(name, value)
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	if c.gzip {
		request.Header.Set("Content-Encoding", "gzip")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return never, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	switch response.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, _ := strconv.Atoi(response.Header.Get("Retry-After")) // 0 for a date
		return max(0, time.Duration(seconds)*time.Second), collectorError(fmt.Sprint("the collector answered ", response.StatusCode))
	}
	if response.StatusCode/100 != 2 {
		return never, collectorError(fmt.Sprint("the collector answered ", response.StatusCode))
	}
	if n := rejectedSpans(answer); err == nil && n > 0 {
		err = collectorError(fmt.Sprintf("the collector rejected %d spans", n))
	}
	return never, err
}

// collectorError says in our own words what a collector answered.
type collectorError string

func (e collectorError) Error() string { return string(e) }

// rejectedSpans reads partial_success.rejected_spans, both the first field of
// their messages, of an ExportTraceServiceResponse.
func rejectedSpans(answer []byte) uint64 {
	field, kind, size := protowire.ConsumeTag(answer)
	if size < 0 || field != 1 || kind != protowire.BytesType {
		return 0
	}
	partial, _ := protowire.ConsumeBytes(answer[size:])
	field, kind, size = protowire.ConsumeTag(partial)
	if size < 0 || field != 1 || kind != protowire.VarintType {
		return 0
	}
	n, _ := protowire.ConsumeVarint(partial[size:])
	return n
}
