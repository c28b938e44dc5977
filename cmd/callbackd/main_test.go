package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"callbackd/internal/callback"
)

// result is what a command line led to.
type result struct {
	Code           int
	Stdout, Stderr string
}

// callbackd runs a command line in this process.
func callbackd(t *testing.T, environ []string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), args, environ, &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// TestWrongUsage: exit code 2, nothing on stdout, one line on stderr.
func TestWrongUsage(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want string
	}{
		"missing subcommand":           {nil, "callbackd: missing command; see `callbackd --help`\n"},
		"unknown subcommand":           {[]string{"server"}, "callbackd: unknown command \"server\"; see `callbackd --help`\n"},
		"empty subcommand":             {[]string{""}, "callbackd: unknown command \"\"; see `callbackd --help`\n"},
		"no completion command":        {[]string{"completion", "bash"}, "callbackd: unknown command \"completion\"; see `callbackd --help`\n"},
		"unknown flag of callbackd":    {[]string{"--verbose"}, "callbackd: unknown flag: --verbose; see `callbackd --help`\n"},
		"unknown flag of a command":    {[]string{"version", "--verbose"}, "callbackd: version: unknown flag: --verbose; see `callbackd version --help`\n"},
		"unexpected argument, version": {[]string{"version", "now"}, "callbackd: version: unexpected argument \"now\"; see `callbackd version --help`\n"},
		"unexpected argument, config":  {[]string{"config", "x"}, "callbackd: config: unexpected argument \"x\"; see `callbackd config --help`\n"},
		"unexpected argument, health":  {[]string{"healthcheck", "x"}, "callbackd: healthcheck: unexpected argument \"x\"; see `callbackd healthcheck --help`\n"},
		"missing argument, sign":       {[]string{"sign"}, "callbackd: sign: missing argument USER_REFERENCE; see `callbackd sign --help`\n"},
		"unexpected argument, sign":    {[]string{"sign", "a", "b"}, "callbackd: sign: unexpected argument \"b\"; see `callbackd sign --help`\n"},
		"missing argument, refetch":    {[]string{"refetch"}, "callbackd: refetch: missing argument WORKFLOW_EXECUTION_ID...; see `callbackd refetch --help`\n"},
		"missing argument, down":       {[]string{"migrate", "down"}, "callbackd: down: missing argument N; see `callbackd migrate down --help`\n"},
		"wrong argument, down":         {[]string{"migrate", "down", "0"}, "callbackd: down: \"0\" is not a whole number of at least 1; see `callbackd migrate down --help`\n"},
		"wrong argument, replay":       {[]string{"rejected", "replay", "x"}, "callbackd: replay: \"x\" is not the id of a rejected callback; see `callbackd rejected replay --help`\n"},
		"wrong id, reproject":          {[]string{"reproject", "a b"}, "callbackd: reproject: \"a b\" is not a workflow execution's id; see `callbackd reproject --help`\n"},
		"wrong time, reproject":        {[]string{"reproject", "--since", "yesterday"}, "callbackd: reproject: --since: \"yesterday\" is not an RFC 3339 time such as 2026-11-30T12:00:00Z; see `callbackd reproject --help`\n"},
		"time and id, reproject":       {[]string{"reproject", "--since", "2026-11-30T12:00:00Z", "w"}, "callbackd: reproject: --since goes without ids; see `callbackd reproject --help`\n"},
		"unknown type, tail":           {[]string{"events", "tail", "--type", "retrieved,x"}, "callbackd: tail: --type: \"x\" is none of callback_received, details_retrieved, retrieved, retrieval_failed, expired, missed_callback_recovered, overdue, erased; see `callbackd events tail --help`\n"},
		"wrong consumer, tail":         {[]string{"events", "tail", "--consumer", "a b"}, "callbackd: tail: --consumer: \"a b\" is not 1 to 64 characters of A-Z a-z 0-9 _ . -; see `callbackd events tail --help`\n"},
		"empty consumer, tail":         {[]string{"events", "tail", "--consumer="}, "callbackd: tail: --consumer: \"\" is not 1 to 64 characters of A-Z a-z 0-9 _ . -; see `callbackd events tail --help`\n"},
		"wrong time, tail":             {[]string{"events", "tail", "--from", "1pm"}, "callbackd: tail: --from: \"1pm\" is neither beginning nor now nor an RFC 3339 time such as 2026-11-30T12:00:00Z; see `callbackd events tail --help`\n"},
		"future time, tail":            {[]string{"events", "tail", "--from", "9999-01-01T00:00:00Z"}, "callbackd: tail: --from: 9999-01-01T00:00:00Z is in the future; see `callbackd events tail --help`\n"},
		"unknown command, --help":      {[]string{"server", "--help"}, "callbackd: unknown command \"server\"; see `callbackd --help`\n"},
		"help of an unknown command":   {[]string{"help", "server"}, "callbackd: help: unknown command \"server\"; see `callbackd help --help`\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(result{2, "", test.want}, callbackd(t, nil, test.args...)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestWrongUsageOfGroups: a command that holds others is used like callbackd itself.
func TestWrongUsageOfGroups(t *testing.T) {
	for _, args := range [][]string{{"group"}, {"group", "nonsense"}, {"group", "leaf", "more"}} {
		root := &cobra.Command{Use: "callbackd", SilenceErrors: true, SilenceUsage: true}
		group := &cobra.Command{Use: "group"}
		group.AddCommand(&cobra.Command{Use: "leaf", RunE: func(*cobra.Command, []string) error { return nil }})
		root.AddCommand(group)
		rejectWrongUsage(root)
		root.SetArgs(args)
		var wrong *usageError
		if err := root.ExecuteContext(t.Context()); !errors.As(err, &wrong) {
			t.Errorf("%q: error %v, want wrong usage", args, err)
		}
	}
}

// TestHelp: every command answers --help and -h on stdout and exits 0.
func TestHelp(t *testing.T) {
	commandLines := [][]string{{}}
	for _, c := range newRootCommand(&process{}).Commands() {
		commandLines = append(commandLines, []string{c.Name()})
		for _, sub := range c.Commands() {
			commandLines = append(commandLines, []string{c.Name(), sub.Name()})
		}
	}
	for _, command := range commandLines {
		for _, args := range [][]string{append([]string{"help"}, command...), append(command, "--help"), append(command, "-h")} {
			t.Run(strings.Join(args, " "), func(t *testing.T) {
				got := callbackd(t, nil, args...)
				want := strings.Join(append([]string{"callbackd"}, command...), " ")
				if got.Code != 0 || got.Stderr != "" || !strings.Contains(got.Stdout, want) {
					t.Errorf("got %+v, want exit code 0 and help for %q on stdout", got, want)
				}
			})
		}
	}
}

// TestHelpGroups: the commands are listed by who needs them, each in a group.
func TestHelpGroups(t *testing.T) {
	help := callbackd(t, nil, "--help").Stdout
	var groups []string
	for line := range strings.Lines(help) {
		if line = strings.TrimSpace(line); strings.HasSuffix(line, ":") {
			groups = append(groups, line)
		}
	}
	want := []string{"Usage:", "To deploy callbackd:", "To start verifications:", "To operate it:", "To protect personal data:", "To develop against it:", "To learn more:", "Flags:"}
	if diff := cmp.Diff(want, groups); diff != "" {
		t.Errorf("groups: %s", diff)
	}
}

func TestVersion(t *testing.T) {
	got := callbackd(t, nil, "version")
	lines := strings.Split(got.Stdout, "\n")
	if got.Code != 0 || got.Stderr != "" || len(lines) != 4 ||
		!strings.HasPrefix(lines[0], "callbackd ") || !strings.HasPrefix(lines[1], "commit ") || !strings.HasPrefix(lines[2], "go1.") {
		t.Errorf("got %+v, want version, commit and Go version", got)
	}
}

// TestConfig: the effective configuration, or all that is wrong with it.
func TestConfig(t *testing.T) {
	good := callbackd(t, []string{"DATABASE_URL=postgres://u:hunter2@h/d", "CALLBACKD_WORKERS=0"}, "config")
	if good.Code != 0 || good.Stderr != "" ||
		!strings.HasPrefix(good.Stdout, "DATABASE_URL=host=h port=5432 dbname=d user=u password=[redacted]\nCALLBACKD_LISTEN=:8080\n") ||
		!strings.HasSuffix(good.Stdout, "\nOTEL_SDK_DISABLED=false\n") {
		t.Errorf("right configuration: got %+v", good)
	}
	wrong := callbackd(t, []string{"DATABASE_URL=hunter2", "CALLBACKD_WORKERS=x", "JUMIO_USER_AGENT=A/v1", "JUMIO_CLIENT_ID=i", "JUMIO_CLIENT_SECRET=s"}, "config")
	want := result{1, "", "callbackd: DATABASE_URL is invalid (its value is not shown), want a Postgres DSN such as postgres://user@host/database\n" +
		"callbackd: CALLBACKD_WORKERS is \"x\", want a whole number from 0 to 1000\n"}
	if diff := cmp.Diff(want, wrong); diff != "" {
		t.Errorf("wrong configuration: %s", diff)
	}
}

// TestSign needs the key and nothing else of the environment.
func TestSign(t *testing.T) {
	signed, err := callback.SignUserReference("key", "customer-4711")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("key\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		environ []string
		args    []string
		want    result
	}{
		"key":         {[]string{"CALLBACKD_USER_REFERENCE_KEY=key"}, []string{"sign", "customer-4711"}, result{0, signed + "\n", ""}},
		"key in file": {[]string{"CALLBACKD_USER_REFERENCE_KEY_FILE=" + path}, []string{"sign", "customer-4711"}, result{0, signed + "\n", ""}},
		"no key":      {nil, []string{"sign", "customer-4711"}, result{1, "", "callbackd: CALLBACKD_USER_REFERENCE_KEY is missing, want a key\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, callbackd(t, test.environ, test.args...)); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, reference := range []string{"", strings.Repeat("x", 101)} {
		got := callbackd(t, []string{"CALLBACKD_USER_REFERENCE_KEY=key"}, "sign", reference)
		if got.Code != 1 || got.Stdout != "" || strings.Count(got.Stderr, "\n") != 1 {
			t.Errorf("sign %q: got %+v, want a failure in one line", reference, got)
		}
	}
}

// TestHealthcheck asks a real listener.
func TestHealthcheck(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/readyz" {
			t.Errorf("asked %s %s", r.Method, r.URL.Path)
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	environ := []string{"CALLBACKD_ADMIN_LISTEN=" + address}

	if diff := cmp.Diff(result{}, callbackd(t, environ, "healthcheck")); diff != "" {
		t.Errorf("ready: %s", diff)
	}
	for _, status = range []int{http.StatusServiceUnavailable, http.StatusFound, http.StatusNoContent} {
		want := result{1, "", fmt.Sprintf("callbackd: not ready: /readyz at %s answered %d %s\n", address, status, http.StatusText(status))}
		if diff := cmp.Diff(want, callbackd(t, environ, "healthcheck")); diff != "" {
			t.Errorf("status %d: %s", status, diff)
		}
	}
	server.Close()
	if got := callbackd(t, environ, "healthcheck"); got.Code != 1 || strings.Count(got.Stderr, "\n") != 1 {
		t.Errorf("nobody listens: got %+v, want a failure in one line", got)
	}
	if got := callbackd(t, []string{"CALLBACKD_ADMIN_LISTEN=9090"}, "healthcheck"); got.Code != 1 || !strings.HasPrefix(got.Stderr, "callbackd: CALLBACKD_ADMIN_LISTEN is ") {
		t.Errorf("wrong address: got %+v", got)
	}
}

// TestSandboxCallbackPath: a callback URL without a path gets that of
// CALLBACKD_CALLBACK_PATH, also from a file; one with a path keeps it.
func TestSandboxCallbackPath(t *testing.T) {
	paths := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { paths <- r.URL.Path }))
	defer server.Close()
	file := filepath.Join(t.TempDir(), "callback_path")
	if err := os.WriteFile(file, []byte("/secret/path\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fromFile := []string{"CALLBACKD_CALLBACK_PATH_FILE=" + file}
	for name, test := range map[string]struct {
		environ   []string
		url, want string
	}{
		"from a file": {fromFile, server.URL, "/secret/path"},
		"default":     {nil, server.URL, "/jumio/callback"},
		"own path":    {fromFile, server.URL + "/own", "/own"},
		"own root":    {fromFile, server.URL + "/", "/"},
	} {
		t.Run(name, func(t *testing.T) {
			got := callbackd(t, test.environ, "sandbox", "--listen", "127.0.0.1:0", "--callback-url", test.url,
				"--journeys", "1", "--kind", "session-expired", "--intermediate", "0", "--exit-after-sent")
			if got.Code != 0 {
				t.Fatalf("got %+v", got)
			}
			if path := <-paths; path != test.want {
				t.Errorf("posted to %q, want %q", path, test.want)
			}
		})
	}
	got := callbackd(t, []string{"CALLBACKD_CALLBACK_PATH=nonsense"}, "sandbox", "--callback-url", server.URL)
	if got.Code != 1 || !strings.HasPrefix(got.Stderr, "callbackd: CALLBACKD_CALLBACK_PATH is ") {
		t.Errorf("wrong path: got %+v", got)
	}
}
