package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/sandbox"
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
		`PASSPORT [A-Z]{3} +PROCESSED +PASSED +retrieved +3 +1`,
		`ID_CARD [A-Z]{3} +PROCESSED +PASSED +retrieved +4 +1`,
		`DRIVING_LICENSE [A-Z]{3} +PROCESSED +PASSED +retrieved +2 +1`,
		`PASSPORT [A-Z]{3} +PROCESSED +PASSED +retrieved +7 +1`,
		`- +PROCESSED +PASSED +retrieved +2 +1`,
		`PASSPORT [A-Z]{3} +PROCESSED +WARNING imageChecks WATERMARK +retrieved +3 +1`,
		`- +PROCESSED +REJECTED imageChecks PUNCHED +retrieved +4 +1`,
		`PASSPORT [A-Z]{3} +PROCESSED +REJECTED liveness DIGITAL_COPY +retrieved +3 +1`,
		`PASSPORT [A-Z]{3} +PROCESSED +REJECTED similarity NO_MATCH +retrieved +3 +1`,
		`- +SESSION_EXPIRED +- +not_required +0 +0`,
		`- +TOKEN_EXPIRED +- +not_required +0 +0`,
		`ID_CARD [A-Z]{3} +PROCESSED +PASSED +retrieved +4 +1`,
		`ID_CARD [A-Z]{3} +PROCESSED +PASSED +retrieved +4 +1`,
		`PASSPORT [A-Z]{3} +PROCESSED +PASSED +retrieved +3 +4`,
		`ID_CARD [A-Z]{3} +PROCESSED +PASSED +retrieved +4 +2`,
		`PASSPORT [A-Z]{3} +PROCESSED +PASSED +retrieved +3 +3`,
		`DRIVING_LICENSE [A-Z]{3} +PROCESSED +PASSED +retrieved +2 +3`,
		`ID_CARD [A-Z]{3} +PROCESSED +PASSED +retrieved +4 +1`,
		`ID_CARD [A-Z]{3} +PROCESSED +PASSED +partial +3 +10`,
		`- +PROCESSED +- +failed +0 +10`,
	}
	if len(rows) != len(want) {
		t.Fatalf("%d rows instead of %d:\n%s", len(rows), len(want), got.Stdout)
	}
	for i, pattern := range want {
		if !regexp.MustCompile(`^[0-9a-f]{8}  ` + pattern + ` +\d+$`).MatchString(rows[i]) {
			t.Errorf("row %d is %q, want %s", i+1, rows[i], pattern)
		}
	}
	for _, line := range []string{
		"finished 20 of 20, images 58 of 58",
		"404 for the details, in three attempts",
		"partial, not_found: image answered 404 (1 of 4 images missing)",
		"failed, server_error: details answered 500",
		"  203.0.113.66  403, address_not_allowed: a forged TOKEN_EXPIRED for " + rows[0][:8] + ",",
	} {
		if !strings.Contains(got.Stdout, line) {
			t.Errorf("%q is missing in:\n%s", line, got.Stdout)
		}
	}
	for line := range strings.Lines(got.Stdout) {
		if len(line) > 120 {
			t.Errorf("a line of %d characters: %q", len(line)-1, line)
		}
	}
	if diff := cmp.Diff(before, demoLeftovers(t)); diff != "" {
		t.Errorf("files left behind (-before +after):\n%s", diff)
	}
}

// demoTable returns the rows between the heads of the table and what follows it.
func demoTable(out string) []string {
	_, after, _ := strings.Cut(out, "\nWORKFLOW  ")
	_, after, _ = strings.Cut(after, "\n")
	table, _, _ := strings.Cut(after, "\nWORKFLOW is ")
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

// shortDemo is a demo of a few journeys in the database of dsn.
func shortDemo(dsn string, out io.Writer, journeys ...demoJourney) *demo {
	return &demo{environ: []string{"DATABASE_URL=" + dsn}, out: out, journeys: journeys, once: true, seed: 7, timeout: 5 * time.Minute}
}

// TestDemoDatabaseURL: with DATABASE_URL set, that database is migrated and
// filled; rows of an earlier run with the same ids do not pass for this run's.
func TestDemoDatabaseURL(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dsn := storetest.NewDatabase(t)
	journeys := []demoJourney{
		{kind: "passed-id-card"},
		{kind: "session-expired"},
		{kind: "passed-passport", faults: []string{"details:404:1"}, note: "404, once"},
	}
	var first, second bytes.Buffer
	if err := shortDemo(dsn, &first, journeys...).run(t.Context()); err != nil {
		t.Fatalf("first run: %v\n%s", err, first.String())
	}
	late := shortDemo(dsn, io.Discard, journeys...)
	late.timeout = time.Nanosecond
	if err := late.run(t.Context()); !errors.Is(err, errNotArrived) || strings.Count(err.Error(), "was not received") != len(journeys) {
		t.Errorf("a run that ends at once: error %v, want that nothing was received", err)
	}
	began := time.Now()
	if err := shortDemo(dsn, &second, journeys...).run(t.Context()); err != nil {
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
	var callbacks, workflows, refused int
	err := storetest.Open(t, dsn).Pool().QueryRow(t.Context(), `SELECT (SELECT count(DISTINCT workflow_execution_id) FROM jumio.callbacks),
		(SELECT count(*) FROM jumio.workflow_executions), (SELECT count(*) FROM jumio.rejected_callbacks)`).Scan(&callbacks, &workflows, &refused)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{3, 3, 3}, []int{callbacks, workflows, refused}); diff != "" {
		t.Errorf("workflow executions in callbacks, in workflow_executions, refused callbacks (-want +got):\n%s", diff)
	}
}

// TestDemoNotArrived: exit code 1, and one line on stderr that names what did
// not arrive and where the log is.
func TestDemoNotArrived(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	got := callbackd(t, []string{"DATABASE_URL=" + storetest.NewDatabase(t)}, "demo", "--once", "--timeout", "1ns")
	_, log, _ := strings.Cut(strings.TrimSuffix(got.Stderr, "\n"), "the log is ")
	if got.Code != 1 || strings.Count(got.Stderr, "\n") != 1 || strings.Count(got.Stderr, "was not received") != len(demoJourneys) {
		t.Errorf("exit code %d, stderr %q, want 1 and one line that names every journey", got.Code, got.Stderr)
	}
	if _, err := os.Stat(log); err != nil {
		t.Errorf("the log that stderr names: %v", err)
	}

	// One that hangs is named, and one that arrives is not.
	d := shortDemo(storetest.NewDatabase(t), io.Discard, demoJourney{kind: "passed-passport"}, demoJourney{kind: "passed-passport", faults: []string{"details:hang"}})
	d.timeout = 5 * time.Second
	err := d.run(t.Context())
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
		journey demoJourney
		want    string
	}{
		"in the end":               {false, "Ctrl-C ends it; the rows stay in the database.", demoJourney{kind: "passed-passport"}, ""},
		"on the way":               {false, "received 1 of 1", demoJourney{kind: "passed-passport", faults: []string{"details:hang"}}, ""},
		"during the start":         {false, "is migrated", demoJourney{kind: "passed-passport"}, ""},
		"on the way, --once":       {true, "received 1 of 1", demoJourney{kind: "passed-passport", faults: []string{"details:hang"}}, "interrupted before all journeys had arrived"},
		"during the start, --once": {true, "is migrated", demoJourney{kind: "passed-passport"}, "interrupted before all journeys had arrived"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			out := &cancelAt{text: test.text, cancel: cancel}
			d := shortDemo(dsn, out, test.journey)
			d.once, d.seed = test.once, 0
			err := d.run(ctx)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("error %v", err)
			case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want)):
				t.Errorf("error %v, want %s", err, test.want)
			}
			if !strings.HasSuffix(out.String(), "\nstopping\n") {
				t.Errorf("output %q does not end with the stop", out.String())
			}
			if name == "in the end" && !strings.Contains(out.String(), `psql "$DATABASE_URL"`) {
				t.Errorf("no psql line in %q", out.String())
			}
		})
	}
}

// TestDemoServiceEnds: the demo does not go on without callbackd.
func TestDemoServiceEnds(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	d := shortDemo(storetest.NewDatabase(t), nil, demoJourney{kind: "passed-passport"})
	d.once = false
	out := &cancelAt{text: "Ctrl-C", cancel: func() { _ = d.service.CallbackListener().Close() }}
	d.out = out
	if err := d.run(t.Context()); err == nil || strings.Count(err.Error(), "serve on the callback listener") != 1 {
		t.Errorf("error %v, want that of the listener, once", err)
	}
}

// TestDemoProblems: whatever is not as expected is named.
func TestDemoProblems(t *testing.T) {
	image := sandbox.Image{CredentialID: "c", Classifier: "FRONT", SHA256: "ab"}
	good := func() *demoReport {
		return &demoReport{
			expected: []sandbox.Entry{{WorkflowExecutionID: "11111111-1", Kind: "passed-passport", Expected: sandbox.Expected{State: "retrieved", Images: []sandbox.Image{image}}}},
			rows:     []demoRow{{ID: "11111111-1", State: "retrieved", Images: []string{"c FRONT ab"}}},
			forged:   forgery{status: 403},
			refused:  demoRefused{Address: demoForger, Reason: "address_not_allowed"},
		}
	}
	for name, test := range map[string]struct {
		spoil func(*demoReport)
		want  []string
	}{
		"as expected":       {func(*demoReport) {}, nil},
		"not received":      {func(r *demoReport) { r.rows = nil }, []string{"11111111 was not received"}},
		"other state":       {func(r *demoReport) { r.rows[0].State = "failed" }, []string{"11111111 (passed-passport) is failed instead of retrieved"}},
		"image missing":     {func(r *demoReport) { r.rows[0].Images = nil }, []string{"11111111 (passed-passport) has other images than the stand-in served"}},
		"image spoilt":      {func(r *demoReport) { r.rows[0].Images[0] = "c FRONT cd" }, []string{"11111111 (passed-passport) has other images than the stand-in served"}},
		"forgery accepted":  {func(r *demoReport) { r.forged.status = 200 }, []string{"the forged callback got 200"}},
		"refusal not kept":  {func(r *demoReport) { r.refused = demoRefused{} }, []string{"the forged callback got 403, kept as from \"\""}},
		"refused as Jumio?": {func(r *demoReport) { r.refused.Address = demoJumioAddress }, []string{"the forged callback got 403, kept as from \"34.202.241.227\""}},
	} {
		t.Run(name, func(t *testing.T) {
			r := good()
			test.spoil(r)
			if diff := cmp.Diff(test.want, r.problems()); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// TestDemoShortIDs are unambiguous.
func TestDemoShortIDs(t *testing.T) {
	r := &demoReport{expected: []sandbox.Entry{{WorkflowExecutionID: "11111111-2222"}, {WorkflowExecutionID: "11111111-3333"}, {WorkflowExecutionID: "21111111-2222"}}}
	for id, want := range map[string]string{"11111111-2222": "11111111-2", "11111111-3333": "11111111-3", "21111111-2222": "21111111"} {
		if got := r.short(id); got != want {
			t.Errorf("short(%s) = %s, want %s", id, got, want)
		}
	}
}

// TestDemoProgress: bars redrawn in place on a terminal; elsewhere a line a
// second at most, and one at the end.
func TestDemoProgress(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	show := func(live bool) string {
		var out bytes.Buffer
		p := newDemoProgress(&out, demoCounts{received: 4, finished: 4, images: 8})
		if p.live {
			t.Error("a buffer is taken for a terminal")
		}
		p.live = live
		p.show(demoCounts{received: 1}, false, at)
		p.show(demoCounts{received: 2}, false, at.Add(999*time.Millisecond))
		p.show(demoCounts{received: 2, finished: 1}, false, at.Add(time.Second))
		p.show(demoCounts{received: 2, finished: 1}, false, at.Add(3*time.Second))
		p.show(demoCounts{4, 4, 8}, true, at.Add(3*time.Second))
		return out.String()
	}
	plain := "  received 1 of 4, finished 0 of 4, images 0 of 8\n" +
		"  received 2 of 4, finished 1 of 4, images 0 of 8\n" +
		"  received 4 of 4, finished 4 of 4, images 8 of 8\n"
	if diff := cmp.Diff(plain, show(false)); diff != "" {
		t.Errorf("plain (-want +got):\n%s", diff)
	}
	live := show(true)
	first, rest, _ := strings.Cut(live, "\x1b[3A")
	bar := func(full int) string { return "[" + strings.Repeat("#", full) + strings.Repeat(".", 40-full) + "]" }
	if want := "\r\x1b[K  received  " + bar(10) + " 1 of 4\n\r\x1b[K  finished  " + bar(0) + " 0 of 4\n\r\x1b[K  images    " + bar(0) + " 0 of 8\n"; first != want {
		t.Errorf("first drawing %q, want %q", first, want)
	}
	if strings.Count(rest, "\x1b[3A") != 3 || strings.Count(rest, "\n") != 4*3 || !strings.HasSuffix(rest, bar(40)+" 8 of 8\n") {
		t.Errorf("further drawings %q", rest)
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
