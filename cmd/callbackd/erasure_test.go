package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/uuid"

	"callbackd/internal/store/storetest"
)

func TestErasureCommands(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	storetest.SeedDetails(t, s, "execution-1", `{"account":{"id":"account-1"},"workflow":{"id":"execution-1","userReference":"reference-1"}}`)
	environ := []string{"DATABASE_URL=" + dsn, "CALLBACKD_ERASURE_KEY=a key of this test"}
	do := func(environ []string, args ...string) (code int, stdout, stderr string) {
		var out, err bytes.Buffer
		code = run(t.Context(), append([]string{"erasure"}, args...), environ, &out, &err)
		return code, out.String(), err.String()
	}
	for _, tc := range []struct {
		code int
		says string
		args string
	}{
		{exitUsage, "name one of", "order --reason x"},
		{exitUsage, "name one of", "order --reason x --account-id a --user-reference b"},
		{exitUsage, "--reason", "order --account-id account-1"},
		{exitUsage, "not an id", "order --reason x --account-id a/b"},
		{exitFailure, "nothing is known", "order --reason x --account-id nobody"},
		{exitFailure, "nothing is known", "order --dry-run --account-id nobody"},
		{exitUsage, "not the id of an order", "show x"},
		{exitFailure, "there is no order", "show " + uuid.NewString()},
		{exitFailure, "not found", "hold nobody --reason x"},
		{exitFailure, "not found", "release execution-1 --reason x"},
	} {
		code, _, stderr := do(environ, strings.Fields(tc.args)...)
		if code != tc.code || !strings.Contains(stderr, tc.says) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%s: %d, %q; want %d and %q in one line", tc.args, code, stderr, tc.code, tc.says)
		}
	}
	if code, _, stderr := do(environ[:1], "order", "--account-id", "account-1", "--reason", "x"); code != exitFailure || !strings.Contains(stderr, "CALLBACKD_ERASURE_KEY") {
		t.Errorf("without a key: %d, %q", code, stderr)
	}
	if code, stdout, _ := do(environ, "order", "--account-id", "account-1", "--dry-run"); code != exitOK || !strings.Contains(stdout, "details") {
		t.Errorf("--dry-run: %d, %q", code, stdout)
	}
	code, stdout, stderr := do(environ, "order", "--user-reference", "reference-1", "--reason", "x")
	id := strings.TrimSpace(stdout)
	if code != exitOK || uuid.Validate(id) != nil {
		t.Fatalf("order: %d, %q, %q", code, stdout, stderr)
	}
	if code, _, stderr := do([]string{environ[0], "CALLBACKD_ERASURE_KEY=another key of this test"}, "order", "--account-id", "account-1", "--reason", "x"); code != exitFailure || !strings.Contains(stderr, "CALLBACKD_ERASURE_KEY") {
		t.Errorf("another key: %d, %q", code, stderr)
	}
	if code, _, stderr := do(environ, "order", "--user-reference", "reference-1", "--reason", "x"); code != exitFailure || !strings.Contains(stderr, "erasing it already") {
		t.Errorf("a second order: %d, %q", code, stderr)
	}
	var receipt map[string]any
	if code, stdout, _ := do(environ, "show", id, "--json"); code != exitOK || json.Unmarshal([]byte(stdout), &receipt) != nil || receipt["state"] != "ordered" || receipt["subject_kind"] != "user_reference" {
		t.Errorf("show --json: %d, %s", code, stdout)
	}
	for _, row := range storetest.Query(t, s, `SELECT attname::text FROM pg_attribute WHERE attrelid = 'jumio.erasures'::regclass AND attnum > 0`) {
		if _, there := receipt[row[0].(string)]; !there {
			t.Errorf("show --json lacks %s", row[0])
		}
	}
	if code, stdout, _ := do(environ, "show", id); code != exitOK || !strings.Contains(stdout, "ordered") {
		t.Errorf("show: %d, %s", code, stdout)
	}
	if code, stdout, _ := do(environ, "list"); code != exitOK || !strings.Contains(stdout, id) {
		t.Errorf("list: %d, %s", code, stdout)
	}
	if code, _, stderr := do(environ, "hold", "execution-1", "--reason", "x"); code != exitOK {
		t.Errorf("hold: %d, %s", code, stderr)
	}
	if code, _, stderr := do(environ, "release", "execution-1", "--reason", "x"); code != exitOK {
		t.Errorf("release: %d, %s", code, stderr)
	}
}
