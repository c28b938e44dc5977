package store_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/store"
	"callbackd/internal/store/storetest"
)

// Whatever a callback holds, bounding it makes it fit the table.
func TestBoundFitsTheTable(t *testing.T) {
	s := storetest.New(t)
	for i, text := range []string{strings.Repeat("\U0001F600", 3000), strings.Repeat("\xff", 3000), strings.Repeat("x\x00", 3000)} {
		c := newCallback(fmt.Sprint("w", i))
		c.WorkflowStatus, c.WorkflowHref, c.AccountHref, c.AccountID = text, text, text, text
		c.DefinitionKey, c.UserReference, c.ContentType = text, text, text
		mustInsert(t, s, c)
		short := newCallback(fmt.Sprint("s", i))
		short.WorkflowHref, short.AccountHref, short.UserReference = text[:4*100], text[:4*100], text[:4*60]
		mustInsert(t, s, short)
	}
}

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

// unchecked takes the constraints away, as for rows from before they were.
func unchecked(t *testing.T, s *store.Store) {
	t.Helper()
	query(t, s, storetest.Unchecked)
}

// insertRaw inserts a callback with these values instead of an ordinary one's.
func insertRaw(t *testing.T, s *store.Store, id uuid.UUID, workflow, account, href, received, sent string) {
	t.Helper()
	query(t, s, `INSERT INTO callbackd.callbacks (callback_id, received_at, callback_sent_at, content_type, workflow_execution_id, account_id, workflow_href, body)
		VALUES ($1, $2::text::timestamptz, $3::text::timestamptz, '', $4, $5, $6, '{}')`, id, received, sent, workflow, account, href)
}

// Rows from before the constraints are bounded as they are read.
func TestPromoteReadsOldRowsBounded(t *testing.T) {
	s := storetest.New(t)
	unchecked(t, s)
	id := uuid.Must(uuid.NewV7())
	insertRaw(t, s, id, "w", strings.Repeat("a", 6000), strings.Repeat("h", 1<<20), "infinity", "-infinity")
	var got store.Delivery
	n, err := s.Promote(t.Context(), store.Take{Limit: 10}, store.Promotion{
		Apply:   func(_ *store.WorkflowExecution, d *store.Delivery) []store.Event { got = *d; return nil },
		Enqueue: func(context.Context, pgx.Tx, []store.Retrieval) error { return nil },
	})
	if n != 1 || err != nil {
		t.Fatalf("%d promoted, %v", n, err)
	}
	if got.AccountID != "" || got.WorkflowHref != "" || !got.SentAt.IsZero() || time.Since(got.ReceivedAt).Abs() > time.Minute {
		t.Errorf("got %d characters of an account, %d of an href, sent %v, received %v", len(got.AccountID), len(got.WorkflowHref), got.SentAt, got.ReceivedAt)
	}
}

func TestDeadLetter(t *testing.T) {
	s := storetest.New(t)
	unchecked(t, s)
	bad, good := uuid.Must(uuid.NewV7()), newCallback("good")
	insertRaw(t, s, bad, strings.Repeat("b", 9000), "a", "h", "infinity", "2024-01-01T00:00:00Z")
	mustInsert(t, s, good)
	p := store.Promotion{
		Apply:   func(*store.WorkflowExecution, *store.Delivery) []store.Event { return nil },
		Enqueue: func(context.Context, pgx.Tx, []store.Retrieval) error { return nil },
	}
	_, cause := s.Promote(t.Context(), store.Take{Limit: 10}, p)
	if !store.OfBatch(cause) || !store.BadRow(cause) {
		t.Fatalf("a batch with a row at fault: %v", cause)
	}
	if n, err := s.Promote(t.Context(), store.Take{Limit: 10, Except: []uuid.UUID{bad}}, p); n != 1 || err != nil {
		t.Errorf("without that row: %d, %v", n, err)
	}
	_, cause = s.Promote(t.Context(), store.Take{Limit: 1, Only: []uuid.UUID{bad}}, p)
	for i, want := range []string{"not_storable: SQLSTATE 23514", ""} {
		if reason, err := s.DeadLetter(t.Context(), bad, cause); reason != want || err != nil {
			t.Errorf("call %d: %q, %v, want %q", i+1, reason, err, want)
		}
	}
	check := func(step string, replayed bool, inbox int64) {
		t.Helper()
		got := query(t, s, `SELECT rejected_id::text, reason, replayed_at IS NOT NULL, (SELECT count(*) FROM callbackd.inbox), (SELECT count(*) FROM jumio.callbacks)
			FROM jumio.rejected_callbacks`)
		if d := cmp.Diff([][]any{{bad.String(), "not_storable: SQLSTATE 23514", replayed, inbox, int64(2)}}, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", step, d)
		}
	}
	check("dead letter", false, 0)
	if err := s.ReplayDeadLetter(t.Context(), bad); err != nil {
		t.Fatal(err)
	}
	check("replayed", true, 1)
	if err := s.ReplayDeadLetter(t.Context(), bad); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("replayed twice: %v", err)
	}
	if _, err := s.DeadLetter(t.Context(), bad, cause); err != nil {
		t.Fatal(err)
	}
	check("dead letter again", false, 0)
}

// However many workflow executions name one account, their promotion stays quick.
func TestPromoteManyOfOneAccount(t *testing.T) {
	s := storetest.New(t)
	const before, batch = 100_000, 2000
	query(t, s, `INSERT INTO callbackd.workflow_executions (workflow_execution_id, account_id, retrieval_state)
		SELECT 'before' || n, 'a', 'pending' FROM generate_series(1, $1::int) AS n`, before)
	query(t, s, `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, account_id, body)
		SELECT gen_random_uuid(), now(), '', 'w' || n, 'a', '' FROM generate_series(1, $1::int) AS n`, batch)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // it takes a quarter of a second
	defer cancel()
	n, err := s.Promote(ctx, store.Take{Limit: batch}, store.Promotion{
		Apply: func(w *store.WorkflowExecution, d *store.Delivery) []store.Event {
			w.AccountID, w.RetrievalState, w.RetrievalGeneration = d.AccountID, store.Pending, 1
			return nil
		},
		Enqueue: func(context.Context, pgx.Tx, []store.Retrieval) error { return nil },
	})
	if n != batch || err != nil {
		t.Errorf("%d promoted, %v", n, err)
	}
}

// A retrieval that gets nothing goes back to what an earlier one has got.
func TestResultStays(t *testing.T) {
	failed := store.Outcome{State: store.Failed, Error: "not_found: details answered 404", Events: []store.Event{{Type: store.EventRetrievalFailed, WorkflowExecutionID: "w"}}}
	for _, earlier := range []store.RetrievalState{store.Retrieved, store.Partial, store.Failed} {
		for _, outcome := range []store.RetrievalState{store.Failed, store.Awaiting} {
			t.Run(fmt.Sprint(earlier, " then ", outcome), func(t *testing.T) {
				s := storetest.New(t)
				finish(t, s, claim(t, s, "w"), store.Outcome{State: earlier, Details: []byte(`{}`)})
				l := &store.Lease{Retrieval: store.Retrieval{WorkflowExecutionID: "w"}, Token: uuid.New()}
				err := s.Refetch(t.Context(), []string{"w"}, func(_ context.Context, _ pgx.Tx, r []store.Retrieval) error {
					l.Generation = r[0].Generation
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				c, err := s.ClaimRetrieval(t.Context(), l, time.Minute)
				if err != nil {
					t.Fatal(err)
				}
				want, events := earlier, int64(0)
				if earlier == store.Failed {
					want, events = outcome, 1
				}
				if c.HasResult != (earlier != store.Failed) {
					t.Errorf("HasResult is %v", c.HasResult)
				}
				o := failed
				o.State = outcome
				state, err := s.FinishAttempt(t.Context(), l, o, nil)
				if state != want || err != nil {
					t.Errorf("the state is %q, want %q (%v)", state, want, err)
				}
				got := query(t, s, `SELECT retrieval_state, retrieval_error, (SELECT count(*) FROM jumio.events) FROM jumio.workflow_executions`)
				if d := cmp.Diff([][]any{{string(want), o.Error, events}}, got); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
			})
		}
	}
}

func TestIdentityOfTheDetails(t *testing.T) {
	s := storetest.New(t)
	l := claim(t, s, "w")
	query(t, s, `UPDATE callbackd.workflow_executions SET account_id = 'forged', user_reference = 'carol', definition_key = '9'`)
	finish(t, s, l, store.Outcome{
		State: store.Retrieved, Details: []byte(`{"account":{"id":"account"},"workflow":{"userReference":"mallory"}}`),
		Identity: store.Identity{AccountID: "account", UserReference: "mallory", DataCenter: "emea-1"},
	})
	got := query(t, s, `SELECT w.account_id, w.user_reference, w.definition_key, w.data_center, w.details_retrieved_at IS NOT NULL FROM callbackd.workflow_executions AS w`)
	if d := cmp.Diff([][]any{{"account", "mallory", "9", "emea-1", true}}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	// A row from before may still say otherwise: the view goes by the details.
	query(t, s, `UPDATE callbackd.workflow_executions SET account_id = 'forged', user_reference = 'carol'`)
	got = query(t, s, `SELECT account_id, user_reference FROM jumio.workflow_executions`)
	if d := cmp.Diff([][]any{{"account", "mallory"}}, got); d != "" {
		t.Errorf("the view (-want +got):\n%s", d)
	}
}

func TestAddresses(t *testing.T) {
	s := storetest.New(t)
	named := func(workflow, account string) {
		t.Helper()
		c := newCallback(workflow)
		c.AccountID = account
		mustInsert(t, s, c)
	}
	check := func(want int, wantMore bool) {
		t.Helper()
		if list, more, err := s.Addresses(t.Context(), "w"); err != nil || len(list) != want || more != wantMore {
			t.Errorf("got %+v, more: %v, %v, want %d, %v", list, more, err, want, wantMore)
		}
	}
	for _, account := range []string{"a1", "a1", "a2", ""} {
		named("w", account)
	}
	named("other", "a3")
	check(3, false)
	query(t, s, `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, account_id, body)
		SELECT gen_random_uuid(), now(), '', 'w', 'a1', '' FROM generate_series(1, 1000)`)
	check(3, true)
	for i := range 10 {
		named("w", fmt.Sprint("b", i))
	}
	query(t, s, `DELETE FROM callbackd.callbacks WHERE account_id = 'a1'`)
	check(8, true)
}

func TestStartDue(t *testing.T) {
	s := storetest.New(t)
	query(t, s, `INSERT INTO callbackd.workflow_executions (workflow_execution_id, retrieval_state, retrieval_due_at, lease_until) VALUES
		('due', 'retrieved', now() - interval '1 second', NULL), ('later', 'retrieved', now() + interval '1 hour', NULL),
		('running', 'pending', now() - interval '1 second', now() + interval '1 minute'), ('not', 'failed', NULL, NULL)`)
	var begun []store.Retrieval
	n, err := s.StartDue(t.Context(), time.Hour, func(_ context.Context, _ pgx.Tx, r []store.Retrieval) error { begun = r; return nil })
	if n != 1 || err != nil || len(begun) != 1 || begun[0] != (store.Retrieval{WorkflowExecutionID: "due", Generation: 1}) {
		t.Errorf("%d begun, %+v, %v", n, begun, err)
	}
	got := query(t, s, `SELECT retrieval_state, result_state, retrieval_due_at, retrieval_paced_at > now() + interval '59 minutes'
		FROM callbackd.workflow_executions WHERE workflow_execution_id = 'due'`)
	if d := cmp.Diff([][]any{{"pending", "retrieved", nil, true}}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestRequeueLost(t *testing.T) {
	s := storetest.New(t)
	query(t, s, `INSERT INTO callbackd.workflow_executions (workflow_execution_id, retrieval_state, retrieval_generation, lease_until) VALUES
		('lost', 'pending', 2, NULL), ('canceled', 'pending', 1, NULL), ('queued', 'pending', 1, NULL),
		('running', 'pending', 1, now() + interval '1 minute'), ('done', 'retrieved', 1, NULL)`)
	query(t, s, `INSERT INTO callbackd.river_job (kind, max_attempts, args, state, finalized_at)
		SELECT 'retrieval', 25, jsonb_build_object('workflow_execution_id', id, 'generation', generation), state::callbackd.river_job_state, CASE WHEN state = 'cancelled' THEN now() END
		FROM (VALUES ('lost', 1, 'available'), ('canceled', 1, 'cancelled'), ('queued', 1, 'retryable')) AS v (id, generation, state)`)
	var found []store.Retrieval
	n, err := s.RequeueLost(t.Context(), func(_ context.Context, _ pgx.Tx, r []store.Retrieval) error { found = r; return nil })
	want := []store.Retrieval{{WorkflowExecutionID: "canceled", Generation: 1}, {WorkflowExecutionID: "lost", Generation: 2}}
	if d := cmp.Diff(want, found); n != 2 || err != nil || d != "" {
		t.Errorf("%d found, %v (-want +got):\n%s", n, err, d)
	}
}

// Neither lesser role can take the lock that orders the events.
func TestEventsLockIsTheOwners(t *testing.T) {
	dsn := storetest.NewMigrated(t)
	owner := storetest.Open(t, dsn)
	for _, role := range []string{"jumio_reader", "callbackd_receiver"} {
		conn, err := pgx.Connect(t.Context(), storetest.AsMember(t, dsn, role))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(context.Background()) }()
		for _, sql := range []string{
			`SELECT pg_advisory_lock_shared(1667329635, 1702257011)`, // what the version before used
			`LOCK TABLE callbackd.event_order IN ACCESS SHARE MODE`,
			`LOCK TABLE callbackd.allowlist_addresses IN ACCESS EXCLUSIVE MODE`,
			`LOCK TABLE callbackd.callbacks IN SHARE MODE`,
		} {
			_, err := conn.Exec(t.Context(), sql)
			if advisory := strings.Contains(sql, "advisory"); (err == nil) != advisory {
				t.Errorf("%s: %s: %v", role, sql, err)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	l := claim(t, owner, "w")
	o := store.Outcome{State: store.Failed, Events: []store.Event{{Type: store.EventRetrievalFailed, WorkflowExecutionID: "w"}}}
	if _, err := owner.FinishAttempt(ctx, l, o, nil); err != nil {
		t.Errorf("events while lesser roles hold what they can: %v", err)
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
	query(t, s, `INSERT INTO callbackd.workflow_executions (workflow_execution_id, account_id, status, definition_key, user_reference, workflow_href, account_href) VALUES
		('good', 'a', 'PROCESSED', '3', 'r', 'h', 'h'),
		('odd', 'no id', repeat('ä', 1000), repeat('ä', 1000), repeat('ä', 1000), repeat('ä', 2000), repeat('ä', 2000)),
		('no id', 'no id', 'PROCESSED', '3', 'r', 'h', 'h')`)
	query(t, s, `INSERT INTO callbackd.allowlist_addresses (host, address, last_seen, missing_since) VALUES
		('h', '192.0.2.1', now(), NULL), ('h', '192.0.2.2', 'infinity', NULL), ('h', '192.0.2.3', now(), '9999-01-01'), ('h', '192.0.2.0/24', now(), NULL)`)
	if err := m.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	query(t, s, `UPDATE callbackd.workflow_executions SET callback_count = 1`)
	got := query(t, s, `SELECT workflow_execution_id, account_id, length(status), length(definition_key), user_reference, workflow_href, account_href
		FROM callbackd.workflow_executions ORDER BY 1`)
	want := [][]any{{"good", "a", int32(9), int32(1), "r", "h", "h"}, {"odd", nil, int32(64), int32(64), nil, nil, nil}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if n := scalar[int64](t, s, `SELECT count(*) FROM callbackd.allowlist_addresses`); n != 1 {
		t.Errorf("%d addresses are left, want 1", n)
	}
}
