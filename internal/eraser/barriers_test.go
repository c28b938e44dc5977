package eraser

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"

	"callbackd/internal/callback"
	"callbackd/internal/fetcher"
	"callbackd/internal/jumio"
	"callbackd/internal/sandbox"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
	"callbackd/internal/tombstone"
	"callbackd/internal/workflow"
)

// What comes later of an erased account is deleted, by whatever way it comes.
func TestNothingComesBack(t *testing.T) {
	r := newRig(t)
	r.verify(alice)
	r.verify(bob)
	running := storetest.Claim(r, r.store, alice.execution) // an attempt under way
	order := r.order("account", alice.account)
	r.done(order)
	stage := func(l *results.Lease) error {
		content := "image of " + alice.execution
		img := &results.Image{PartKey: results.PartKey{CredentialID: "c", Classifier: "BACK"}, ImagePlace: results.ImagePlace{StoredIn: results.InDatabase}}
		return r.store.StageImage(t.Context(), l, uuid.Must(uuid.NewV7()), img, strings.NewReader(content), int64(len(content)))
	}
	if err := stage(running); !errors.Is(err, results.ErrSuperseded) {
		t.Errorf("an attempt under way stages an image: %v", err)
	}
	o := storetest.Outcome(workflow.Retrieved, `{"account":{"id":"`+alice.account+`"},"workflow":{"id":"x"}}`)
	if err := r.store.FinishAttempt(t.Context(), running, o, storetest.Complete); !errors.Is(err, results.ErrErased) {
		t.Errorf("an attempt under way ends: %v", err)
	}
	if err := r.store.ReleaseRetrieval(t.Context(), running, o.Read, o.Identity); err != nil {
		t.Errorf("an attempt under way is released: %v", err)
	}

	late := storetest.Callback(alice.execution)
	late.Body = []byte(alice.reference)
	other := storetest.Callback("execution-alice-2")
	other.AccountID = alice.account
	byHref := storetest.Callback("execution-alice-3")
	byHref.WorkflowHref = "https://retrieval.amer-1.jumio.ai/api/v1/accounts/" + alice.account + "/workflow-executions/execution-alice-3"
	storetest.Insert(t, r.store, late, other, byHref)
	r.promoted()
	storetest.Eventually(t, "three dropped callbacks", func() bool { return r.metric("callbackd_tombstoned_callbacks_total") == 3 })

	// Nobody knew that this one is of the account; its details say so.
	storetest.Insert(t, r.store, storetest.Callback("execution-alice-4"))
	r.promoted()
	l := storetest.Claim(r, r.store, "execution-alice-4")
	storetest.Stage(t, r.store, l, "FRONT", "image of execution-alice")
	o.Images = 1
	if err := r.store.FinishAttempt(t.Context(), l, o, storetest.Complete); !errors.Is(err, results.ErrErased) {
		t.Errorf("details of an erased account: %v", err)
	}
	r.checkErasedRow("execution-alice-4")

	if _, err := r.store.Pool().Exec(t.Context(), `SELECT jumio.expect('execution-alice-5', $1, user_reference => $2)`, alice.account, alice.reference); err != nil {
		t.Fatal(err)
	}
	for i, body := range []string{
		`{"workflowExecution":{"id":"` + alice.execution + `"}}`,
		`{"account":{"id":"account\u002dalice"},`,
		`x=` + url.QueryEscape(`{"a":"account-alice"}`) + `%2d`,
		`account%2Dalice`,
		`{"workflowExecution":{"id":"` + bob.execution + `"}}`,
	} {
		rejected := &callback.Rejected{ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now(), Reason: "not_allowed", Body: []byte(body)}
		if err := r.store.InsertRejected(t.Context(), rejected); err != nil {
			t.Fatalf("%d: %v", i, err)
		}
	}
	r.look()
	if n := storetest.Scalar[int64](t, r.store, `SELECT count(*) FROM callbackd.rejected_callbacks`); n != 1 {
		t.Errorf("%d rejected callbacks are left, want Bob's", n)
	}
	if n := storetest.Scalar[int64](t, r.store, `SELECT count(*) FROM callbackd.unscreened`); n != 0 {
		t.Errorf("%d are unscreened", n)
	}
	r.noneOf(alice)
	r.allOf(bob)
	if err := fetcher.Refetch(t.Context(), r.store.DB, workflow.Schedule{0}, []string{alice.execution}, ""); !errors.Is(err, results.ErrErased) {
		t.Errorf("refetch: %v", err)
	}
	if err := r.store.TakeIn(t.Context(), "execution-alice-6", "", results.Asked{At: time.Now(), Status: "PROCESSED", AccountID: alice.account}, nil); !errors.Is(err, results.ErrErased) {
		t.Errorf("verification fetch: %v", err)
	}
	if err := r.store.Results().NotErased(t.Context(), bob.execution, bob.account); err != nil {
		t.Errorf("Bob: %v", err)
	}

	// A new account under the same reference is a new relationship.
	again := person{"account-alice-new", "execution-alice-new", alice.reference}
	r.verify(again)
	r.look()
	r.allOf(again)
}

func (r *rig) metric(name string) float64 {
	r.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return 0
}

// A forged callback drags nobody else's account in, and what it has named is found.
func TestForgedReference(t *testing.T) {
	r := newRig(t)
	r.verify(alice)
	r.verify(bob)
	forged := storetest.Callback("execution-forged")
	forged.AccountID, forged.UserReference = bob.account, alice.reference
	contradicting := storetest.Callback(bob.execution)
	contradicting.AccountID, contradicting.UserReference = alice.account, alice.reference
	storetest.Insert(t, r.store, forged, contradicting)
	r.promoted()
	r.done(r.order("user_reference", alice.reference))
	r.noneOf(alice)
	r.allOf(bob)
}

func TestHold(t *testing.T) {
	r := newRig(t)
	r.verify(alice)
	if err := r.store.Hold(t.Context(), alice.execution, "a lawsuit"); err != nil {
		t.Fatal(err)
	}
	order := r.order("account", alice.account)
	r.mayFail = true // it warns
	r.look()
	if state, text := r.state(order); state != "held" {
		t.Fatalf("the order is %s: %s", state, text)
	}
	r.allOf(alice)
	if err := r.store.Release(t.Context(), alice.execution); err != nil {
		t.Fatal(err)
	}
	r.done(order)
	r.noneOf(alice)
	if err := r.store.Hold(t.Context(), alice.execution, "too late"); !errors.Is(err, results.ErrErased) {
		t.Errorf("a hold on what is erased: %v", err)
	}
	if err := r.store.Release(t.Context(), alice.execution); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a release of what is not held: %v", err)
	}
}

// A worker without the key, or with another, does nothing once something is erased.
func TestWithoutTheKey(t *testing.T) {
	r := newRig(t)
	r.verify(alice)
	r.done(r.order("account", alice.account))
	for name, key := range map[string]tombstone.Key{"none": {}, "another": tombstone.NewKey("another key of the tests")} {
		db, err := store.Open(t.Context(), store.Options{DSN: r.store.Pool().Config().ConnString(), ErasureKey: key, Log: zap.NewNop(), Metrics: store.NewMetrics(prometheus.NewRegistry())})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		s := results.New(db)
		if err := s.CheckErasureKey(t.Context()); !errors.Is(err, results.ErrErasureKey) {
			t.Errorf("%s: the start: %v", name, err)
		}
		if err := s.NotErased(t.Context(), "w", "a"); !errors.Is(err, results.ErrErasureKey) {
			t.Errorf("%s: a barrier: %v", name, err)
		}
		l := storetest.Claimable(t, r.store, "w")
		if _, err := s.ClaimRetrieval(t.Context(), l, time.Minute); !errors.Is(err, results.ErrBusy) {
			t.Errorf("%s: a claim: %v", name, err)
		}
		told := 0
		e := New(Options{DB: db, Log: zap.NewNop(), Registerer: prometheus.NewRegistry(), KeyMissing: func(error) { told++ }})
		e.screen(t.Context())
		e.screen(t.Context())
		if told != 1 {
			t.Errorf("%s: told %d times", name, told)
		}
	}
}

// At Jumio: first, by the schedule, and then nothing of ours is deleted if it fails.
func TestAtJumio(t *testing.T) {
	for _, tc := range []struct {
		fault, state, answers string
		kept                  bool
	}{
		{"", "done", "[200]", false},
		{"delete:404", "done", "[404]", false},
		{"delete:500:1", "done", "[500 200]", false},
		{"delete:401:1", "done", "[200]", false},
		{"delete:503", "failed", "[503 503]", true},
	} {
		t.Run(tc.fault, func(t *testing.T) {
			r := newRig(t)
			r.mayFail = true
			s := r.jumio()
			var faults []sandbox.Fault
			if tc.fault != "" {
				fault, err := sandbox.ParseFault(tc.fault)
				if err != nil {
					t.Fatal(err)
				}
				faults = append(faults, fault)
			}
			j, err := s.NewJourney("passed-passport", sandbox.WithFaults(faults...))
			if err != nil {
				t.Fatal(err)
			}
			p := person{j.AccountID, j.WorkflowExecutionID, "reference-at-jumio"}
			r.verify(p)
			order := uuid.UUID(storetest.Scalar[[16]byte](t, r.store, `SELECT jumio.request_erasure('account', $1, 'a test', true)`, p.account))
			storetest.Eventually(t, "the order's end", func() bool {
				r.look()
				state, _ := r.state(order)
				return state == tc.state
			})
			got := storetest.Scalar[string](t, r.store, `SELECT coalesce(jsonb_path_query_array(jumio_answer, '$[*].status')::text, '') FROM jumio.erasures`)
			if want := fmt.Sprint(tc.answers); got != map[string]string{"[500 200]": "[500, 200]", "[503 503]": "[503, 503]"}[want] && got != want {
				t.Errorf("answers %s, want %s", got, want)
			}
			if tc.kept {
				r.allOf(p)
				if n := testutil.CollectAndCount(r.eraser.metrics.orders); n != 5 {
					t.Errorf("%d states in the metric", n)
				}
			} else {
				r.noneOf(p)
			}
		})
	}
}

// jumio gives the eraser a client of a stand-in.
func (r *rig) jumio() *sandbox.Sandbox {
	r.Helper()
	s, err := sandbox.New(sandbox.Config{Seed: 1, CallbackURL: "http://127.0.0.1:1"})
	if err != nil {
		r.Fatal(err)
	}
	if err := s.Start("127.0.0.1:0"); err != nil {
		r.Fatal(err)
	}
	endpoint, _ := url.Parse(s.URL())
	client, err := jumio.New(jumio.Config{
		Credentials: jumio.Credentials{ClientID: "sandbox", ClientSecret: "sandbox"}, UserAgent: "Test Worker/v1", TokenURL: endpoint, RetrievalURL: endpoint,
		Budget: jumio.NewLocalBudget(10_000), MaxImageBytes: 20 << 20, ProgressTimeout: 30 * time.Second,
	}, zap.NewNop(), jumio.NewMetrics(prometheus.NewRegistry()))
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		client.Close()
		_ = s.Close(context.Background())
	})
	r.eraser.Jumio = client
	return s
}
