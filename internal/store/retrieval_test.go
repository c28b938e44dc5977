package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/store"
	"callbackd/internal/store/storetest"
)

func stage(t *testing.T, s *store.Store, l *store.Lease, classifier, content string) {
	t.Helper()
	if err := s.StageImage(t.Context(), l, store.PartKey{CredentialID: "c", Classifier: classifier}, image(content)); err != nil {
		t.Fatalf("stage %s: %v", classifier, err)
	}
}

func TestResultsAppearInOneTransaction(t *testing.T) {
	s := storetest.New(t)
	l := claim(t, s, "w")
	stage(t, s, l, "FRONT", "front")
	stage(t, s, l, "BACK", "back")
	if n := scalar[int64](t, s, `SELECT count(*) FROM jumio.images`); n != 0 {
		t.Errorf("%d images show before the attempt is finished", n)
	}
	completed := errors.New("no completion")
	o := store.Outcome{
		State: store.Retrieved, Details: []byte(`{"a":1}`),
		Events: []store.Event{{Type: store.EventRetrieved, WorkflowExecutionID: "w"}},
	}
	_, err := s.FinishAttempt(t.Context(), l, o, func(context.Context, pgx.Tx) error { return completed })
	if err == nil {
		t.Error("finish with a failing completion: no error")
	}
	if n := scalar[int64](t, s, `SELECT count(*) FROM jumio.images`) + scalar[int64](t, s, `SELECT count(*) FROM jumio.events`); n != 0 {
		t.Errorf("%d rows of a transaction that was rolled back", n)
	}
	finish(t, s, l, o)
	got := query(t, s, `SELECT classifier, content_type, size_bytes, width, height, encode(sha256, 'hex'), convert_from(data, 'UTF8')
		FROM jumio.images ORDER BY classifier`)
	want := [][]any{
		{"BACK", "image/jpeg", int64(4), int32(8), int32(5), fmt.Sprintf("%x", sha256.Sum256([]byte("back"))), "back"},
		{"FRONT", "image/jpeg", int64(5), int32(8), int32(5), fmt.Sprintf("%x", sha256.Sum256([]byte("front"))), "front"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("images (-want +got):\n%s", d)
	}
	state := query(t, s, `SELECT retrieval_state, retrieval_attempts, retrieval_error, retrieved_at IS NOT NULL FROM jumio.workflow_executions`)
	if d := cmp.Diff([][]any{{"retrieved", int32(1), nil, true}}, state); d != "" {
		t.Errorf("state (-want +got):\n%s", d)
	}
}

func TestImagesThatAreInStayIn(t *testing.T) {
	s := storetest.New(t)
	l := claim(t, s, "w")
	stage(t, s, l, "FRONT", "front")
	finish(t, s, l, store.Outcome{State: store.Pending, Error: "not_found: x", Details: []byte(`{"b":2}`)})
	if n := scalar[int64](t, s, `SELECT count(*) FROM jumio.images`); n != 1 {
		t.Errorf("%d images after a failed attempt, want 1", n)
	}
	c, err := s.ClaimRetrieval(t.Context(), l, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Parts[store.PartKey{CredentialID: "c", Classifier: "FRONT"}] || len(c.Parts) != 1 || string(c.Details) != `{"b":2}` {
		t.Errorf("the next attempt is told %+v", c)
	}
	if n := scalar[int32](t, s, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != 2 || l.Attempt != 2 {
		t.Errorf("retrieval_attempts is %d, the run's attempt %d, want 2", n, l.Attempt)
	}
}

// A crash of the database may take staged images back.
func TestStagedImagesThatAreGone(t *testing.T) {
	s := storetest.New(t)
	l := claim(t, s, "w")
	stage(t, s, l, "FRONT", "front")
	stage(t, s, l, "BACK", "back")
	if _, err := s.Pool().Exec(t.Context(), `DELETE FROM callbackd.images WHERE classifier = 'BACK'`); err != nil {
		t.Fatal(err)
	}
	o := store.Outcome{State: store.Retrieved, Details: []byte(`{}`), Images: 2}
	if _, err := s.FinishAttempt(t.Context(), l, o, nil); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("finish without an image that was staged: %v, want ErrUnavailable", err)
	}
	if state := scalar[string](t, s, `SELECT retrieval_state FROM jumio.workflow_executions`); state != "pending" {
		t.Errorf("the state is %s, want pending", state)
	}
	stage(t, s, l, "BACK", "back")
	finish(t, s, l, o)
	if n := scalar[int64](t, s, `SELECT count(*) FROM jumio.images`); n != 2 {
		t.Errorf("%d images in the end, want 2", n)
	}
}

func TestSecondRetrievalReplacesContentThatChanged(t *testing.T) {
	s := storetest.New(t)
	l := claim(t, s, "w")
	stage(t, s, l, "FRONT", "same")
	stage(t, s, l, "BACK", "old")
	finish(t, s, l, store.Outcome{State: store.Retrieved, Details: []byte(`{}`)})
	before := query(t, s, `SELECT image_id, classifier, retrieved_at FROM jumio.images ORDER BY classifier`)
	l = claim(t, s, "w")
	stage(t, s, l, "FRONT", "same")
	stage(t, s, l, "BACK", "new")
	finish(t, s, l, store.Outcome{State: store.Retrieved, Details: []byte(`{"v":2}`)})
	after := query(t, s, `SELECT image_id, classifier, retrieved_at FROM jumio.images ORDER BY classifier`)
	if len(after) != 2 || after[0][0] != before[0][0] || after[1][0] != before[1][0] {
		t.Errorf("images before %v, after %v: want the same two rows", before, after)
	}
	if after[1][2] != before[1][2] {
		t.Error("unchanged content got a new retrieved_at")
	}
	if got := scalar[string](t, s, `SELECT convert_from(data, 'UTF8') FROM jumio.images WHERE classifier = 'BACK'`); got != "new" {
		t.Errorf("the changed image holds %q", got)
	}
	if n := scalar[int64](t, s, `SELECT count(*) FROM callbackd.images`); n != 2 {
		t.Errorf("%d rows in all, want 2: staged ones are left over", n)
	}
}

func TestLease(t *testing.T) {
	s := storetest.New(t)
	l := claim(t, s, "w")
	other := *l
	other.Token = uuid.New()
	var busy *store.BusyError
	for name, run := range map[string]*store.Lease{"another run": &other, "the run itself": l} {
		if _, err := s.ClaimRetrieval(t.Context(), run, time.Minute); !errors.As(err, &busy) {
			t.Errorf("%s while the lease is held: %v, want BusyError", name, err)
		}
	}
	if err := s.ReleaseRetrieval(t.Context(), &other); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ClaimRetrieval(t.Context(), &other, time.Minute); !errors.As(err, &busy) {
		t.Errorf("after a release by a run that has no lease: %v, want BusyError", err)
	}
	if err := s.ReleaseRetrieval(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if n := scalar[int32](t, s, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != 0 {
		t.Errorf("a released attempt counts: %d", n)
	}
	if _, err := s.ClaimRetrieval(t.Context(), &other, -time.Second); err != nil {
		t.Errorf("after the release: %v", err)
	}
	if _, err := s.ClaimRetrieval(t.Context(), l, time.Minute); err != nil || l.Attempt != 2 {
		t.Errorf("after the lease ran out: attempt %d, %v", l.Attempt, err)
	}
	// The run that was away for too long has not been superseded: its job must
	// not be taken for done.
	if _, err := s.FinishAttempt(t.Context(), &other, store.Outcome{State: store.Retrieved}, nil); !errors.As(err, &busy) {
		t.Errorf("finish after losing the lease: %v, want BusyError", err)
	}
	newer := claim(t, s, "w2")
	claimable(t, s, "w2")
	if _, err := s.ClaimRetrieval(t.Context(), newer, time.Minute); !errors.Is(err, store.ErrSuperseded) {
		t.Errorf("a generation that is not current: %v, want ErrSuperseded", err)
	}
	if _, err := s.FinishAttempt(t.Context(), newer, store.Outcome{State: store.Retrieved}, nil); !errors.Is(err, store.ErrSuperseded) {
		t.Errorf("finish of a generation that is not current: %v, want ErrSuperseded", err)
	}
}

func TestStageImageLargeWithoutCopy(t *testing.T) {
	s := storetest.New(t)
	l := claim(t, s, "w")
	content := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB
	stage(t, s, l, "FRONT", content)
	finish(t, s, l, store.Outcome{State: store.Retrieved, Details: []byte(`{}`)})
	if !scalar[bool](t, s, `SELECT sha256 = sha256(data) AND size_bytes = length(data) FROM jumio.images`) {
		t.Error("the stored bytes are not the ones that were hashed")
	}
}

func TestRefetchUnknownQueuesNothing(t *testing.T) {
	s := storetest.New(t)
	l := claim(t, s, "w")
	finish(t, s, l, store.Outcome{State: store.Failed, Error: "x: y"})
	enqueued := 0
	enqueue := func(_ context.Context, _ pgx.Tx, r []store.Retrieval) error { enqueued += len(r); return nil }
	err := s.Refetch(t.Context(), []string{"w", "unknown"}, enqueue)
	if !errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "unknown") || enqueued != 0 {
		t.Errorf("refetch of an unknown one: %v, %d enqueued", err, enqueued)
	}
	if got := scalar[string](t, s, `SELECT retrieval_state FROM jumio.workflow_executions`); got != "failed" {
		t.Errorf("state %s, want failed still", got)
	}
	if err := s.Refetch(t.Context(), []string{"w"}, enqueue); err != nil || enqueued != 1 {
		t.Errorf("refetch: %v, %d enqueued", err, enqueued)
	}
	got := query(t, s, `SELECT retrieval_state, retrieval_attempts, retrieval_error FROM jumio.workflow_executions`)
	if d := cmp.Diff([][]any{{"pending", int32(0), nil}}, got); d != "" {
		t.Errorf("state (-want +got):\n%s", d)
	}
}

// What jsonb cannot hold must not lose the result (contract, section 6).
func TestDetailsThatJSONBCannotHold(t *testing.T) {
	s := storetest.New(t)
	deep := strings.Repeat("[", 5000) + strings.Repeat("]", 5000)
	for name, tc := range map[string]struct{ body, path, want string }{
		"U+0000":              {`{"a":"x\u0000y"}`, "a", "x\uFFFDy"},
		"U+0000 in a key":     {`{"a\u0000":"x"}`, "a\uFFFD", "x"},
		"escaped backslash":   {`{"a":"x\\u0000y"}`, "a", `x\u0000y`},
		"lone surrogate":      {`{"a":"\ud800"}`, "a", "\uFFFD"},
		"surrogate pair":      {`{"a":"\ud83d\ude00"}`, "a", "\U0001F600"},
		"invalid UTF-8":       {"{\"a\":\"\xff\"}", "a", "\uFFFD"},
		"a number too large":  {`{"a":1e999999}`, "a", "\uFFFD"},
		"an ordinary number":  {`{"a":-12.50}`, "a", "-12.50"},
		"nested too deep":     {`{"b":` + deep + `,"a":"still there"}`, "a", "still there"},
		"HTML stays":          {`{"a":"<b>&"}`, "a", "<b>&"},
		"duplicate keys":      {`{"a":"first","a":"last"}`, "a", "last"},
		"empty objects":       {`{"x":{},"y":[],"a":"z"}`, "a", "z"},
		"null, true and more": {`{"x":[null,true,false,{"y":[1,2]}],"a":"z"}`, "a", "z"},
	} {
		t.Run(name, func(t *testing.T) {
			id := fmt.Sprintf("w-%x", name)
			seedDetails(t, s, id, tc.body)
			if got := scalar[*string](t, s, `SELECT details ->> $1 FROM jumio.workflow_executions WHERE workflow_execution_id = $2`, tc.path, id); got == nil || *got != tc.want {
				t.Errorf("details ->> %q is %v, want %q", tc.path, got, tc.want)
			}
			if got := scalar[[]byte](t, s, `SELECT body FROM callbackd.workflow_details WHERE workflow_execution_id = $1`, id); string(got) != tc.body {
				t.Errorf("the original bytes are not kept")
			}
		})
	}
}

// The views read the guide's fields; a missing or odd field is null.
func TestViewsTolerateOddDetails(t *testing.T) {
	s := storetest.New(t)
	seedDetails(t, s, "w", `{
		"createdAt": "2021-03-12T15:47:17.234Z", "startedAt": "yesterday", "completedAt": 5,
		"workflow": {"customerInternalReference": "ref", "definitionKey": 2, "userReference": {"odd": true}},
		"account": "odd",
		"capabilities": {
			"extraction": [
				{"credentials": [{"id": "c1"}, {"noid": 1}, {"id": "c2"}], "decision": {"type": "PASSED", "details": {"label": "OK"}},
				 "data": {"type": "PASSPORT", "subType": "E_PASSPORT", "issuingCountry": "AUT", "firstName": "JANE", "lastName": "N/A",
				 "dateOfBirth": "1990-01-01", "expiryDate": "2023-02-31", "issuingDate": "today", "documentNumber": 123,
				 "gender": {"odd": 1}, "address": {"country": "AUT"}, "later": [1]}},
				{"data": {}},
				{"decision": {"type": "NOT_EXECUTED"}}
			],
			"usability": {"decision": {"type": "WARNING"}},
			"liveness": ["odd", {"decision": "odd", "credentials": {"id": "c3"}}],
			"watchlistScreening": null
		}}`)
	workflow := query(t, s, `SELECT account_id, definition_key, user_reference, customer_internal_reference, created_at::text, started_at, completed_at FROM jumio.workflow_executions`)
	if d := cmp.Diff([][]any{{nil, "2", nil, "ref", "2021-03-12 15:47:17.234+00", nil, nil}}, workflow); d != "" {
		t.Errorf("workflow_executions (-want +got):\n%s", d)
	}
	capabilities := query(t, s, `SELECT capability, position, decision_type, decision_label, array_to_string(credential_ids, ',') FROM jumio.capabilities ORDER BY 1, 2`)
	if d := cmp.Diff([][]any{
		{"extraction", int32(1), "PASSED", "OK", "c1,c2"},
		{"extraction", int32(2), nil, nil, ""},
		{"extraction", int32(3), "NOT_EXECUTED", nil, ""},
		{"liveness", int32(1), nil, nil, ""},
		{"liveness", int32(2), nil, nil, "c3"},
		{"usability", int32(1), "WARNING", nil, ""},
	}, capabilities); d != "" {
		t.Errorf("capabilities (-want +got):\n%s", d)
	}
	documents := query(t, s, `SELECT position, type, sub_type, issuing_country, first_name, last_name, date_of_birth::text, expiry_date, issuing_date,
		document_number, gender, nationality, address::text, data ->> 'expiryDate' FROM jumio.extracted_documents ORDER BY position`)
	if d := cmp.Diff([][]any{
		{int32(1), "PASSPORT", "E_PASSPORT", "AUT", "JANE", "N/A", "1990-01-01", nil, nil, "123", nil, nil, `{"country": "AUT"}`, "2023-02-31"},
		{int32(2), nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil, nil},
	}, documents); d != "" {
		t.Errorf("extracted_documents (-want +got):\n%s", d)
	}
}

// A consumer that remembers the highest event_id it has seen misses none.
func TestEventsAreReadWithoutGaps(t *testing.T) {
	s := storetest.New(t)
	const writers, each = 8, 30
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				id := fmt.Sprintf("w-%d-%d", w, i)
				l := &store.Lease{Retrieval: store.Retrieval{WorkflowExecutionID: id, Generation: 1}, Token: uuid.New(), Attempt: 1}
				_, err := s.Pool().Exec(context.Background(), `INSERT INTO callbackd.workflow_executions
					(workflow_execution_id, retrieval_state, retrieval_generation, lease_token) VALUES ($1, 'pending', 1, $2)`, id, l.Token)
				if err == nil {
					_, err = s.FinishAttempt(context.Background(), l, store.Outcome{
						State: store.Failed, Events: []store.Event{{Type: store.EventRetrievalFailed, WorkflowExecutionID: id}},
					}, nil)
				}
				if err != nil {
					t.Errorf("write an event: %v", err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writing.Wait(); close(done) }()
	var highest, seen int64
	for over := false; !over; {
		select {
		case <-done:
			over = true // one more read after everything is committed
		default:
		}
		for _, row := range query(t, s, `SELECT event_id FROM jumio.events WHERE event_id > $1 ORDER BY event_id`, highest) {
			highest = row[0].(int64)
			seen++
		}
	}
	if seen != writers*each {
		t.Errorf("the consumer saw %d events, want %d", seen, writers*each)
	}
}

func TestEventsNotify(t *testing.T) {
	s := storetest.New(t)
	conn, err := s.Pool().Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), `LISTEN jumio_events`); err != nil {
		t.Fatal(err)
	}
	l := claim(t, s, "w-notified")
	finish(t, s, l, store.Outcome{State: store.Failed, Events: []store.Event{{Type: store.EventRetrievalFailed, WorkflowExecutionID: "w-notified"}}})
	n, err := conn.Conn().WaitForNotification(t.Context())
	if err != nil || n.Payload != "w-notified" {
		t.Errorf("notification %+v, %v", n, err)
	}
}

func TestPromoteTakesEachCallbackOnce(t *testing.T) {
	s := storetest.New(t)
	const n = 300
	for i := range n {
		mustInsert(t, s, newCallback(fmt.Sprintf("w-%d", i%50)))
	}
	var mu sync.Mutex
	applied := map[string]int{}
	p := store.Promotion{
		Apply: func(w *store.WorkflowExecution, d *store.Delivery) []store.Event {
			mu.Lock()
			defer mu.Unlock()
			applied[d.CallbackID.String()]++
			w.CallbackCount++
			return nil
		},
		Enqueue: func(context.Context, pgx.Tx, []store.Retrieval) error { return nil },
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				taken, err := s.Promote(context.Background(), store.Take{Limit: 20}, p)
				if err != nil {
					t.Errorf("promote: %v", err)
				}
				if taken == 0 || err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if got := scalar[int64](t, s, `SELECT sum(callback_count)::bigint FROM jumio.workflow_executions`); got != n || len(applied) != n {
		t.Errorf("%d deliveries counted, %d callbacks applied, want %d", got, len(applied), n)
	}
	if got := scalar[int64](t, s, `SELECT count(*) FROM jumio.events WHERE type = 'callback_received'`); got != n {
		t.Errorf("%d events callback_received, want %d", got, n)
	}
}

func TestBacklog(t *testing.T) {
	s := storetest.New(t)
	want := func(callbacks, retrievals int64, oldest time.Time) {
		t.Helper()
		b, err := s.Backlog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if b.Callbacks != callbacks || b.Retrievals != retrievals || !b.Oldest.Equal(oldest) {
			t.Errorf("got %+v, want %d callbacks, %d retrievals, the oldest of %v", b, callbacks, retrievals, oldest)
		}
	}
	want(0, 0, time.Time{})
	first := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for i, id := range []string{"w-0", "w-1", "w-2"} {
		c := newCallback(id)
		c.ReceivedAt = first.Add(time.Duration(i) * time.Minute)
		mustInsert(t, s, c)
	}
	want(3, 0, time.Time{})
	taken, err := s.Promote(t.Context(), store.Take{Limit: 20}, store.Promotion{
		Apply: func(w *store.WorkflowExecution, d *store.Delivery) []store.Event {
			w.RetrievalState, w.RetrievalReceivedAt = store.Pending, d.ReceivedAt
			return nil
		},
		Enqueue: func(context.Context, pgx.Tx, []store.Retrieval) error { return nil },
	})
	if taken != 3 || err != nil {
		t.Fatalf("%d promoted, %v", taken, err)
	}
	want(0, 3, first)
}

func TestListenIsWoken(t *testing.T) {
	s := storetest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	inbox, jobs := make(chan struct{}, 100), make(chan struct{}, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Listen(ctx, func() { inbox <- struct{}{} }, func() { jobs <- struct{}{} })
	}()
	<-inbox // it listens now
	<-jobs
	mustInsert(t, s, newCallback("w"))
	<-inbox
	claimable(t, s, "w")
	if err := s.Refetch(t.Context(), []string{"w"}, func(context.Context, pgx.Tx, []store.Retrieval) error { return nil }); err != nil {
		t.Fatal(err)
	}
	<-jobs
	cancel()
	<-done
}

func TestJSONRoundTripIsValid(t *testing.T) {
	s := storetest.New(t)
	body := `{"a":[1,2.5e3,"x",{"b":null}],"c":{"d":true}}`
	seedDetails(t, s, "w", body)
	var got, want any
	_ = json.Unmarshal(scalar[[]byte](t, s, `SELECT details::text::bytea FROM jumio.workflow_executions`), &got)
	_ = json.Unmarshal([]byte(body), &want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
