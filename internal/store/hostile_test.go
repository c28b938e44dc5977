package store_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/store"
	"callbackd/internal/store/storetest"
)

// The tables hold whoever else writes to them to the same limits.
func TestConstraints(t *testing.T) {
	owner := storetest.New(t)
	for name, sql := range map[string]string{
		"a workflow execution id that cannot be indexed": `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, body) VALUES (gen_random_uuid(), now(), '', repeat('a', 9000), '')`,
		"a workflow execution id that is too long":       `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, body) VALUES (gen_random_uuid(), now(), '', repeat('a', 65), '')`,
		"a workflow execution id that is empty":          `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, body) VALUES (gen_random_uuid(), now(), '', '', '')`,
		"a workflow execution id with a line's end":      `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, body) VALUES (gen_random_uuid(), now(), '', E'a\n', '')`,
		"an account id that is none":                     `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, account_id, body) VALUES (gen_random_uuid(), now(), '', 'w', 'a b', '')`,
		"a long href":                                    `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, workflow_href, body) VALUES (gen_random_uuid(), now(), '', 'w', repeat('a', 1000000), '')`,
		"a network as the source":                        `INSERT INTO callbackd.callbacks (callback_id, received_at, source_ip, content_type, workflow_execution_id, body) VALUES (gen_random_uuid(), now(), '192.0.2.0/24', '', 'w', '')`,
		"a network as a rejected source":                 `INSERT INTO callbackd.rejected_callbacks (rejected_id, received_at, source_ip, reason, content_type, body) VALUES (gen_random_uuid(), now(), '2001:db8::/32', '', '', '')`,
		"an infinite time of arrival":                    `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, body) VALUES (gen_random_uuid(), 'infinity', '', 'w', '')`,
		"an infinite callbackSentAt":                     `INSERT INTO callbackd.callbacks (callback_id, received_at, callback_sent_at, content_type, workflow_execution_id, body) VALUES (gen_random_uuid(), now(), '-infinity', '', 'w', '')`,
		"a rejected callback at no time":                 `INSERT INTO callbackd.rejected_callbacks (rejected_id, received_at, reason, content_type, body) VALUES (gen_random_uuid(), 'infinity', '', '', '')`,
		"a large rejected body":                          `INSERT INTO callbackd.rejected_callbacks (rejected_id, received_at, reason, content_type, body) VALUES (gen_random_uuid(), now(), '', '', convert_to(repeat('a', 65537), 'UTF8'))`,
		"an address seen for ever":                       `INSERT INTO callbackd.allowlist_addresses (host, address, last_seen) VALUES ('h', '192.0.2.1', 'infinity')`,
		"an address missing for ever":                    `INSERT INTO callbackd.allowlist_addresses (host, address, last_seen, missing_since) VALUES ('h', '192.0.2.1', now(), 'infinity')`,
		"a workflow execution of no account":             `INSERT INTO callbackd.workflow_executions (workflow_execution_id, account_id) VALUES ('w', repeat('a', 65))`,
	} {
		_, err := owner.Pool().Exec(t.Context(), sql)
		if err == nil || !strings.Contains(err.Error(), "23514") {
			t.Errorf("%s: %v, want SQLSTATE 23514", name, err)
		}
	}
}

// Rows from before the constraints are there after the migration, bounded, and can
// be updated.
func TestMigrationBoundsOldRows(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	m, err := store.NewMigrator(t.Context(), store.MigratorOptions{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	const before = 4 // the last version without the constraints
	if err := m.Down(t.Context(), store.RequiredVersion-before); err != nil {
		t.Fatal(err)
	}
	s := storetest.Open(t, dsn)
	storetest.Query(t, s, `INSERT INTO callbackd.workflow_executions (workflow_execution_id, account_id, status, definition_key, user_reference, workflow_href, account_href) VALUES
		('good', 'a', 'PROCESSED', '3', 'r', 'h', 'h'),
		('odd', 'no id', repeat('ä', 1000), repeat('ä', 1000), repeat('ä', 1000), repeat('ä', 2000), repeat('ä', 2000)),
		('no id', 'no id', 'PROCESSED', '3', 'r', 'h', 'h')`)
	storetest.Query(t, s, `INSERT INTO callbackd.allowlist_addresses (host, address, last_seen, missing_since) VALUES
		('h', '192.0.2.1', now(), NULL), ('h', '192.0.2.2', 'infinity', NULL), ('h', '192.0.2.3', now(), '9999-01-01'), ('h', '192.0.2.0/24', now(), NULL)`)
	if err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	storetest.Query(t, s, `UPDATE callbackd.workflow_executions SET callback_count = 1`)
	got := storetest.Query(t, s, `SELECT workflow_execution_id, account_id, length(status), length(definition_key), user_reference, workflow_href, account_href
		FROM callbackd.workflow_executions ORDER BY 1`)
	want := [][]any{{"good", "a", int32(9), int32(1), "r", "h", "h"}, {"odd", nil, int32(64), int32(64), nil, nil, nil}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if n := storetest.Scalar[int64](t, s, `SELECT count(*) FROM callbackd.allowlist_addresses`); n != 1 {
		t.Errorf("%d addresses are left, want 1", n)
	}
}
