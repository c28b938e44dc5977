package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/demo"
	"callbackd/internal/store/storetest"
)

// TestDemoOnce: section 1, `demo --once` exits 0 when all have arrived; section
// 8, the private cluster is removed afterwards.
func TestDemoOnce(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	before := demoLeftovers(t)
	got := callbackd(t, []string{"DATABASE_URL="}, "demo", "--once", "--timeout", "5m")
	if got.Code != 0 || got.Stderr != "" {
		t.Fatalf("exit code %d, stderr %q, stdout:\n%s", got.Code, got.Stderr, got.Stdout)
	}
	rows := demoTable(got.Stdout)
	want := []string{
		`PASSPORT PROCESSED PASSED retrieved 3 1`,
		`ID_CARD PROCESSED PASSED retrieved 4 1`,
		`DRIVING_LICENSE PROCESSED PASSED retrieved 2 1`,
		`PASSPORT PROCESSED PASSED retrieved 7 1`,
		`- PROCESSED PASSED retrieved 2 1`,
		`PASSPORT PROCESSED ! WARNING retrieved 3 1`,
		`- PROCESSED X REJECTED retrieved 4 1`,
		`PASSPORT PROCESSED X REJECTED retrieved 3 1`,
		`PASSPORT PROCESSED X REJECTED retrieved 3 1`,
		`- SESSION_EXPIRED - not_required 0 0`,
		`- TOKEN_EXPIRED - not_required 0 0`,
		`ID_CARD PROCESSED PASSED retrieved 4 1`,
		`ID_CARD PROCESSED PASSED retrieved 4 1`,
		`PASSPORT PROCESSED PASSED retrieved 3 4`,
		`ID_CARD PROCESSED PASSED retrieved 4 2`,
		`PASSPORT PROCESSED PASSED retrieved 3 3`,
		`DRIVING_LICENSE PROCESSED PASSED retrieved 2 3`,
		`ID_CARD PROCESSED PASSED retrieved 4 1`,
		`ID_CARD PROCESSED PASSED partial 3 10`,
		`- PROCESSED - failed 0 10`,
	}
	if len(rows) != len(want) {
		t.Fatalf("%d rows instead of %d:\n%s", len(rows), len(want), got.Stdout)
	}
	for i, columns := range want {
		got := strings.Fields(rows[i])
		if lost := i == 1 || i == 10; lost != (got[len(got)-1] == "-") {
			t.Errorf("row %d says how long it took from a callback: %q", i+1, rows[i])
		}
		if diff := cmp.Diff(fmt.Sprintf("user-%d %s", 1001+i, columns), strings.Join(got[:len(got)-1], " ")); diff != "" {
			t.Errorf("row %d (-want +got):\n%s", i+1, diff)
		}
	}
	for _, line := range []string{
		"20 journeys (seed ", "), 2 callbacks lost, 1 forged:\n",
		"finished 20 of 20, images 58 of 58",
		"\n  user-1002  recovered  ", " x: PROCESSED\n  user-1011  recovered  ", " x: TOKEN_EXPIRED\n",
		"404 for the details, in three attempts",
		"             not_found: image answered 404 (1 of 4 images missing)",
		"             server_error: details answered 500",
		"  203.0.113.66  403, address_not_allowed: a forged TOKEN_EXPIRED\n  for user-1001,",
		"user-1008  liveness DIGITAL_COPY",
		"FACE of user-1001, image/jpeg, 480 x 640, ",
		"... intact\n",
		"\nErased, as user-1003 has asked for (the receipt is in jumio.erasures):\n  done after ", "; first at Jumio, which answered 200\n  deleted: ",
		"\n  left in the views: 0 rows, beside the id with the stage and event erased\n",
	} {
		if !strings.Contains(got.Stdout, line) {
			t.Errorf("%q is missing in:\n%s", line, got.Stdout)
		}
	}
	for line := range strings.Lines(got.Stdout) {
		if len(line) > 81 {
			t.Errorf("a line of %d characters: %q", len(line)-1, line)
		}
	}
	if diff := cmp.Diff(before, demoLeftovers(t)); diff != "" {
		t.Errorf("files left behind (-before +after):\n%s", diff)
	}
}

// demoTable returns the rows between the heads of the table and what follows it.
func demoTable(out string) []string {
	_, after, _ := strings.Cut(out, "\nUSER  ")
	_, after, _ = strings.Cut(after, "\n")
	table, _, _ := strings.Cut(after, "\nFrom jumio.verifications. ")
	return strings.Split(table, "\n")
}

// demoLeftovers lists this process's clusters, and what lies in TMPDIR.
func demoLeftovers(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{filepath.Join(os.TempDir(), "*"), fmt.Sprintf("/tmp/callbackd-pg-%d-*", os.Getpid())} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, found...)
	}
	return all
}

// TestDemoErases: nobody else is touched; with the same key the demo may run again.
func TestDemoErases(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dsn := storetest.NewDatabase(t)
	for seed := range uint64(2) {
		d := shortDemo(dsn, io.Discard, demo.Journey{Kind: "passed-id-card"}, demo.Journey{Kind: "passed-passport", Erased: true})
		d.Seed = seed + 7
		if err := demo.Run(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	rows := storetest.Query(t, storetest.Open(t, dsn), `SELECT v.stage, v.account_id IS NULL, v.image_count, (SELECT string_agg(e.type, ' ' ORDER BY e.event_id)
		FROM jumio.events AS e WHERE e.workflow_execution_id = v.workflow_execution_id AND e.type IN ('retrieved', 'erased'))
		FROM jumio.verifications AS v ORDER BY v.stage`)
	kept, erased := []any{"decided", false, int32(4), "retrieved"}, []any{"erased", true, int32(0), "erased"}
	if diff := cmp.Diff([][]any{kept, kept, erased, erased}, rows); diff != "" {
		t.Errorf("verifications (-want +got):\n%s", diff)
	}
}

// TestDemoAgain: with the same seed Jumio would start the same workflow executions
// again, and nothing could be missed; one line says so.
func TestDemoAgain(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	d := shortDemo(storetest.NewDatabase(t), io.Discard, demo.Journey{Kind: "token-expired", Faults: []string{"callback:lost"}})
	if err := demo.Run(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if err := demo.Run(t.Context(), d); err == nil || !strings.Contains(err.Error(), "seed 7 from an earlier run") {
		t.Errorf("second run: error %v", err)
	}
}

// shortDemo is a demo of a few journeys in the database of dsn.
func shortDemo(dsn string, out io.Writer, journeys ...demo.Journey) demo.Options {
	return demo.Options{
		Environ: []string{"DATABASE_URL=" + dsn}, Out: out, Journeys: journeys, Once: true, Seed: 7, Timeout: 5 * time.Minute,
	}
}

// TestDemoDatabaseURL: with DATABASE_URL set, that database is migrated and
// filled; rows of an earlier run with the same ids do not pass for this run's.
func TestDemoDatabaseURL(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dsn := storetest.NewDatabase(t)
	journeys := []demo.Journey{
		{Kind: "passed-id-card"},
		{Kind: "session-expired"},
		{Kind: "passed-passport", Faults: []string{"details:404:1"}, Note: "404, once"},
	}
	var first, second bytes.Buffer
	if err := demo.Run(t.Context(), shortDemo(dsn, &first, journeys...)); err != nil {
		t.Fatalf("first run: %v\n%s", err, first.String())
	}
	late := shortDemo(dsn, io.Discard, journeys...)
	late.Timeout = time.Nanosecond
	if err := demo.Run(t.Context(), late); err == nil || strings.Count(err.Error(), "was not received") != len(journeys) {
		t.Errorf("a run that ends at once: error %v, want that nothing was received", err)
	}
	began := time.Now()
	if err := demo.Run(t.Context(), shortDemo(dsn, &second, journeys...)); err != nil {
		t.Fatalf("second run: %v\n%s", err, second.String())
	}
	took := time.Since(began)
	for i, row := range demoTable(first.String()) {
		before, after := strings.Fields(row), strings.Fields(demoTable(second.String())[i])
		last := len(before) - 1
		if diff := cmp.Diff(before[:last], after[:last]); diff != "" {
			t.Errorf("row %d of the first and the second run (-first +second):\n%s", i+1, diff)
		}
		if milliseconds, err := time.ParseDuration(after[last] + "ms"); err != nil || milliseconds > took {
			t.Errorf("row %d of a run that took %s says %s ms", i+1, took, after[last])
		}
	}
	var callbacks, workflows, rejected int
	err := storetest.Open(t, dsn).Pool().QueryRow(t.Context(), `SELECT (SELECT count(DISTINCT workflow_execution_id) FROM jumio.callbacks),
		(SELECT count(*) FROM jumio.workflow_executions), (SELECT count(*) FROM jumio.rejected_callbacks)`).Scan(&callbacks, &workflows, &rejected)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{3, 3, 3}, []int{callbacks, workflows, rejected}); diff != "" {
		t.Errorf("workflow executions in callbacks, in workflow_executions, rejected callbacks (-want +got):\n%s", diff)
	}
}

// TestDemoNotArrived: exit code 1, and one line on stderr that names what did
// not arrive and where the log is.
func TestDemoNotArrived(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	got := callbackd(t, []string{"DATABASE_URL=" + storetest.NewDatabase(t)}, "demo", "--once", "--timeout", "1ns")
	_, log, _ := strings.Cut(strings.TrimSuffix(got.Stderr, "\n"), "the log is ")
	if got.Code != 1 || strings.Count(got.Stderr, "\n") != 1 || strings.Count(got.Stderr, "was not received") != len(demo.Journeys())-2 || strings.Count(got.Stderr, "was not recovered") != 2 {
		t.Errorf("exit code %d, stderr %q, want 1 and one line that names every journey", got.Code, got.Stderr)
	}
	if _, err := os.Stat(log); err != nil {
		t.Errorf("the log that stderr names: %v", err)
	}

	// One that hangs is named, and one that arrives is not.
	d := shortDemo(storetest.NewDatabase(t), io.Discard, demo.Journey{Kind: "passed-passport"}, demo.Journey{Kind: "passed-passport", Faults: []string{"details:hang"}})
	d.Timeout = 5 * time.Second
	err := demo.Run(t.Context(), d)
	if err == nil || !strings.Contains(err.Error(), "(passed-passport) is pending instead of failed, not all within 5s") {
		t.Errorf("error %v, want that the second journey is pending", err)
	}
}

// cancelAt calls cancel when text has been written.
type cancelAt struct {
	bytes.Buffer
	text   string
	cancel context.CancelFunc
}

func (c *cancelAt) Write(p []byte) (int, error) {
	n, err := c.Buffer.Write(p)
	if strings.Contains(c.String(), c.text) {
		c.cancel()
	}
	return n, err
}

// TestDemoInterrupted: Ctrl-C is the demo's proper end, but with --once a
// failure, as long as not all journeys have arrived.
func TestDemoInterrupted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dsn := storetest.NewDatabase(t)
	for name, test := range map[string]struct {
		once    bool
		text    string
		journey demo.Journey
		want    string
	}{
		"in the end":               {false, "Ctrl-C ends it; the rows stay in the database.", demo.Journey{Kind: "passed-passport"}, ""},
		"on the way":               {false, "received 1 of 1", demo.Journey{Kind: "passed-passport", Faults: []string{"details:hang"}}, ""},
		"during the start":         {false, "up to date", demo.Journey{Kind: "passed-passport"}, ""},
		"on the way, --once":       {true, "received 1 of 1", demo.Journey{Kind: "passed-passport", Faults: []string{"details:hang"}}, "interrupted before all journeys had arrived"},
		"during the start, --once": {true, "up to date", demo.Journey{Kind: "passed-passport"}, "interrupted before all journeys had arrived"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &cancelAt{text: test.text, cancel: cancel}
			d := shortDemo(dsn, out, test.journey)
			d.Once, d.Seed = test.once, 0
			err := demo.Run(ctx, d)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("error %v", err)
			case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)):
				t.Errorf("error %v, want %s", err, test.want)
			}
			if !strings.HasSuffix(out.String(), "\nstopping\n") {
				t.Errorf("output %q does not end with the stop", out.String())
			}
			if name == "in the end" && !strings.Contains(out.String(), "psql \\\n      \"$DATABASE_URL\"") {
				t.Errorf("no psql line in %q", out.String())
			}
		})
	}
}

// TestDemoWrongUsage: exit code 2.
func TestDemoWrongUsage(t *testing.T) {
	for _, args := range [][]string{{"now"}, {"--timeout", "0s"}, {"--seed", "x"}} {
		if got := callbackd(t, nil, append([]string{"demo"}, args...)...); got.Code != 2 || got.Stdout != "" || strings.Count(got.Stderr, "\n") != 1 {
			t.Errorf("demo %q: %+v, want wrong usage", args, got)
		}
	}
}
