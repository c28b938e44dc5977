package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"callbackd/internal/sandbox"
)

// startSandbox is a sandbox in this process.
func startSandbox(t *testing.T, cfg sandbox.Config) *sandbox.Sandbox {
	t.Helper()
	s, err := sandbox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSandboxTrigger(t *testing.T) {
	references := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var callback struct{ UserReference string }
		if err := json.NewDecoder(r.Body).Decode(&callback); err != nil {
			t.Error(err)
		}
		references <- callback.UserReference
	}))
	defer receiver.Close()
	s := startSandbox(t, sandbox.Config{CallbackURL: receiver.URL})

	got := callbackd(t, nil, "sandbox", "trigger", "session-expired", "--user-reference", "user-1", "--count", "2", "--url", s.URL())
	if got.Code != 0 || !regexp.MustCompile(`^([0-9a-f-]{36}\t[0-9a-f-]{36}\n){2}$`).MatchString(got.Stdout) {
		t.Fatalf("got %+v", got)
	}
	for i, e := range s.Ledger().Journeys {
		if e.Kind != "session-expired" || strings.Split(got.Stdout, "\n")[i] != e.WorkflowExecutionID+"\t"+e.AccountID {
			t.Errorf("started %+v", e)
		}
		if reference := <-references; reference != "user-1" {
			t.Errorf("userReference %q", reference)
		}
	}
}

func TestSandboxTriggerFails(t *testing.T) {
	s := startSandbox(t, sandbox.Config{})
	for _, tt := range []struct {
		args   []string
		code   int
		stderr string
	}{
		{[]string{"passed-passport", "--url", s.URL()}, 1, "there is no callback URL"},
		{[]string{"passed-passport", "--url", "http://127.0.0.1:1"}, 1, "ask the sandbox"},
		{[]string{"nonsense", "--url", s.URL()}, 2, "--list-kinds"},
		{[]string{"passed-passport", "--url", "sandbox:9480"}, 2, "--url"},
		{[]string{"passed-passport", "--count", "0", "--url", s.URL()}, 2, "--count"},
		{nil, 2, "missing argument KIND"},
		{[]string{"passed-passport", "passed-visa"}, 2, "unexpected argument"},
	} {
		got := callbackd(t, nil, append([]string{"sandbox", "trigger"}, tt.args...)...)
		if got.Code != tt.code || got.Stdout != "" || !strings.Contains(got.Stderr, tt.stderr) || strings.Count(got.Stderr, "\n") != 1 {
			t.Errorf("%v: got %+v, want %d with %q", tt.args, got, tt.code, tt.stderr)
		}
	}
	if got := callbackd(t, nil, "sandbox", "triger"); got.Code != 2 {
		t.Errorf("misspelt: got %+v", got)
	}
}

// TestSandboxTrustsCAs: callbacks go to https with a private certificate only when its
// authority is given.
func TestSandboxTrustsCAs(t *testing.T) {
	receiver := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: receiver.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"sandbox", "--listen", "127.0.0.1:0", "--callback-url", receiver.URL + "/x", "--journeys", "1", "--kind", "session-expired", "--exit-after-sent"}
	if got := callbackd(t, nil, append(args, "--ca-file", authority)...); got.Code != 0 {
		t.Errorf("with the authority: %+v", got)
	}
	if got := callbackd(t, nil, args...); got.Code != 1 || !strings.Contains(got.Stderr, "certificate") {
		t.Errorf("without: %+v", got)
	}
	for file, reason := range map[string]string{filepath.Join(t.TempDir(), "none"): "no such file", os.DevNull: "no PEM certificate"} {
		if got := callbackd(t, nil, append(args, "--ca-file", file)...); got.Code != 2 || !strings.Contains(got.Stderr, reason) {
			t.Errorf("--ca-file %s: %+v", file, got)
		}
	}
}
