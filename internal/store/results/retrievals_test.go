package results_test

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

	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// failed is the outcome of a retrieval that got nothing.
func failed() results.Outcome {
	o := storetest.Outcome(workflow.Failed, "")
	o.Error, o.Event = "not_found: details answered 404", workflow.EventRetrievalFailed
	return o
}

func TestResultsAppearInOneTransaction(t *testing.T) {
	s := storetest.New(t)
	l := storetest.Claim(t, s, "w")
	storetest.Stage(t, s, l, "FRONT", "front")
	storetest.Stage(t, s, l, "BACK", "back")
	if n := storetest.Scalar[int64](t, s, `SELECT count(*) FROM jumio.images`); n != 0 {
		t.Errorf("%d images show before the attempt is finished", n)
	}
	completed := errors.New("no completion")
	o := storetest.Outcome(workflow.Retrieved, `{"a":1}`)
	o.Event = workflow.EventRetrieved
	err := s.FinishAttempt(t.Context(), l, o, func(*results.Tx) error { return completed })
	if err == nil {
		t.Error("finish with a failing completion: no error")
	}
	if n := storetest.Scalar[int64](t, s, `SELECT count(*) FROM jumio.images`) + storetest.Scalar[int64](t, s, `SELECT count(*) FROM jumio.events`); n != 0 {
		t.Errorf("%d rows of a transaction that was rolled back", n)
	}
	storetest.Finish(t, s, l, o)
	got := storetest.Query(t, s, `SELECT classifier, content_type, size_bytes, width, height, encode(sha256, 'hex'), convert_from(data, 'UTF8')
		FROM jumio.images ORDER BY classifier`)
	want := [][]any{
		{"BACK", "image/jpeg", int64(4), int32(8), int32(5), fmt.Sprintf("%x", sha256.Sum256([]byte("back"))), "back"},
		{"FRONT", "image/jpeg", int64(5), int32(8), int32(5), fmt.Sprintf("%x", sha256.Sum256([]byte("front"))), "front"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("images (-want +got):\n%s", d)
	}
	state := storetest.Query(t, s, `SELECT retrieval_state, retrieval_attempts, retrieval_error, retrieved_at IS NOT NULL FROM jumio.workflow_executions`)
	if d := cmp.Diff([][]any{{"retrieved", int32(1), nil, true}}, state); d != "" {
		t.Errorf("state (-want +got):\n%s", d)
	}
}

func TestImagesThatAreInStayIn(t *testing.T) {
	s := storetest.New(t)
	l := storetest.Claim(t, s, "w")
	storetest.Stage(t, s, l, "FRONT", "front")
	storetest.Finish(t, s, l, storetest.Outcome(workflow.Pending, `{"b":2}`))
	if n := storetest.Scalar[int64](t, s, `SELECT count(*) FROM jumio.images`); n != 1 {
		t.Errorf("%d images after a failed attempt, want 1", n)
	}
	c, err := s.ClaimRetrieval(t.Context(), l, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Parts[results.PartKey{CredentialID: "c", Classifier: "FRONT"}] || len(c.Parts) != 1 || string(c.Details) != `{"b":2}` {
		t.Errorf("the next attempt is told %+v", c)
	}
	if n := storetest.Scalar[int32](t, s, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != 2 || l.Attempt != 2 {
		t.Errorf("retrieval_attempts is %d, the run's attempt %d, want 2", n, l.Attempt)
	}
}

// A crash of the database may take staged images back.
func TestStagedImagesThatAreGone(t *testing.T) {
	s := storetest.New(t)
	l := storetest.Claim(t, s, "w")
	storetest.Stage(t, s, l, "FRONT", "front")
	storetest.Stage(t, s, l, "BACK", "back")
	if _, err := s.Pool().Exec(t.Context(), `DELETE FROM callbackd.images WHERE classifier = 'BACK'`); err != nil {
		t.Fatal(err)
	}
	o := storetest.Outcome(workflow.Retrieved, `{}`)
	o.Images = 2
	if err := s.FinishAttempt(t.Context(), l, o, storetest.Complete); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("finish without an image that was staged: %v, want ErrUnavailable", err)
	}
	if state := storetest.Scalar[string](t, s, `SELECT retrieval_state FROM jumio.workflow_executions`); state != "pending" {
		t.Errorf("the state is %s, want pending", state)
	}
	storetest.Stage(t, s, l, "BACK", "back")
	storetest.Finish(t, s, l, o)
	if n := storetest.Scalar[int64](t, s, `SELECT count(*) FROM jumio.images`); n != 2 {
		t.Errorf("%d images in the end, want 2", n)
	}
}

func TestSecondRetrievalReplacesContentThatChanged(t *testing.T) {
	s := storetest.New(t)
	l := storetest.Claim(t, s, "w")
	storetest.Stage(t, s, l, "FRONT", "same")
	storetest.Stage(t, s, l, "BACK", "old")
	storetest.Finish(t, s, l, storetest.Outcome(workflow.Retrieved, `{}`))
	before := storetest.Query(t, s, `SELECT image_id, classifier, retrieved_at FROM jumio.images ORDER BY classifier`)
	l = storetest.Claim(t, s, "w")
	storetest.Stage(t, s, l, "FRONT", "same")
	storetest.Stage(t, s, l, "BACK", "new")
	storetest.Finish(t, s, l, storetest.Outcome(workflow.Retrieved, `{"v":2}`))
	after := storetest.Query(t, s, `SELECT image_id, classifier, retrieved_at FROM jumio.images ORDER BY classifier`)
	if len(after) != 2 || after[0][0] != before[0][0] || after[1][0] != before[1][0] {
		t.Errorf("images before %v, after %v: want the same two rows", before, after)
	}
	if after[1][2] != before[1][2] {
		t.Error("unchanged content got a new retrieved_at")
	}
	if got := storetest.Scalar[string](t, s, `SELECT convert_from(data, 'UTF8') FROM jumio.images WHERE classifier = 'BACK'`); got != "new" {
		t.Errorf("the changed image holds %q", got)
	}
	if n := storetest.Scalar[int64](t, s, `SELECT count(*) FROM callbackd.images`); n != 2 {
		t.Errorf("%d rows in all, want 2: staged ones are left over", n)
	}
}

func TestLease(t *testing.T) {
	s := storetest.New(t)
	l := storetest.Claim(t, s, "w")
	other := *l
	other.Token = uuid.New()
	for name, run := range map[string]*results.Lease{"another run": &other, "the run itself": l} {
		if _, err := s.ClaimRetrieval(t.Context(), run, time.Minute); !errors.Is(err, results.ErrBusy) {
			t.Errorf("%s while the lease is held: %v, want ErrBusy", name, err)
		}
	}
	if err := s.ReleaseRetrieval(t.Context(), &other, nil, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ClaimRetrieval(t.Context(), &other, time.Minute); !errors.Is(err, results.ErrBusy) {
		t.Errorf("after a release by a run that has no lease: %v, want ErrBusy", err)
	}
	if err := s.ReleaseRetrieval(t.Context(), l, nil, nil); err != nil {
		t.Fatal(err)
	}
	if n := storetest.Scalar[int32](t, s, `SELECT retrieval_attempts FROM jumio.workflow_executions`); n != 0 {
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
	if err := s.FinishAttempt(t.Context(), &other, storetest.Outcome(workflow.Retrieved, ""), storetest.Complete); !errors.Is(err, results.ErrBusy) {
		t.Errorf("finish after losing the lease: %v, want ErrBusy", err)
	}
	newer := storetest.Claim(t, s, "w2")
	storetest.Claimable(t, s, "w2")
	if _, err := s.ClaimRetrieval(t.Context(), newer, time.Minute); !errors.Is(err, results.ErrSuperseded) {
		t.Errorf("a generation that is not current: %v, want ErrSuperseded", err)
	}
	if err := s.FinishAttempt(t.Context(), newer, storetest.Outcome(workflow.Retrieved, ""), storetest.Complete); !errors.Is(err, results.ErrSuperseded) {
		t.Errorf("finish of a generation that is not current: %v, want ErrSuperseded", err)
	}
}

// A run that does not count leaves what it has fetched, and where, to the next one.
func TestReleaseKeepsDetails(t *testing.T) {
	s := storetest.New(t)
	l := storetest.Claim(t, s, "w")
	storetest.Stage(t, s, l, "FRONT", "front")
	if err := s.ReleaseRetrieval(t.Context(), l, storetest.Reading(`{"a":1}`), &results.Identity{DataCenter: "emea-1"}); err != nil {
		t.Fatal(err)
	}
	c, err := s.ClaimRetrieval(t.Context(), l, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if string(c.Details) != `{"a":1}` || c.DataCenter != "emea-1" || len(c.Parts) != 1 || l.Attempt != 1 {
		t.Errorf("the next run is told %s of %q, %d parts, attempt %d", c.Details, c.DataCenter, len(c.Parts), l.Attempt)
	}
	lost := *l
	lost.Token = uuid.New()
	if err := s.ReleaseRetrieval(t.Context(), &lost, storetest.Reading(`{"a":2}`), &results.Identity{DataCenter: "apac-1"}); err != nil {
		t.Fatal(err)
	}
	if got := storetest.Query(t, s, `SELECT details ->> 'a', data_center FROM callbackd.workflow_executions JOIN callbackd.details USING (workflow_execution_id)`); !cmp.Equal(got, [][]any{{"1", "emea-1"}}) {
		t.Errorf("a run without the lease left %v", got)
	}
}

func TestStageImageLargeWithoutCopy(t *testing.T) {
	s := storetest.New(t)
	l := storetest.Claim(t, s, "w")
	content := strings.Repeat("0123456789abcdef", 1<<20) // 16 MiB
	storetest.Stage(t, s, l, "FRONT", content)
	storetest.Finish(t, s, l, storetest.Outcome(workflow.Retrieved, `{}`))
	if !storetest.Scalar[bool](t, s, `SELECT sha256 = sha256(data) AND size_bytes = length(data) FROM jumio.images`) {
		t.Error("the stored bytes are not the ones that were hashed")
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
			storetest.SeedDetails(t, s, id, tc.body)
			if got := storetest.Scalar[*string](t, s, `SELECT details ->> $1 FROM jumio.workflow_executions WHERE workflow_execution_id = $2`, tc.path, id); got == nil || *got != tc.want {
				t.Errorf("details ->> %q is %v, want %q", tc.path, got, tc.want)
			}
			if got := storetest.Scalar[[]byte](t, s, `SELECT body FROM callbackd.details WHERE workflow_execution_id = $1`, id); string(got) != tc.body {
				t.Errorf("the original bytes are not kept")
			}
		})
	}
}

// The views read the guide's fields; a missing or odd field is null.
func TestViewsTolerateOddDetails(t *testing.T) {
	s := storetest.New(t)
	storetest.SeedDetails(t, s, "w", `{
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
	workflow := storetest.Query(t, s, `SELECT account_id, definition_key, user_reference, customer_internal_reference, created_at::text, started_at, completed_at FROM jumio.workflow_executions`)
	if d := cmp.Diff([][]any{{nil, "2", nil, "ref", "2021-03-12 15:47:17.234+00", nil, nil}}, workflow); d != "" {
		t.Errorf("workflow_executions (-want +got):\n%s", d)
	}
	capabilities := storetest.Query(t, s, `SELECT capability, position, decision_type, decision_label, array_to_string(credential_ids, ',') FROM jumio.capabilities ORDER BY 1, 2`)
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
	documents := storetest.Query(t, s, `SELECT position, type, sub_type, issuing_country, first_name, last_name, date_of_birth::text, expiry_date, issuing_date,
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
				l := &results.Lease{Retrieval: workflow.Retrieval{WorkflowExecutionID: id, Generation: 1}, Token: uuid.New(), Attempt: 1}
				_, err := s.Pool().Exec(context.Background(), `INSERT INTO callbackd.workflow_executions
					(workflow_execution_id, retrieval_state, retrieval_generation, lease_token) VALUES ($1, 'pending', 1, $2)`, id, l.Token)
				if err == nil {
					err = s.FinishAttempt(context.Background(), l, failed(), storetest.Complete)
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
		for _, row := range storetest.Query(t, s, `SELECT event_id FROM jumio.events WHERE event_id > $1 ORDER BY event_id`, highest) {
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
	l := storetest.Claim(t, s, "w-notified")
	storetest.Finish(t, s, l, failed())
	n, err := conn.Conn().WaitForNotification(t.Context())
	if err != nil || n.Payload != "w-notified" {
		t.Errorf("notification %+v, %v", n, err)
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
		c := storetest.Callback(id)
		c.ReceivedAt = first.Add(time.Duration(i) * time.Minute)
		storetest.Insert(t, s, c)
	}
	want(3, 0, time.Time{})
	if list, err := promote(t.Context(), s, results.Take{Limit: 20}); len(list) != 3 || err != nil {
		t.Fatalf("%d promoted, %v", len(list), err)
	}
	want(0, 3, first)
}

func TestJSONRoundTripIsValid(t *testing.T) {
	s := storetest.New(t)
	body := `{"a":[1,2.5e3,"x",{"b":null}],"c":{"d":true}}`
	storetest.SeedDetails(t, s, "w", body)
	var got, want any
	_ = json.Unmarshal(storetest.Scalar[[]byte](t, s, `SELECT details::text::bytea FROM jumio.workflow_executions`), &got)
	_ = json.Unmarshal([]byte(body), &want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
