package fetcher

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"callbackd/internal/callback"
	"callbackd/internal/imagestore"
	"callbackd/internal/jumio"
	"callbackd/internal/promoter"
	"callbackd/internal/queue"
	"callbackd/internal/sandbox"
	"callbackd/internal/store/storetest"
	"callbackd/internal/tracing"
	"callbackd/internal/workflow"
)

func TestMain(m *testing.M) {
	// The tests' Postgres lives as long as the process.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("callbackd/internal/pgserver.(*Server).start.func1"))
}

// rig is a worker with a real Postgres and a Jumio stand-in, whose callbacks
// are stored without an HTTP edge of ours.
type rig struct {
	*testing.T
	sandbox  *sandbox.Sandbox
	store    *storetest.Store
	schedule workflow.Schedule
	tracer   *tracing.Tracer // nil for none
	budget   jumio.Budget

	imageStore imagestore.Store   // nil for the database
	sealer     *imagestore.Sealer // nil for no encryption
}

func newRig(t *testing.T, schedule workflow.Schedule, cfg sandbox.Config) *rig {
	t.Helper()
	r := &rig{T: t, store: storetest.New(t), schedule: schedule, budget: jumio.NewLocalBudget(10_000)}
	receiver := httptest.NewServer(http.HandlerFunc(r.receive))
	t.Cleanup(receiver.Close)
	cfg.CallbackURL, cfg.FastImages, cfg.Attempts = receiver.URL, true, len(schedule)
	s, err := sandbox.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close(context.Background()) })
	r.sandbox = s
	return r
}

func (r *rig) receive(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	var b struct {
		SentAt   time.Time `json:"callbackSentAt"`
		Workflow struct {
			ID, Href, Status string
		} `json:"workflowExecution"`
		Account struct{ ID, Href string }
	}
	if err := json.Unmarshal(body, &b); err != nil {
		r.Errorf("the sandbox's callback: %v", err)
	}
	err := r.store.InsertCallback(req.Context(), &callback.Callback{
		ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), Body: body, CallbackSentAt: b.SentAt,
		WorkflowExecutionID: b.Workflow.ID, WorkflowHref: b.Workflow.Href, WorkflowStatus: b.Workflow.Status,
		AccountID: b.Account.ID, AccountHref: b.Account.Href,
	})
	if err != nil {
		r.Errorf("store a callback: %v", err)
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

// start runs a worker until the test ends or it is stopped.
func (r *rig) start() *testWorker {
	r.Helper()
	log := zaptest.NewLogger(r)
	endpoint, _ := url.Parse(r.sandbox.URL())
	client, err := jumio.New(jumio.Config{
		Credentials: jumio.Credentials{ClientID: "sandbox", ClientSecret: "sandbox"}, UserAgent: "Test Worker/v1",
		TokenURL: endpoint, RetrievalURL: endpoint, Budget: r.budget, MaxImageBytes: 20 << 20, ProgressTimeout: 30 * time.Second,
		Tracer: r.tracer.API(),
	}, log, jumio.NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		r.Fatal(err)
	}
	w := r.newWorker(client, 4, log)
	if err := w.queue.Start(context.Background()); err != nil {
		r.Fatal(err)
	}
	w.promoter.Start(context.Background())
	w.Start(context.Background())
	r.Cleanup(func() {
		r.stop(w)
		client.Close()
	})
	return w
}

// testWorker is a worker as an instance has it.
type testWorker struct {
	*Fetcher
	queue    *queue.Queue
	promoter *promoter.Promoter
	stopped  bool
}

func (r *rig) newWorker(client *jumio.Client, workers int, log *zap.Logger) *testWorker {
	r.Helper()
	q, err := queue.New(r.store.DB, queue.Options{Schedule: r.schedule, Workers: workers, StopTimeout: 10 * time.Millisecond, Log: log})
	if err != nil {
		r.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	metrics := NewMetrics(reg, r.schedule)
	return &testWorker{
		Fetcher: New(Options{
			DB: r.store.DB, Queue: q, Jumio: client, Schedule: r.schedule, Log: log, Metrics: metrics, Tracer: r.tracer,
			ImageStore: r.imageStore, Sealer: r.sealer,
		}),
		queue: q,
		promoter: promoter.New(promoter.Options{
			DB: r.store.DB, Queue: q, Log: log, Metrics: promoter.NewMetrics(reg, metrics.Contradicting), Tracer: r.tracer,
		}),
	}
}

func (r *rig) stop(w *testWorker) {
	r.Helper()
	if w.stopped {
		return
	}
	w.stopped = true
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	w.promoter.Stop()
	w.Stop()
	if err := w.queue.Stop(ctx); err != nil {
		r.Errorf("stop: %v", err)
	}
}

// journey makes and sends a journey with faults in their text form.
func (r *rig) journey(kind string, faults ...string) *sandbox.Journey {
	r.Helper()
	j := r.unsent(kind, faults...)
	if err := r.sandbox.Send(r.Context(), j); err != nil {
		r.Fatal(err)
	}
	return j
}

// unsent makes a journey without sending its callbacks.
func (r *rig) unsent(kind string, faults ...string) *sandbox.Journey {
	r.Helper()
	var list []sandbox.Fault
	for _, text := range faults {
		f, err := sandbox.ParseFault(text)
		if err != nil {
			r.Fatal(err)
		}
		list = append(list, f)
	}
	j, err := r.sandbox.NewJourney(kind, sandbox.WithFaults(list...))
	if err != nil {
		r.Fatal(err)
	}
	return j
}

// awaitDetailsRequest waits until an attempt has asked for the journey's details.
func (r *rig) awaitDetailsRequest(j *sandbox.Journey) {
	r.Helper()
	storetest.Eventually(r, "Jumio is asked for the details", func() bool { return r.ledger(j).DetailsRequests.Requests > 0 })
}

// waitFor polls a condition of the database until it holds.
func (r *rig) waitFor(what, condition string, args ...any) {
	r.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for {
		var holds bool
		if err := r.store.Pool().QueryRow(r.Context(), "SELECT coalesce(("+condition+"), false)", args...).Scan(&holds); err != nil {
			r.Fatalf("%s: %v", what, err)
		}
		if holds {
			return
		}
		if time.Now().After(deadline) {
			r.Fatalf("%s: did not come about; workflow executions are %v", what, r.states())
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (r *rig) states() map[string]string {
	states := map[string]string{}
	rows, err := r.store.Pool().Query(context.Background(), `SELECT workflow_execution_id,
		concat_ws(' ', retrieval_state, retrieval_attempts, retrieval_error) FROM jumio.workflow_executions`)
	if err != nil {
		return states
	}
	defer rows.Close()
	for rows.Next() {
		var id, state string
		_ = rows.Scan(&id, &state)
		states[id] = state
	}
	return states
}

func (r *rig) settled(id string) {
	r.Helper()
	r.waitFor("the end of "+id, `SELECT retrieval_state NOT IN ('pending') FROM jumio.workflow_executions
		WHERE workflow_execution_id = $1 AND NOT EXISTS (SELECT FROM callbackd.inbox)`, id)
}

func value[T any](r *rig, sql string, args ...any) T {
	r.Helper()
	var v T
	if err := r.store.Pool().QueryRow(r.Context(), sql, args...).Scan(&v); err != nil {
		r.Fatalf("%s: %v", sql, err)
	}
	return v
}

// checkJourney compares what the database holds with what the sandbox served.
func (r *rig) checkJourney(j *sandbox.Journey) {
	r.Helper()
	want := r.sandbox.Expected(j)
	id := j.WorkflowExecutionID
	if got := value[string](r, `SELECT retrieval_state FROM jumio.workflow_executions WHERE workflow_execution_id = $1`, id); got != string(want.State) {
		r.Errorf("%s %s: retrieval_state %s, want %s (%v)", j.Kind, id, got, want.State, r.states()[id])
	}
	if want.State != workflow.Retrieved && want.State != workflow.Partial {
		return
	}
	if n := value[int](r, `SELECT count(*) FROM jumio.images WHERE workflow_execution_id = $1`, id); n != len(want.Images) {
		r.Errorf("%s %s: %d images, want %d", j.Kind, id, n, len(want.Images))
	}
	for _, img := range want.Images {
		var sum []byte
		var intact bool
		err := r.store.Pool().QueryRow(r.Context(), `SELECT sha256, sha256 = sha256(data) AND size_bytes = length(data) FROM jumio.images
			WHERE workflow_execution_id = $1 AND credential_id = $2 AND classifier = $3`, id, img.CredentialID, img.Classifier).Scan(&sum, &intact)
		if err != nil || hex.EncodeToString(sum) != img.SHA256 || !intact {
			r.Errorf("%s %s: image %s is not what was served: %v", j.Kind, id, img.Classifier, err)
		}
	}
}

func (r *rig) ledger(j *sandbox.Journey) sandbox.Entry {
	r.Helper()
	for _, e := range r.sandbox.Ledger().Journeys {
		if e.WorkflowExecutionID == j.WorkflowExecutionID {
			return e
		}
	}
	r.Fatal("the ledger does not know the journey")
	return sandbox.Entry{}
}
