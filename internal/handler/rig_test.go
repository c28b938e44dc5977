package handler

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"callbackd/internal/callback"
	"callbackd/internal/store"
)

// guideExample is the callback in the guide's chapter "Callback", verbatim.
const guideExample = `{
  "callbackSentAt":"2021-01-21T14:55:01.917Z",
  "workflowExecution":{
    "id":"22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
    "href":"https://retrieval.apac-1.jumio.ai/api/v1/accounts/11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx/workflow-executions/22222222-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
    "definitionKey":"3",
    "status":"PROCESSED"
},
  "account":{
    "id":"11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx",
    "href":"https://retrieval.apac-1.jumio.ai/api/v1/accounts/11111111-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
  }
}
`

const callbackPath = "/jumio/callback"

var allowedAddr = netip.MustParseAddr("34.202.241.227")

// fakeStore keeps what it is given. Unlike Postgres, it fails or waits on demand.
type fakeStore struct {
	mu         sync.Mutex
	insertErr  error
	spooled    bool
	note       string
	readyErr   error
	readyCalls int
	callbacks  []*callback.Callback
	rejected   []*callback.Rejected

	// If not nil, inserts send on entered, then wait for release or for their context.
	entered chan struct{}
	release chan struct{}
}

func (s *fakeStore) wait(ctx context.Context) error {
	if s.entered == nil {
		return s.insertErr
	}
	s.entered <- struct{}{}
	select {
	case <-s.release:
		return s.insertErr
	case <-ctx.Done():
		return errors.Join(store.ErrUnavailable, ctx.Err())
	}
}

func (s *fakeStore) InsertCallback(ctx context.Context, c *callback.Callback) (bool, error) {
	if err := s.wait(ctx); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.callbacks = append(s.callbacks, c)
	return s.spooled, nil
}

func (s *fakeStore) InsertRejected(ctx context.Context, r *callback.Rejected) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rejected = append(s.rejected, r)
	return nil
}

func (s *fakeStore) Ready(context.Context) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readyCalls++
	return s.note, s.readyErr
}

func (s *fakeStore) kept() ([]*callback.Callback, []*callback.Rejected) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.callbacks, s.rejected
}

// rig is both listeners on real sockets.
type rig struct {
	t        testing.TB
	handler  *Handler
	store    *fakeStore
	registry *prometheus.Registry
	logs     *observer.ObservedLogs
	server   *http.Server
	// addr and admin are the listeners' host:port.
	addr, admin string
}

// setup is what a test may change before the listeners start.
type setup struct {
	options *Options
	// tune is applied to the handler and to the callback listener's server.
	tune func(*Handler, *http.Server)
}

func start(t testing.TB, change func(*setup)) *rig {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	r := &rig{t: t, store: &fakeStore{}, registry: prometheus.NewRegistry(), logs: logs}
	options := Options{
		CallbackPath:    callbackPath,
		MaxBodyBytes:    1 << 20,
		RejectedPerHour: 600,
		Check:           func(*http.Request) (netip.Addr, string) { return allowedAddr, "" },
		Store:           r.store,
		Logger:          zap.New(core),
		Metrics:         NewMetrics(r.registry, "address_not_allowed", "no_client_address"),
		Gatherer:        r.registry,
	}
	s := &setup{options: &options, tune: func(*Handler, *http.Server) {}}
	if change != nil {
		change(s)
	}
	handler, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	r.handler = handler
	r.server = NewServer(handler.Callback(), options.Logger)
	s.tune(handler, r.server)
	r.addr = listen(t, r.server)
	r.admin = listen(t, NewServer(handler.Admin(), options.Logger))
	return r
}

func listen(t testing.TB, server *http.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return l.Addr().String()
}

// rejectAll makes the address check reject everybody.
func rejectAll(s *setup) {
	s.options.Check = func(*http.Request) (netip.Addr, string) {
		return netip.MustParseAddr("192.0.2.1"), "address_not_allowed"
	}
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	body string
}

func (r *rig) do(method, url, contentType, body string) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		r.t.Fatalf("%s: %v", method, err)
	}
	return readAnswer(r.t, resp)
}

func (r *rig) post(body string) answer {
	r.t.Helper()
	return r.do(http.MethodPost, "http://"+r.addr+callbackPath, "application/json", body)
}

func (r *rig) get(url string) answer {
	r.t.Helper()
	return r.do(http.MethodGet, url, "", "")
}

func readAnswer(t testing.TB, resp *http.Response) answer {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp, string(body)}
}

// dial opens a raw connection to the callback listener.
func (r *rig) dial() *net.TCPConn {
	r.t.Helper()
	var d net.Dialer
	conn, err := d.DialContext(r.t.Context(), "tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		r.t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// raw sends text as it is and reads one answer to a request with that method.
func (r *rig) raw(method, text string) answer {
	r.t.Helper()
	conn := r.dial()
	r.send(conn, text)
	return r.read(bufio.NewReader(conn), method)
}

func (r *rig) send(conn net.Conn, text string) {
	r.t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) read(conn *bufio.Reader, method string) answer {
	r.t.Helper()
	resp, err := http.ReadResponse(conn, &http.Request{Method: method})
	if err != nil {
		r.t.Fatalf("read the answer: %v", err)
	}
	return readAnswer(r.t, resp)
}

// checkID: every answer has the header X-Request-Id.
func (a answer) checkID(t testing.TB) uuid.UUID {
	t.Helper()
	id, err := uuid.Parse(a.Header.Get("X-Request-Id"))
	if err != nil || id.Version() != 7 {
		t.Errorf("X-Request-Id is %q, want a UUIDv7", a.Header.Get("X-Request-Id"))
	}
	return id
}

// checkProblem checks that the answer is application/problem+json with the id in
// request_id and nothing unexpected.
func (a answer) checkProblem(t testing.TB, status int, detail string) {
	t.Helper()
	id := a.checkID(t)
	if a.StatusCode != status {
		t.Errorf("status %d, want %d", a.StatusCode, status)
	}
	if got := a.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type %q", got)
	}
	want := map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": float64(status), "request_id": id.String(),
	}
	if detail != "" {
		want["detail"] = detail
	}
	wantText, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.NewDecoder(bytes.NewReader([]byte(a.body))).Decode(&got); err != nil {
		t.Fatalf("body %q: %v", a.body, err)
	}
	gotText, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(wantText, gotText) {
		t.Errorf("problem %s, want %s", gotText, wantText)
	}
}

// outcomes returns the outcomes that are not 0, and how many durations were
// observed.
func (r *rig) outcomes() (map[string]int, int) {
	r.t.Helper()
	outcomes, observed := map[string]int{}, 0
	for name, samples := range r.counted() {
		switch name {
		case "callbackd_callbacks_total":
			outcomes = samples
		case "callbackd_callback_duration_seconds":
			observed = samples[""]
		}
	}
	return outcomes, observed
}

// counted are the samples that are not 0, by metric and by the value of its
// label; of a histogram, the number of observations.
func (r *rig) counted() map[string]map[string]int {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	counted := map[string]map[string]int{}
	for _, family := range families {
		samples := map[string]int{}
		for _, metric := range family.GetMetric() {
			if histogram := metric.GetHistogram(); histogram != nil {
				samples[""] = int(histogram.GetSampleCount())
			} else if n := int(metric.GetCounter().GetValue()); n > 0 {
				samples[metric.GetLabel()[0].GetValue()] = n
			}
		}
		counted[family.GetName()] = samples
	}
	return counted
}

// eventually waits for a condition that another goroutine fulfils.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
