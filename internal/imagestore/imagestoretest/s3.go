// Package imagestoretest gives tests a real S3 server: versitygw, built from the module in
// internal/imagestore/versitygw, with its objects in a directory of the test.
package imagestoretest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The keys of the server's only user.
const (
	AccessKey = "callbackd-test"
	SecretKey = "callbackd-test-secret"
	Bucket    = "images"
)

// Server is a running S3 server with an empty bucket, behind a proxy that can fail.
type Server struct {
	// Endpoint is the proxy's URL.
	Endpoint *url.URL
	// Directory has the bucket's objects as files.
	Directory string

	fault atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

// executable builds versitygw, the first time for minutes, and returns its path. Go keeps
// it in its cache.
var executable = sync.OnceValues(func() (string, error) {
	module, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(strings.TrimSpace(string(module))), "internal", "imagestore", "versitygw")
	var stderr bytes.Buffer
	c := exec.Command("go", "tool", "-n", "versitygw")
	c.Dir, c.Stderr, c.Env = dir, &stderr, append(os.Environ(), "CGO_ENABLED=0")
	path, err := c.Output()
	if err != nil {
		return "", errors.New(stderr.String())
	}
	return strings.TrimSpace(string(path)), nil
})

// NewServer starts a server, which ends with the test.
func NewServer(tb testing.TB) *Server {
	tb.Helper()
	path, err := executable()
	if err != nil {
		tb.Fatalf("build versitygw: %v", err)
	}
	dir := tb.TempDir()
	s := &Server{Directory: filepath.Join(dir, "objects", Bucket)}
	sidecar := filepath.Join(dir, "sidecar") // in place of extended attributes
	for _, d := range []string{s.Directory, sidecar} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			tb.Fatal(err)
		}
	}
	address := freeAddress(tb)
	var log bytes.Buffer
	c := exec.Command(path, "--access", AccessKey, "--secret", SecretKey, "--port", address, "--quiet",
		"posix", "--sidecar", sidecar, filepath.Dir(s.Directory))
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		tb.Fatalf("start versitygw: %v", err)
	}
	tb.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if tb.Failed() {
			tb.Logf("versitygw: %s", &log)
		}
	})
	awaitListener(tb, address)
	s.proxy(tb, address)
	return s
}

func freeAddress(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func awaitListener(tb testing.TB, address string) {
	tb.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			tb.Fatalf("versitygw does not listen: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// proxy forwards requests, signed for the proxy's address, unless Fail says otherwise.
func (s *Server) proxy(tb testing.TB, to string) {
	tb.Helper()
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", to }, // Host is signed and stays
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	proxy := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := s.fault.Load(); fault != nil && (*fault)(w, r) {
			return
		}
		forward.ServeHTTP(w, r)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	go func() { _ = proxy.Serve(l) }()
	tb.Cleanup(func() { _ = proxy.Close() })
	s.Endpoint = &url.URL{Scheme: "http", Host: l.Addr().String()}
}

// URL is what CALLBACKD_IMAGE_STORE is to be.
func (s *Server) URL() string {
	return "s3://" + Bucket + "/of-callbackd?path-style=true&endpoint=" + url.QueryEscape(s.Endpoint.String())
}

// Fail lets a fault answer requests, those for which it returns true; nil ends that.
func (s *Server) Fail(fault func(http.ResponseWriter, *http.Request) bool) {
	if fault == nil {
		s.fault.Store(nil)
		return
	}
	s.fault.Store(&fault)
}

// InternalError is a fault of S3's: 500.
func InternalError(w http.ResponseWriter, r *http.Request) bool {
	_, _ = io.Copy(io.Discard, r.Body)
	w.WriteHeader(http.StatusInternalServerError)
	return true
}

// CutOff is a fault that ends the connection amid the request.
func CutOff(w http.ResponseWriter, r *http.Request) bool {
	_, _ = io.CopyN(io.Discard, r.Body, 10)
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = conn.Close()
	}
	return true
}

// Silent is a fault that never answers, until the caller has enough.
func Silent(_ http.ResponseWriter, r *http.Request) bool {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
	return true
}
