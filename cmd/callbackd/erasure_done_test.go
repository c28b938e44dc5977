package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"callbackd/internal/callback"
	"callbackd/internal/eraser"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// wantLine wants an exit code and, on stderr, one line and nothing else.
func wantLine(t *testing.T, environ []string, code int, line string, args ...string) {
	t.Helper()
	got := callbackd(t, environ, args...)
	if want := (result{code, "", line + "\n"}); got != want {
		t.Errorf("%q: got %+v, want %+v", args, got, want)
	}
}

// TestErased: what is erased is so in one plain line, whoever asks for it.
func TestErased(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	storetest.SeedDetails(t, s, "execution-1", `{"account":{"id":"account-1"},"workflow":{"id":"execution-1","userReference":"reference-1"}}`)
	environ := []string{"DATABASE_URL=" + dsn, "CALLBACKD_ERASURE_KEY=the erasure key of the tests"}
	ordered := callbackd(t, environ, "erasure", "order", "--user-reference", "reference-1", "--reason", "x")
	order := strings.TrimSpace(ordered.Stdout)
	if ordered.Code != exitOK {
		t.Fatalf("order: %+v", ordered)
	}
	wantLine(t, environ, exitFailure, "callbackd: order "+order+" is ordered, not done", "erasure", "verify", order)
	e := eraser.New(eraser.Options{DB: s.DB, Schedule: workflow.Schedule{0}, Log: zap.NewNop(), Registerer: prometheus.NewRegistry()})
	e.Start(t.Context())
	storetest.Eventually(t, "the order's end", func() bool {
		return storetest.Scalar[string](t, s, `SELECT state FROM jumio.erasures`) == "done"
	})
	e.Stop() // nobody deletes what comes later

	const again = "nothing is known of it, or it is erased already"
	for _, subject := range []string{"--account-id=account-1", "--user-reference=reference-1", "--workflow-execution-id=execution-1"} {
		wantLine(t, environ, exitFailure, "callbackd: order an erasure: "+again, "erasure", "order", subject, "--reason", "x")
		wantLine(t, environ, exitFailure, "callbackd: look for what an order would erase: "+again, "erasure", "order", subject, "--dry-run")
	}
	wantLine(t, environ, exitFailure, `callbackd: hold the workflow execution "execution-1": erased`, "erasure", "hold", "execution-1", "--reason", "x")
	wantLine(t, environ, exitFailure, `callbackd: queue a refetch: workflow execution "execution-1": erased`, "refetch", "execution-1")

	now := time.Now()
	rejected := &callback.Rejected{ID: uuid.Must(uuid.NewV7()), ReceivedAt: now, Reason: "not_allowed", Body: []byte(`{"workflowExecution":{"id":"execution-2"},"account":{"id":"account-1"}}`)}
	if err := s.InsertRejected(t.Context(), rejected); err != nil {
		t.Fatal(err)
	}
	late := storetest.Callback("execution-1")
	storetest.Insert(t, s, late)
	storetest.Query(t, s, `INSERT INTO callbackd.rejected_callbacks (rejected_id, received_at, reason, content_type, body) VALUES ($1, now(), 'not_storable: SQLSTATE 23514', '', '')`, late.ID)
	wantLine(t, environ, exitFailure, "callbackd: replay rejected callback "+rejected.ID.String()+": erased", "rejected", "replay", rejected.ID.String())
	wantLine(t, environ, exitFailure, "callbackd: replay dead letter "+late.ID.String()+": erased", "rejected", "replay", late.ID.String())

	storetest.Query(t, s, `DELETE FROM callbackd.inbox`)
	storetest.Query(t, s, `DELETE FROM callbackd.callbacks`)
	storetest.Query(t, s, `DELETE FROM callbackd.rejected_callbacks`)
	if got, want := callbackd(t, environ, "erasure", "verify", order), (result{exitOK, "nothing is left of order " + order + "\n", ""}); got != want {
		t.Errorf("verify: %+v, want %+v", got, want)
	}
	wantLine(t, environ, exitFailure, "callbackd: order "+order+" has not erased what is given", "erasure", "verify", order, "--account-id", "account-1")
	wantLine(t, []string{environ[0], "CALLBACKD_ERASURE_KEY=another key of the tests"}, exitFailure,
		"callbackd: another key has been used: CALLBACKD_ERASURE_KEY is not set to the key of this database's erasures", "erasure", "verify", order)

	exported := filepath.Join(t.TempDir(), "erasures.jsonl")
	if err := os.WriteFile(exported, []byte(callbackd(t, environ, "erasure", "export").Stdout), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := callbackd(t, environ, "erasure", "replay", exported), (result{exitOK, order + "  known\n", ""}); got != want {
		t.Errorf("replay: %+v, want %+v", got, want)
	}
	wantLine(t, []string{environ[0], "CALLBACKD_ERASURE_KEY=another key of the tests"}, exitFailure,
		"callbackd: replay order "+order+": it was made with another CALLBACKD_ERASURE_KEY", "erasure", "replay", exported)
}

// TestWrongUsageOfCustody: erasure verify, export and replay and image say in one line what
// is wrong with how they are called.
func TestWrongUsageOfCustody(t *testing.T) {
	database, key := "DATABASE_URL="+storetest.NewMigrated(t), "CALLBACKD_ERASURE_KEY=a key of this test"
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken.jsonl")
	if err := os.WriteFile(broken, []byte(`{"order_id":"`+uuid.NewString()+`"`+"}\n{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := uuid.NewString()
	for _, tc := range []struct {
		environ []string
		code    int
		says    string
		args    []string
	}{
		{nil, exitUsage, "missing argument ORDER", []string{"erasure", "verify"}},
		{nil, exitUsage, `"x" is not the id of an order`, []string{"erasure", "verify", "x"}},
		{nil, exitUsage, "unexpected argument", []string{"erasure", "verify", id, id}},
		{nil, exitUsage, "give at most one of", []string{"erasure", "verify", id, "--account-id", "a", "--user-reference", "b"}},
		{[]string{database}, exitFailure, "CALLBACKD_ERASURE_KEY", []string{"erasure", "verify", id}},
		{[]string{database, key}, exitFailure, "read order " + id + ": not found", []string{"erasure", "verify", id}},
		{nil, exitUsage, `unexpected argument "x"`, []string{"erasure", "export", "x"}},
		{nil, exitFailure, "DATABASE_URL", []string{"erasure", "export"}},
		{nil, exitUsage, "unexpected argument", []string{"erasure", "replay", "a", "b"}},
		{[]string{database}, exitFailure, "CALLBACKD_ERASURE_KEY", []string{"erasure", "replay", broken}},
		{[]string{database, key}, exitFailure, "no such file", []string{"erasure", "replay", filepath.Join(dir, "none")}},
		{[]string{database, key}, exitFailure, "order 2 is not what erasure export prints", []string{"erasure", "replay", broken}},
		{nil, exitUsage, "missing argument IMAGE_ID", []string{"image", "get"}},
		{nil, exitUsage, `"x" is not the id of an image`, []string{"image", "get", "x", "--reason", "y"}},
		{nil, exitUsage, "--reason must say why", []string{"image", "get", id}},
		{nil, exitUsage, "--reason must say why", []string{"image", "get", id, "--reason", " "}},
		{nil, exitUsage, "--reason must say why", []string{"image", "get", id, "--reason", strings.Repeat("x", 1001)}},
		{nil, exitFailure, "DATABASE_URL", []string{"image", "get", id, "--reason", "x"}},
		{nil, exitUsage, `unexpected argument "x"`, []string{"image", "move", "x"}},
		{nil, exitUsage, "unknown flag: --to", []string{"image", "move", "--to=x"}},
		{[]string{database}, exitFailure, "CALLBACKD_IMAGE_STORE is empty", []string{"image", "move"}},
		{[]string{database, "CALLBACKD_IMAGE_STORE=ftp://x"}, exitFailure, "CALLBACKD_IMAGE_STORE", []string{"image", "move"}},
		{[]string{database, "CALLBACKD_IMAGE_STORE=file://" + filepath.Join(dir, "none")}, exitFailure, "the directory of images", []string{"image", "sweep"}},
		{nil, exitUsage, `unexpected argument "x"`, []string{"image", "sweep", "x"}},
		{[]string{database}, exitFailure, "CALLBACKD_IMAGE_STORE is empty", []string{"image", "sweep"}},
	} {
		got := callbackd(t, tc.environ, tc.args...)
		if got.Code != tc.code || got.Stdout != "" || !strings.Contains(got.Stderr, tc.says) || strings.Count(got.Stderr, "\n") != 1 {
			t.Errorf("%q: got %+v, want exit code %d and %q in one line on stderr", tc.args, got, tc.code, tc.says)
		}
	}
	if n := storetest.Scalar[int64](t, storetest.Open(t, strings.TrimPrefix(database, "DATABASE_URL=")), `SELECT (SELECT count(*) FROM callbackd.erasures) + (SELECT count(*) FROM callbackd.erasure_key)`); n != 0 {
		t.Errorf("a broken file leaves %d rows", n)
	}
}
