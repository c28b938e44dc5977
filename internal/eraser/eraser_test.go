package eraser

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"

	"callbackd/internal/promoter"
	"callbackd/internal/queue"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("callbackd/internal/pgserver.(*Server).start.func1"))
}

// rig is a database with a promoter, and an eraser that a test has look.
type rig struct {
	*testing.T
	store    *storetest.Store
	promoter *promoter.Promoter
	eraser   *Eraser
	registry *prometheus.Registry
	mayFail  bool
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, store: storetest.New(t), registry: prometheus.NewRegistry()}
	q, err := queue.NewInserter(r.store.DB, workflow.Schedule{0})
	if err != nil {
		t.Fatal(err)
	}
	log := zaptest.NewLogger(t)
	r.promoter = promoter.New(promoter.Options{
		DB: r.store.DB, Queue: q, Log: log, UserReferenceKey: referenceKey,
		Metrics: promoter.NewMetrics(r.registry, prometheus.NewCounter(prometheus.CounterOpts{Name: "contradicting"})),
	})
	r.promoter.Start(t.Context())
	t.Cleanup(r.promoter.Stop)
	r.eraser = New(Options{DB: r.store.DB, Schedule: workflow.Schedule{0, 0}, UserReferenceKey: referenceKey, Log: r.failingLog(), Registerer: r.registry})
	return r
}

// failingLog ends the test at an error.
func (r *rig) failingLog() *zap.Logger {
	return zaptest.NewLogger(r, zaptest.WrapOptions(zap.Hooks(func(e zapcore.Entry) error {
		if e.Level >= zap.WarnLevel && !r.mayFail {
			r.Fatalf("logged: %s", e.Message)
		}
		return nil
	})))
}

const referenceKey = "the key of signed references"

// person is somebody with a verification that has everything.
type person struct{ account, execution, reference string }

// verify stores a verification with details and an image, as callbacks and a retrieval do.
func (r *rig) verify(p person) {
	r.Helper()
	c := storetest.Callback(p.execution)
	c.AccountID, c.UserReference = p.account, p.reference
	c.AccountHref = "https://retrieval.amer-1.jumio.ai/api/v1/accounts/" + p.account
	c.Body = fmt.Appendf(nil, `{"workflowExecution":{"id":"%s"},"account":{"id":"%s"},"userReference":"%s"}`, p.execution, p.account, p.reference)
	storetest.Insert(r, r.store, c)
	r.promoted()
	l := storetest.Claim(r, r.store, p.execution)
	storetest.Stage(r, r.store, l, "FRONT", "image of "+p.execution)
	o := storetest.Outcome(workflow.Retrieved, `{"account":{"id":"`+p.account+`"},"workflow":{"id":"`+p.execution+`","userReference":"`+p.reference+`"},
		"credentials":[{"id":"cred-`+p.execution+`","category":"ID","parts":[{"classifier":"FRONT"}]}],
		"capabilities":{"extraction":[{"id":"x","decision":{"type":"PASSED"},"data":{"firstName":"NAME-`+p.execution+`"}}]}}`)
	o.Images = 1
	storetest.Finish(r, r.store, l, o)
}

func (r *rig) promoted() {
	r.Helper()
	storetest.Eventually(r, "an empty inbox", func() bool {
		return storetest.Scalar[int64](r, r.store, `SELECT count(*) FROM callbackd.inbox`) == 0
	})
}

func (r *rig) order(kind, subject string) uuid.UUID {
	r.Helper()
	return uuid.UUID(storetest.Scalar[[16]byte](r, r.store, `SELECT jumio.request_erasure($1, $2, 'a test')`, kind, subject))
}

// look has the eraser carry out what is due, and screen, once.
func (r *rig) look() {
	r.Helper()
	r.eraser.orders(r.Context())
	r.eraser.screen(r.Context())
}

func (r *rig) state(order uuid.UUID) (state, errorText string) {
	r.Helper()
	row := storetest.Query(r, r.store, `SELECT state, coalesce(error, '') FROM jumio.erasures WHERE order_id = $1`, order)[0]
	return row[0].(string), row[1].(string)
}

// done carries out an order to its end.
func (r *rig) done(order uuid.UUID) {
	r.Helper()
	storetest.Eventually(r, "the order's end", func() bool {
		r.look()
		state, _ := r.state(order)
		return state == "done"
	})
}

func (r *rig) deleted(order uuid.UUID) map[string]any {
	r.Helper()
	return storetest.Scalar[map[string]any](r, r.store, `SELECT deleted FROM jumio.erasures WHERE order_id = $1`, order)
}

// found returns the tables that have a text in one of their columns, or in bytes.
func (r *rig) found(text string) (tables []string) {
	r.Helper()
	for _, row := range storetest.Query(r, r.store, `SELECT c.oid::regclass::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE n.nspname IN ('callbackd') AND c.relkind = 'r'`) {
		table := row[0].(string)
		n := storetest.Scalar[int64](r, r.store, `SELECT count(*) FROM `+table+` AS t WHERE position($1 in t::text) > 0 OR position($2 in t::text) > 0`,
			text, fmt.Sprintf("%x", text))
		if n > 0 {
			tables = append(tables, table)
		}
	}
	return tables
}

func (r *rig) noneOf(p person) {
	r.Helper()
	for _, mark := range []string{p.account, p.reference, "NAME-" + p.execution, "image of " + p.execution, "cred-" + p.execution} {
		if tables := r.found(mark); len(tables) > 0 {
			r.Errorf("%s is still in %v", mark, tables)
		}
	}
}

func (r *rig) allOf(p person) {
	r.Helper()
	for mark, least := range map[string]int{p.account: 4, p.reference: 4, "NAME-" + p.execution: 2, "image of " + p.execution: 1, "cred-" + p.execution: 2} {
		if tables := r.found(mark); len(tables) < least {
			r.Errorf("%s is only in %v", mark, tables)
		}
	}
}

var (
	alice = person{"account-alice", "execution-alice", "reference-alice"}
	bob   = person{"account-bob", "execution-bob", "reference-bob"}
)

func TestErase(t *testing.T) {
	for _, tc := range []struct{ kind, subject string }{
		{"account", alice.account}, {"user_reference", alice.reference}, {"workflow_execution", alice.execution},
	} {
		t.Run(tc.kind, func(t *testing.T) {
			r := newRig(t)
			r.verify(alice)
			r.verify(bob)
			r.allOf(alice)
			order := r.order(tc.kind, tc.subject)
			r.done(order)
			r.noneOf(alice)
			r.allOf(bob)
			want := map[string]any{
				"callbacks": 1., "events": 2., "images": 1., "details": 1., "credentials": 1., "capabilities": 1., "extracted_documents": 1., "river_job": 1.,
			}
			if got := r.deleted(order); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("deleted %v, want %v", got, want)
			}
			if got := storetest.Query(t, r.store, `SELECT type, account_id, user_reference FROM jumio.events WHERE workflow_execution_id = $1`, alice.execution); fmt.Sprint(got) != "[[erased <nil> <nil>]]" {
				t.Errorf("events: %v", got)
			}
			if got := storetest.Query(t, r.store, `SELECT stage FROM jumio.verifications WHERE workflow_execution_id = $1`, alice.execution); fmt.Sprint(got) != "[[erased]]" {
				t.Errorf("stage: %v", got)
			}
			if n := storetest.Scalar[int64](t, r.store, `SELECT count(*) FROM jumio.workflow_executions`); n != 1 {
				t.Errorf("jumio.workflow_executions shows %d, want Bob's", n)
			}
			r.checkErasedRow(alice.execution)
		})
	}
}

// Nothing but the id, when and by which order is left in the row.
func (r *rig) checkErasedRow(id string) {
	r.Helper()
	row := storetest.Scalar[map[string]any](r, r.store, `SELECT jsonb_strip_nulls(to_jsonb(w)) FROM callbackd.workflow_executions AS w WHERE workflow_execution_id = $1`, id)
	var left []string
	for column, value := range row {
		if value != nil && value != false && value != 0. {
			left = append(left, column)
		}
	}
	for _, column := range left {
		if !slices.Contains([]string{"workflow_execution_id", "erased_at", "erasure_order_id", "retrieval_state", "retrieval_generation"}, column) {
			r.Errorf("%s is left in the row: %v", column, row[column])
		}
	}
	if row["erased_at"] == nil || row["erasure_order_id"] == nil || row["retrieval_state"] != "not_required" {
		r.Errorf("the row of the erased: %v", row)
	}
}
