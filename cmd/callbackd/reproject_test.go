package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/store/storetest"
)

// TestReproject: what the typed tables say is computed anew for those who are named, or
// for all, or for all since a time.
func TestReproject(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	storetest.SeedDetails(t, s, "older", `{"workflow":{"id":"older"},"decision":{"type":"PASSED"}}`)
	storetest.SeedDetails(t, s, "newer", `{"workflow":{"id":"newer"},"decision":{"type":"PASSED"},"createdAt":"yesterday"}`)
	for _, sql := range []string{
		`UPDATE callbackd.workflow_executions SET details_retrieved_at = '2026-11-01T12:00:00Z' WHERE workflow_execution_id = 'older'`,
		`UPDATE callbackd.workflow_executions SET details_retrieved_at = '2026-11-02T12:00:00Z' WHERE workflow_execution_id = 'newer'`,
	} {
		storetest.Query(t, s, sql)
	}
	const newer = "read 1\nunreadable createdAt 1\n"
	for name, test := range map[string]struct {
		args         []string
		stdout, read string
	}{
		"all":          {nil, "read 2\nunreadable createdAt 1\n", "newer older"},
		"one":          {[]string{"newer"}, newer, "newer"},
		"two":          {[]string{"newer", "older"}, "read 2\nunreadable createdAt 1\n", "newer older"},
		"since a time": {[]string{"--since", "2026-11-02T12:00:00Z"}, newer, "newer"},
		"another zone": {[]string{"--since", "2026-11-02T13:00:00+01:00"}, newer, "newer"},
		"none since":   {[]string{"--since", "2026-11-02T12:00:01Z"}, "read 0\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			storetest.Query(t, s, `UPDATE callbackd.workflow_executions SET jumio_decision_type = 'what an older version read'`)
			got := callbackd(t, []string{"DATABASE_URL=" + dsn}, append([]string{"reproject"}, test.args...)...)
			if got.Code != 0 || got.Stdout != test.stdout {
				t.Errorf("got %+v, want exit code 0 and %q", got, test.stdout)
			}
			n := len(strings.Fields(test.read))
			if end := fmt.Sprintf("(%d/%d, ", n, n); n > 0 && (!strings.Contains(got.Stderr, end) || !strings.HasSuffix(got.Stderr, "\n")) {
				t.Errorf("stderr %q, want the progress until %q, and the end of the line", got.Stderr, end)
			}
			read := storetest.Scalar[string](t, s, `SELECT coalesce(string_agg(workflow_execution_id, ' ' ORDER BY workflow_execution_id), '')
				FROM jumio.workflow_executions WHERE decision_type = 'PASSED'`)
			if diff := cmp.Diff(test.read, read); diff != "" {
				t.Errorf("read anew: %s", diff)
			}
		})
	}
}

// TestReprojectUnknown: if there are no details of one id, none is read.
func TestReprojectUnknown(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	storetest.SeedDetails(t, s, "known", `{"workflow":{"id":"known"},"decision":{"type":"PASSED"}}`)
	storetest.Query(t, s, `UPDATE callbackd.workflow_executions SET jumio_decision_type = 'what an older version read'`)
	for ids, want := range map[string]string{
		"unknown":       "there are details of 0 of the 1: not found\n",
		"known unknown": "there are details of 1 of the 2: not found\n",
	} {
		got := callbackd(t, []string{"DATABASE_URL=" + dsn}, append([]string{"reproject"}, strings.Fields(ids)...)...)
		if got.Code != 1 || got.Stdout != "" || !strings.HasSuffix(got.Stderr, want) || strings.Count(got.Stderr, "\n") != 1 {
			t.Errorf("reproject %s: got %+v, want exit code 1 and one line that ends with %q", ids, got, want)
		}
	}
	if got := storetest.Scalar[string](t, s, `SELECT decision_type FROM jumio.workflow_executions`); got == "PASSED" {
		t.Error("the known one was read anew")
	}
}
