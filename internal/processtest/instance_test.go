package processtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	// jumioAddress is one of the built-in addresses, foreignAddress is not.
	jumioAddress   = "34.202.241.227"
	foreignAddress = "203.0.113.99"

	callbackPath = "/jumio/callback"

	// fastDelays are ten attempts with almost no pauses.
	fastDelays = "0s,200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms,200ms"

	// shutdownTimeout makes an instance receive for 2 s more after a signal, a
	// fifth of it.
	shutdownTimeout = 10 * time.Second
)

// receiving are the settings of an instance that receives, behind a trusted
// proxy on this machine, and does not retrieve.
func receiving(dsn string) []string {
	return []string{
		"DATABASE_URL=" + dsn,
		"CALLBACKD_LISTEN=127.0.0.1:0",
		"CALLBACKD_ADMIN_LISTEN=127.0.0.1:0",
		"CALLBACKD_TRUSTED_PROXIES=127.0.0.1/32",
		"CALLBACKD_JUMIO_HOSTS=none",
		"CALLBACKD_SHUTDOWN_TIMEOUT=" + shutdownTimeout.String(),
		"CALLBACKD_WORKERS=0",
	}
}

// retrieving are the settings of an instance that does both; later ones in a
// list replace earlier ones.
func retrieving(dsn string, jumio *jumioSandbox) []string {
	return append(receiving(dsn),
		"CALLBACKD_WORKERS=8",
		"CALLBACKD_RETRIEVAL_DELAYS="+fastDelays,
		"CALLBACKD_RETRIEVAL_RPS=100000",
		"CALLBACKD_JUMIO_HEALTH_INTERVAL=0",
		"JUMIO_CLIENT_ID="+sandboxClient,
		"JUMIO_CLIENT_SECRET="+sandboxSecret,
		"JUMIO_USER_AGENT=Example Processtest/v1.0",
		"JUMIO_TOKEN_URL="+jumio.url,
		"JUMIO_RETRIEVAL_URL="+jumio.url,
		"JUMIO_STATUS_URL="+jumio.url,
	)
}

// instance is a running `callbackd serve`.
type instance struct {
	*process
	callback string // base URL of the callback listener, "" on a worker-only instance
	admin    string // base URL of the admin listener
	path     string // callback path
}

// serve starts an instance and waits until it has started.
func serve(t testing.TB, environ []string) *instance {
	t.Helper()
	i := launch(t, environ)
	i.awaitStart()
	return i
}

// launch starts an instance and does not wait.
func launch(t testing.TB, environ []string) *instance {
	t.Helper()
	i := &instance{process: startCallbackd(t, environ, "serve"), path: callbackPath}
	for _, setting := range environ {
		if path, ok := strings.CutPrefix(setting, "CALLBACKD_CALLBACK_PATH="); ok {
			i.path = path
		}
	}
	return i
}

func (i *instance) awaitStart() {
	i.t.Helper()
	eventually(i.t, patience, func() error {
		if !i.running() {
			i.t.Fatalf("serve ended at its start: %s", tail(i.stderr.String()))
		}
		return i.readStart()
	})
}

// readStart learns the listeners' addresses from the log; an error as long as
// the instance has not started.
func (i *instance) readStart() error {
	for _, line := range i.stderr.lines() {
		var entry struct{ Msg, Listener, Address string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			return fmt.Errorf("the log line %q is no JSON: %w", line, err)
		}
		switch {
		case entry.Msg == "started":
			return nil
		case entry.Msg == "listening" && entry.Listener == "callback":
			i.callback = "http://" + entry.Address
		case entry.Msg == "listening" && entry.Listener == "admin":
			i.admin = "http://" + entry.Address
		}
	}
	return fmt.Errorf("not started: %s", tail(i.stderr.String()))
}

func (i *instance) callbackURL() string { return i.callback + i.path }

// post sends a callback as the load balancer on this machine would, on behalf
// of the address from.
func (i *instance) post(t testing.TB, from, contentType, body string) *answer {
	t.Helper()
	a, err := tryPost(i.callbackURL(), from, contentType, body)
	if err != nil {
		t.Fatalf("post a callback: %v", err)
	}
	return a
}

// ready is the status of /readyz at a base URL, 0 when there is no answer.
func ready(base string) int {
	a, err := get(base + "/readyz")
	if err != nil {
		return 0
	}
	return a.code
}

// awaitReady waits until /readyz at a base URL says 200: on a busy machine one
// question of the probe's to Postgres can take longer than it waits.
func awaitReady(t testing.TB, base string) {
	t.Helper()
	eventually(t, patience, func() error {
		if code := ready(base); code != http.StatusOK {
			return fmt.Errorf("/readyz is %d, want 200", code)
		}
		return nil
	})
}

// metrics are all samples of /metrics by name and labels as they stand there.
func (i *instance) metrics(t testing.TB) map[string]float64 {
	t.Helper()
	samples := map[string]float64{}
	for line := range strings.Lines(i.metricsText(t)) {
		line = strings.TrimSpace(line)
		space := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || space < 0 {
			continue
		}
		value, err := strconv.ParseFloat(line[space+1:], 64)
		if err != nil {
			t.Fatalf("the metrics line %q: %v", line, err)
		}
		samples[line[:space]] = value
	}
	return samples
}

func (i *instance) metricsText(t testing.TB) string {
	t.Helper()
	a, err := get(i.admin + "/metrics")
	if err != nil {
		t.Fatalf("get the metrics: %v", err)
	}
	return a.wantCode(t, http.StatusOK).body
}

// answer is an HTTP response that has been read.
type answer struct {
	code   int
	header http.Header
	body   string
}

// client opens a connection for each request, so that none is left over when a
// server stops.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}

func do(c *http.Client, r *http.Request) (*answer, error) {
	response, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	return &answer{response.StatusCode, response.Header, string(body)}, nil
}

func get(url string) (*answer, error) {
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return do(client, r)
}

func tryPost(url, from, contentType, body string) (*answer, error) {
	return postBy(client, url, from, contentType, body)
}

func postBy(c *http.Client, url, from, contentType, body string) (*answer, error) {
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if from != "" {
		r.Header.Set("X-Forwarded-For", from)
	}
	r.Header.Set("Content-Type", contentType)
	return do(c, r)
}

// wantCode fails the test unless the answer has the status.
func (a *answer) wantCode(t testing.TB, code int) *answer {
	t.Helper()
	if a.code != code {
		t.Fatalf("answered %d %s, want %d", a.code, a.body, code)
	}
	return a
}

// processed is a callback's body that says PROCESSED.
func processed(workflowExecution string) string { return callbackBody(workflowExecution, "PROCESSED") }

// callbackBody is a callback's body that was sent just now.
func callbackBody(workflowExecution, status string) string {
	return fmt.Sprintf(`{"callbackSentAt":%q,"workflowExecution":{"id":%q,"status":%q}}`,
		time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), workflowExecution, status)
}
