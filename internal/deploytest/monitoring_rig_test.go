package deploytest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/miekg/dns"

	"callbackd/internal/pgserver"
)

const (
	// monitoringPatience is how long a quick operation may take on a busy machine.
	monitoringPatience = 2 * time.Minute

	monitoringHost    = "callback.test"
	monitoringForeign = "203.0.113.99" // not on the allowlist
	monitoringJumio   = "34.192.0.7"   // known from DNS
)

// monitoringRig is what is watched: receivers and a worker as processes, on a
// Postgres of their own that a test may stop, with the sandbox as Jumio and a
// name server.
type monitoringRig struct {
	t         *testing.T
	program   string
	postgres  *pgserver.Server
	names     string // address of the name server
	sandbox   string // base URL
	receivers []*monitoredInstance
	worker    *monitoredInstance
}

// monitoredInstance is a running `callbackd serve`; its addresses are host:port.
type monitoredInstance struct{ name, callback, admin string }

func newMonitoringRig(t *testing.T, receivers int, delays string) *monitoringRig {
	t.Helper()
	r := &monitoringRig{t: t, program: buildCallbackd(t), names: startMonitoringNames(t)}
	ctx, cancel := context.WithTimeout(t.Context(), monitoringPatience)
	defer cancel()
	var err error
	if r.postgres, err = pgserver.Start(ctx, pgserver.Options{NoSync: true}); err != nil {
		t.Fatalf("a Postgres of its own: %v", err)
	}
	t.Cleanup(func() {
		if err := r.postgres.Stop(); err != nil {
			t.Errorf("stop Postgres: %v", err)
		}
	})
	dsn := "DATABASE_URL=" + r.postgres.DSN("postgres")
	migrate := exec.CommandContext(t.Context(), r.program, "migrate", "up")
	migrate.Env = []string{dsn}
	if out, err := migrate.CombinedOutput(); err != nil {
		t.Fatalf("migrate up: %v\n%s", err, out)
	}
	r.addConsumer()
	r.startSandbox()
	common := []string{
		dsn, "CALLBACKD_LISTEN=127.0.0.1:0", "CALLBACKD_ADMIN_LISTEN=127.0.0.1:0", "CALLBACKD_TRUSTED_PROXIES=127.0.0.1/32",
		"CALLBACKD_JUMIO_HOSTS=" + monitoringHost, "CALLBACKD_DNS_SERVER=" + r.names, "CALLBACKD_DNS_REFRESH=10s",
		"CALLBACKD_STORE_TIMEOUT=2s", "CALLBACKD_SHUTDOWN_TIMEOUT=2s",
		// Nothing listens there: tracing is on only for its metric.
		"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:9", "OTEL_TRACES_SAMPLER=always_off",
	}
	for i := range receivers {
		r.receivers = append(r.receivers, r.serve(fmt.Sprintf("receiver-%d:9090", i+1), append(slices.Clone(common),
			"CALLBACKD_WORKERS=0", "CALLBACKD_SPOOL_DIR="+filepath.Join(t.TempDir(), "spool"), "CALLBACKD_SPOOL_MAX_BYTES=2097152")))
	}
	r.worker = r.serve("worker:9090", append(slices.Clone(common),
		"CALLBACKD_RECEIVE=false", "CALLBACKD_RETRIEVAL_DELAYS="+delays, "CALLBACKD_RETRIEVAL_RPS=100",
		"JUMIO_CLIENT_ID=sandbox", "JUMIO_CLIENT_SECRET=sandbox", "JUMIO_USER_AGENT=Example Monitoring/v1.0",
		"JUMIO_TOKEN_URL="+r.sandbox, "JUMIO_RETRIEVAL_URL="+r.sandbox, "JUMIO_STATUS_URL="+r.sandbox, "CALLBACKD_JUMIO_HEALTH_INTERVAL=2s",
		"CALLBACKD_SESSION_TIMEOUT=5s", "CALLBACKD_RECONCILE_GRACE=0s", "CALLBACKD_RECONCILE_DELAYS=0s,2s,5s",
		"CALLBACKD_ERASURE_KEY=the monitoring's", "CALLBACKD_IMAGE_STORE=file://"+t.TempDir()))
	return r
}

// startMonitoringNames starts a name server that knows one address for every
// name.
func startMonitoringNames(t *testing.T) string {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started, done := make(chan struct{}), make(chan error, 1)
	server := &dns.Server{PacketConn: socket, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(
		func(w dns.ResponseWriter, query *dns.Msg) {
			reply := new(dns.Msg).SetReply(query)
			reply.RecursionAvailable = true
			if q := query.Question[0]; q.Qtype == dns.TypeA {
				header := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: 60}
				reply.Answer = []dns.RR{&dns.A{Hdr: header, A: netip.MustParseAddr(monitoringJumio).AsSlice()}}
			}
			_ = w.WriteMsg(reply) // a client that is gone needs no answer
		})}
	go func() { done <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		_ = server.Shutdown()
		if err := <-done; err != nil {
			t.Errorf("name server: %v", err)
		}
	})
	return socket.LocalAddr().String()
}

// monitoringOutput keeps what a process writes.
type monitoringOutput struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *monitoringOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *monitoringOutput) lines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return strings.Split(o.buf.String(), "\n")
}

// run starts a program that is stopped with the test. Its output is shown when
// the test fails.
func (r *monitoringRig) run(environ []string, program string, args ...string) *monitoringOutput {
	r.t.Helper()
	return runMonitored(r.t, environ, program, args...)
}

func runMonitored(t *testing.T, environ []string, program string, args ...string) *monitoringOutput {
	t.Helper()
	output, ended := &monitoringOutput{}, make(chan struct{})
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = environ, t.TempDir(), output, output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	go func() {
		defer close(ended)
		_ = cmd.Wait() // the exit code does not matter
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(monitoringPatience):
			_ = cmd.Process.Kill()
			<-ended
		}
		if t.Failed() {
			lines := output.lines()
			t.Logf("%s %s:\n%s", filepath.Base(program), strings.Join(args, " "), strings.Join(lines[max(0, len(lines)-30):], "\n"))
		}
	})
	return output
}

// addConsumer adds a consumer of the events that handles none.
func (r *monitoringRig) addConsumer() {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.postgres.DSN("postgres"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close(r.t.Context())
	if _, err := conn.Exec(r.t.Context(), `SELECT jumio.handled('results', 0)`); err != nil {
		r.t.Fatal(err)
	}
}

func (r *monitoringRig) startSandbox() {
	r.t.Helper()
	output := r.run(nil, r.program, "sandbox", "--listen", "127.0.0.1:0", "--fast-images", "--callback-header", "X-Forwarded-For: "+monitoringJumio)
	r.await(func() error {
		for _, line := range output.lines() {
			if url, found := strings.CutPrefix(line, "sandbox listening on "); found {
				r.sandbox = url
				return nil
			}
		}
		return fmt.Errorf("the sandbox does not listen")
	})
}

func (r *monitoringRig) serve(name string, environ []string) *monitoredInstance {
	r.t.Helper()
	i := &monitoredInstance{name: name}
	output := r.run(environ, r.program, "serve")
	r.await(func() error {
		for _, line := range output.lines() {
			var entry struct{ Msg, Listener, Address string }
			_ = json.Unmarshal([]byte(line), &entry) // a line that is not whole yet
			switch {
			case entry.Msg == "started":
				return nil
			case entry.Listener == "callback":
				i.callback = entry.Address
			case entry.Listener == "admin":
				i.admin = entry.Address
			}
		}
		return fmt.Errorf("%s has not started", name)
	})
	return i
}

// await waits until the condition returns nil.
func (r *monitoringRig) await(condition func() error) {
	r.t.Helper()
	eventually(r.t, monitoringPatience, condition)
}

var monitoringClient = &http.Client{Timeout: monitoringPatience}

func monitoringDo(request *http.Request, err error) (int, string, error) {
	if err != nil {
		return 0, "", err
	}
	response, err := monitoringClient.Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.StatusCode, string(body), err
}

func monitoringGet(url string) (int, string, error) {
	return monitoringDo(http.NewRequest(http.MethodGet, url, nil))
}

// post sends a callback through a load balancer on this machine, which names the
// address from; without one, it says nothing.
func (i *monitoredInstance) post(from, body string) (int, error) {
	request, err := http.NewRequest(http.MethodPost, "http://"+i.callback+"/jumio/callback", strings.NewReader(body))
	if err == nil && from != "" {
		request.Header.Set("X-Forwarded-For", from)
	}
	code, _, err := monitoringDo(request, err)
	return code, err
}

// ask posts to one of the sandbox's own pages.
func (r *monitoringRig) ask(page string, question any) {
	r.t.Helper()
	if _, err := r.askSandbox(page, question); err != nil {
		r.t.Fatal(err)
	}
}

func (r *monitoringRig) askSandbox(page string, question any) (answer string, err error) {
	body, err := json.Marshal(question)
	if err != nil {
		return "", err
	}
	code, answer, err := monitoringDo(http.NewRequest(http.MethodPost, r.sandbox+"/_sandbox/"+page, bytes.NewReader(body)))
	if err == nil && code >= 300 {
		err = fmt.Errorf("the sandbox answers %d %s", code, answer)
	}
	return answer, err
}

// sendJourneys has the sandbox send journeys to a receiver, and does not wait.
func (r *monitoringRig) sendJourneys(to *monitoredInstance, count int, perSecond float64, more map[string]any) {
	r.t.Helper()
	question := map[string]any{"count": count, "callback_url": "http://" + to.callback + "/jumio/callback"}
	if perSecond > 0 {
		question["rate"] = perSecond
	}
	for key, value := range more {
		question[key] = value
	}
	r.ask("journeys", question)
}

func (r *monitoringRig) setFaults(faults ...string) {
	r.t.Helper()
	r.ask("faults", map[string]any{"faults": append([]string{}, faults...)})
}
