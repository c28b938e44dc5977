package results_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// promote takes callbacks of new workflow executions and makes those pending.
func promote(ctx context.Context, s *storetest.Store, take results.Take) (list []workflow.Delivery, err error) {
	err = s.InTx(ctx, "promote", func(tx *results.Tx) error {
		if list, _, err = tx.TakeInbox(ctx, take); err != nil {
			return err
		}
		var made []*workflow.Execution
		for _, d := range list {
			made = append(made, &workflow.Execution{ID: d.WorkflowExecutionID, RetrievalState: workflow.Pending, RetrievalReceivedAt: d.ReceivedAt})
		}
		return tx.InsertExecutions(ctx, made)
	})
	return list, err
}

// unchecked takes the constraints away, as for rows from before they were.
func unchecked(t *testing.T, s *storetest.Store) {
	t.Helper()
	storetest.Query(t, s, storetest.Unchecked)
}

// insertRaw inserts a callback with these values instead of an ordinary one's.
func insertRaw(t *testing.T, s *storetest.Store, id uuid.UUID, workflow, account, href, received, sent string) {
	t.Helper()
	storetest.Query(t, s, `INSERT INTO callbackd.callbacks (callback_id, received_at, callback_sent_at, content_type, workflow_execution_id, account_id, workflow_href, body)
		VALUES ($1, $2::text::timestamptz, $3::text::timestamptz, '', $4, $5, $6, '{}')`, id, received, sent, workflow, account, href)
}

// Rows from before the constraints are bounded as they are read.
func TestPromoteReadsOldRowsBounded(t *testing.T) {
	s := storetest.New(t)
	unchecked(t, s)
	id := uuid.Must(uuid.NewV7())
	insertRaw(t, s, id, "w", strings.Repeat("a", 6000), strings.Repeat("h", 1<<20), "infinity", "-infinity")
	list, err := promote(t.Context(), s, results.Take{Limit: 10})
	if len(list) != 1 || err != nil {
		t.Fatalf("%d promoted, %v", len(list), err)
	}
	got := list[0]
	if got.AccountID != "" || got.WorkflowHref != "" || !got.CallbackSentAt.IsZero() || time.Since(got.ReceivedAt).Abs() > time.Minute {
		t.Errorf("got %d characters of an account, %d of an href, sent %v, received %v", len(got.AccountID), len(got.WorkflowHref), got.CallbackSentAt, got.ReceivedAt)
	}
}

func TestDeadLetter(t *testing.T) {
	s := storetest.New(t)
	unchecked(t, s)
	bad, good := uuid.Must(uuid.NewV7()), storetest.Callback("good")
	insertRaw(t, s, bad, strings.Repeat("b", 9000), "a", "h", "infinity", "2024-01-01T00:00:00Z")
	storetest.Insert(t, s, good)
	_, cause := promote(t.Context(), s, results.Take{Limit: 10})
	if !store.OfBatch(cause) || !store.BadRow(cause) {
		t.Fatalf("a batch with a row at fault: %v", cause)
	}
	if list, err := promote(t.Context(), s, results.Take{Limit: 10, Except: []uuid.UUID{bad}}); len(list) != 1 || err != nil {
		t.Errorf("without that row: %d, %v", len(list), err)
	}
	_, cause = promote(t.Context(), s, results.Take{Limit: 1, Only: []uuid.UUID{bad}})
	for i, want := range []string{"not_storable: SQLSTATE 23514", ""} {
		if reason, err := s.DeadLetter(t.Context(), bad, cause); reason != want || err != nil {
			t.Errorf("call %d: %q, %v, want %q", i+1, reason, err, want)
		}
	}
	check := func(step string, replayed bool, inbox int64) {
		t.Helper()
		got := storetest.Query(t, s, `SELECT rejected_id::text, reason, replayed_at IS NOT NULL, (SELECT count(*) FROM callbackd.inbox), (SELECT count(*) FROM jumio.callbacks)
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

func TestIdentityOfTheDetails(t *testing.T) {
	s := storetest.New(t)
	l := storetest.Claim(t, s, "w")
	storetest.Query(t, s, `UPDATE callbackd.workflow_executions SET account_id = 'forged', user_reference = 'carol', definition_key = '9'`)
	o := storetest.Outcome(workflow.Retrieved, `{"account":{"id":"account"},"workflow":{"userReference":"mallory"}}`)
	o.Identity = &results.Identity{AccountID: "account", UserReference: "mallory", DataCenter: "emea-1"}
	storetest.Finish(t, s, l, o)
	got := storetest.Query(t, s, `SELECT w.account_id, w.user_reference, w.definition_key, w.data_center, w.details_retrieved_at IS NOT NULL FROM callbackd.workflow_executions AS w`)
	if d := cmp.Diff([][]any{{"account", "mallory", "9", "emea-1", true}}, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestAddresses(t *testing.T) {
	s := storetest.New(t)
	named := func(workflow, account string) {
		t.Helper()
		c := storetest.Callback(workflow)
		c.AccountID = account
		storetest.Insert(t, s, c)
	}
	check := func(want int, wantMore bool) {
		t.Helper()
		if list, more, err := s.Addresses(t.Context(), "w", 8); err != nil || len(list) != want || more != wantMore {
			t.Errorf("got %+v, more: %v, %v, want %d, %v", list, more, err, want, wantMore)
		}
	}
	for _, account := range []string{"a1", "a1", "a2", ""} {
		named("w", account)
	}
	named("other", "a3")
	check(3, false)
	storetest.Query(t, s, `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, account_id, body)
		SELECT gen_random_uuid(), now(), '', 'w', 'a1', '' FROM generate_series(1, 1000)`)
	check(3, true)
	for i := range 10 {
		named("w", fmt.Sprint("b", i))
	}
	storetest.Query(t, s, `DELETE FROM callbackd.callbacks WHERE account_id = 'a1'`)
	check(8, true)
}

func TestDueExecutions(t *testing.T) {
	s := storetest.New(t)
	storetest.Query(t, s, `INSERT INTO callbackd.workflow_executions (workflow_execution_id, retrieval_state, retrieval_due_at, lease_until) VALUES
		('due', 'retrieved', now() - interval '1 second', NULL), ('later', 'retrieved', now() + interval '1 hour', NULL),
		('running', 'pending', now() - interval '1 second', now() + interval '1 minute'), ('not', 'failed', NULL, NULL)`)
	err := s.InTx(t.Context(), "look", func(tx *results.Tx) error {
		due, err := tx.DueExecutions(t.Context())
		if d := cmp.Diff([]string{"due"}, ids(due)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLostExecutions(t *testing.T) {
	s := storetest.New(t)
	storetest.Query(t, s, `INSERT INTO callbackd.workflow_executions (workflow_execution_id, retrieval_state, retrieval_generation, lease_until) VALUES
		('lost', 'pending', 2, NULL), ('canceled', 'pending', 1, NULL), ('queued', 'pending', 1, NULL),
		('running', 'pending', 1, now() + interval '1 minute'), ('done', 'retrieved', 1, NULL)`)
	storetest.Query(t, s, `INSERT INTO callbackd.river_job (kind, max_attempts, args, state, finalized_at)
		SELECT 'retrieval', 25, jsonb_build_object('workflow_execution_id', id, 'generation', generation), state::callbackd.river_job_state, CASE WHEN state = 'cancelled' THEN now() END
		FROM (VALUES ('lost', 1, 'available'), ('canceled', 1, 'cancelled'), ('queued', 1, 'retryable')) AS v (id, generation, state)`)
	err := s.InTx(t.Context(), "look", func(tx *results.Tx) error {
		lost, err := tx.LostExecutions(t.Context(), "retrieval")
		if d := cmp.Diff([]string{"canceled", "lost"}, ids(lost)); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func ids(list []*workflow.Execution) []string {
	var ids []string
	for _, e := range list {
		ids = append(ids, e.ID)
	}
	return ids
}

// Every column of a workflow execution that promotion changes comes back as it was
// written.
func TestExecutionsKeepEveryColumn(t *testing.T) {
	s := storetest.New(t)
	at := time.Date(2021, 1, 21, 14, 55, 1, 917e6, time.UTC)
	want := &workflow.Execution{ID: "w"}
	fill(t, want, at)
	write := func(write func(*results.Tx) error) {
		t.Helper()
		if err := s.InTx(t.Context(), "write", write); err != nil {
			t.Fatal(err)
		}
	}
	check := func(step string) {
		t.Helper()
		write(func(tx *results.Tx) error {
			got, err := tx.LockExecutions(t.Context(), []string{"w"})
			want := *want
			// What attempts, expectations and erasures write.
			want.ExpectedAt, want.ErasedAt = time.Time{}, time.Time{}
			want.DetailsRetrievedAt, want.DataCenter, want.DecisionType, want.RetrievalChanged, want.LeaseUntil = time.Time{}, "", "", false, time.Time{}
			if d := cmp.Diff(map[string]*workflow.Execution{"w": &want}, got, cmpopts.EquateApproxTime(0)); d != "" {
				t.Errorf("%s (-want +got):\n%s", step, d)
			}
			return err
		})
	}
	write(func(tx *results.Tx) error { return tx.InsertExecutions(t.Context(), []*workflow.Execution{want}) })
	check("inserted")
	fill(t, want, at.Add(time.Hour))
	write(func(tx *results.Tx) error { return tx.UpdateExecutions(t.Context(), []*workflow.Execution{want}) })
	check("updated")
	err := s.InTx(t.Context(), "race", func(tx *results.Tx) error { return tx.InsertExecutions(t.Context(), []*workflow.Execution{want}) })
	if !errors.Is(err, results.ErrRaced) {
		t.Errorf("insert one that is there: %v, want ErrRaced", err)
	}
}

// fill gives each field another value than it has.
func fill(t *testing.T, e *workflow.Execution, at time.Time) {
	t.Helper()
	v := reflect.ValueOf(e).Elem()
	for i := range v.NumField() {
		f := v.Field(i)
		switch name := v.Type().Field(i).Name; {
		case name == "ID":
		case name == "RetrievalState", name == "ResultState":
			f.SetString(map[bool]string{true: "partial", false: "retrieved"}[f.String() == "retrieved"])
		case f.Type() == reflect.TypeFor[time.Time]():
			f.Set(reflect.ValueOf(at.Add(time.Duration(i) * time.Second)))
		case f.Kind() == reflect.String:
			f.SetString(fmt.Sprint(name, at.Unix()))
		case f.Kind() == reflect.Int, f.Kind() == reflect.Int64:
			f.SetInt(f.Int() + int64(i))
		case f.Kind() == reflect.Bool:
			f.SetBool(!f.Bool())
		case f.Kind() == reflect.Slice:
			f.SetBytes([]byte(fmt.Sprint("\x00", at.Unix())))
		default:
			t.Fatalf("a field %s of type %v", name, f.Type())
		}
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
	l := storetest.Claim(t, owner, "w")
	if err := owner.FinishAttempt(ctx, l, failed(), storetest.Complete); err != nil {
		t.Errorf("events while lesser roles hold what they can: %v", err)
	}
}
