package sandbox

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/sandbox/journey"
)

// receiver is the other side: it keeps what it was posted.
type receiver struct {
	*httptest.Server

	mu     sync.Mutex
	got    []received
	answer func(n int) int // the status of the nth answer, from 1
}

type received struct {
	header   http.Header
	body     string
	at       time.Time
	callback callback
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{answer: func(int) int { return http.StatusOK }}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil || request.Method != http.MethodPost {
			t.Errorf("%s %v", request.Method, err)
		}
		one := received{header: request.Header, body: string(body), at: time.Now()}
		_ = json.Unmarshal(body, &one.callback) // forms are read by their own tests
		r.mu.Lock()
		r.got = append(r.got, one)
		n := len(r.got)
		r.mu.Unlock()
		w.WriteHeader(r.answer(n))
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) statuses() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, one := range r.got {
		all = append(all, one.callback.WorkflowExecution.Status)
	}
	return all
}

func TestCallbackIsTheGuidesExample(t *testing.T) {
	r := newReceiver(t)
	s := start(t, Config{CallbackURL: r.URL, DataCenter: "apac-1", CallbackHeader: http.Header{"X-Forwarded-For": {"3.0.109.121"}}})
	j := newJourney(t, s, "passed-passport", WithUserReference("user-1"))
	if err := s.Send(t.Context(), j); err != nil {
		t.Fatal(err)
	}
	one := r.got[0]
	if one.header.Get("Content-Type") != "application/json" || one.header.Get("X-Forwarded-For") != "3.0.109.121" {
		t.Errorf("header %v", one.header)
	}
	sentAt := one.callback.CallbackSentAt
	if at, err := time.Parse("2006-01-02T15:04:05.000Z", sentAt); err != nil || time.Since(at).Abs() > time.Minute {
		t.Errorf("callbackSentAt %s, %v", sentAt, err)
	}
	account := "https://retrieval.apac-1.jumio.ai/api/v1/accounts/" + j.AccountID
	want := `{"callbackSentAt":"` + sentAt + `","userReference":"user-1","workflowExecution":{"id":"` + j.WorkflowExecutionID +
		`","href":"` + account + `/workflow-executions/` + j.WorkflowExecutionID + `","definitionKey":"3","status":"PROCESSED"},` +
		`"account":{"id":"` + j.AccountID + `","href":"` + account + `"}}`
	if diff := cmp.Diff(want, one.body); diff != "" {
		t.Error(diff)
	}
}

func TestOwnHrefsPointAtTheSandbox(t *testing.T) {
	r := newReceiver(t)
	s := start(t, Config{CallbackURL: r.URL, OwnHrefs: true})
	c := login(t, s)
	if err := s.Send(t.Context(), newJourney(t, s, "passed-passport")); err != nil {
		t.Fatal(err)
	}
	path, ok := strings.CutPrefix(r.got[0].callback.WorkflowExecution.Href, s.URL())
	if status, _ := c.get(path); !ok || status != 200 {
		t.Errorf("href %s: %d", r.got[0].callback.WorkflowExecution.Href, status)
	}
}

func TestCallbackForms(t *testing.T) {
	for _, tt := range []struct {
		form   Form
		status func(url.Values) string
	}{
		{FormDotted, func(v url.Values) string { return v.Get("workflowExecution.status") + " " + v.Get("account.id") }},
		{FormBracketed, func(v url.Values) string { return v.Get("workflowExecution[status]") + " " + v.Get("account[id]") }},
		{FormJSONValues, func(v url.Values) string {
			return inJSON(v.Get("workflowExecution"), "status") + " " + inJSON(v.Get("account"), "id")
		}},
		{FormSingleKey, func(v url.Values) string {
			for key := range v {
				return inJSON(key, "workflowExecution", "status") + " " + inJSON(key, "account", "id")
			}
			return ""
		}},
		{FormSingleValue, func(v url.Values) string {
			return inJSON(v.Get("payload"), "workflowExecution", "status") + " " + inJSON(v.Get("payload"), "account", "id")
		}},
	} {
		t.Run(string(tt.form), func(t *testing.T) {
			r := newReceiver(t)
			s := start(t, Config{CallbackURL: r.URL, CallbackForm: tt.form})
			j := newJourney(t, s, "session-expired")
			if err := s.Send(t.Context(), j); err != nil {
				t.Fatal(err)
			}
			values, err := url.ParseQuery(r.got[0].body)
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.status(values); got != "SESSION_EXPIRED "+j.AccountID {
				t.Errorf("%q in %s", got, r.got[0].body)
			}
			if r.got[0].header.Get("Content-Type") != "application/x-www-form-urlencoded" {
				t.Errorf("Content-Type %s", r.got[0].header.Get("Content-Type"))
			}
		})
	}
	t.Run("the guide's Content-Type with JSON", func(t *testing.T) {
		r := newReceiver(t)
		s := start(t, Config{CallbackURL: r.URL, CallbackContentType: "application/x-www-form-urlencoded"})
		if err := s.Send(t.Context(), newJourney(t, s, "passed-passport")); err != nil {
			t.Fatal(err)
		}
		if r.got[0].header.Get("Content-Type") != "application/x-www-form-urlencoded" || !json.Valid([]byte(r.got[0].body)) {
			t.Errorf("%v %s", r.got[0].header, r.got[0].body)
		}
	})
}

// inJSON looks a string up in a JSON text.
func inJSON(text string, path ...string) string {
	var value any
	if json.Unmarshal([]byte(text), &value) != nil {
		return ""
	}
	for _, name := range path {
		object, ok := value.(map[string]any)
		if !ok {
			return ""
		}
		value = object[name]
	}
	found, _ := value.(string)
	return found
}

func TestCallbackSequences(t *testing.T) {
	for _, tt := range []struct {
		kind, faults string
		intermediate float64
		want         string
	}{
		{"passed-passport", "", 0, "PROCESSED"},
		{"passed-passport", "", 1, "ACQUISITION_STARTED ACQUIRED PROCESSED"},
		{"session-expired", "", 1, "SESSION_EXPIRED"},
		{"token-expired", "", 1, "TOKEN_EXPIRED"},
		{"initiated", "", 1, "INITIATED"},
		{"acquired", "", 0, "ACQUISITION_STARTED ACQUIRED"},
		{"odd-unknown-status", "", 0, "COMPLETED"},
		{"passed-passport", "callback:duplicate", 0, "PROCESSED PROCESSED"},
		{"passed-passport", "callback:duplicate:3", 0, "PROCESSED PROCESSED PROCESSED PROCESSED"},
		{"passed-passport", "callback:reordered", 0, "PROCESSED ACQUIRED ACQUISITION_STARTED"},
		{"passed-passport", "callback:equal_times", 0, "PROCESSED ACQUIRED ACQUISITION_STARTED"},
		{"passed-passport", "callback:id_only", 0, ""},
	} {
		t.Run(tt.kind+" "+tt.faults, func(t *testing.T) {
			r := newReceiver(t)
			s := start(t, Config{CallbackURL: r.URL, Intermediate: tt.intermediate})
			j := newJourney(t, s, tt.kind, WithFaults(faults(t, tt.faults)...))
			if err := s.Send(t.Context(), j); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(r.statuses(), " "); got != tt.want {
				t.Errorf("statuses %s, want %s", got, tt.want)
			}
			for i := 1; i < len(r.got); i++ {
				checkTimes(t, tt.faults, r.got[i-1].callback, r.got[i].callback)
			}
		})
	}
}

// checkTimes holds callbackSentAt against the order of delivery.
func checkTimes(t *testing.T, fault string, first, second callback) {
	t.Helper()
	order := strings.Compare(first.CallbackSentAt, second.CallbackSentAt)
	want := -1
	switch {
	case strings.Contains(fault, "reordered"):
		want = 1
	case strings.Contains(fault, "equal"), strings.Contains(fault, "duplicate"):
		want = 0
	}
	if order != want {
		t.Errorf("%s came before %s", first.CallbackSentAt, second.CallbackSentAt)
	}
}

func TestCallbackWithMissingMembers(t *testing.T) {
	r := newReceiver(t)
	s := start(t, Config{CallbackURL: r.URL, DataCenter: "emea-1"})
	var ids []string
	for _, fault := range []string{"callback:no_account", "callback:no_href", "callback:id_only"} {
		j := newJourney(t, s, "passed-passport", WithFaults(faults(t, fault)...))
		ids = append(ids, j.WorkflowExecutionID)
		if err := s.Send(t.Context(), j); err != nil {
			t.Fatal(err)
		}
	}
	noAccount, noHref := r.got[0].callback, r.got[1].callback
	if noAccount.Account != nil || noAccount.WorkflowExecution.Href != "https://retrieval.emea-1.jumio.ai/api/v1/workflow-executions/"+ids[0] {
		t.Errorf("no_account: %s", r.got[0].body)
	}
	if noHref.WorkflowExecution.Href != "" || noHref.Account == nil || noHref.Account.ID == "" || noHref.Account.Href != "" {
		t.Errorf("no_href: %s", r.got[1].body)
	}
	if want := `{"workflowExecution":{"id":"` + ids[2] + `"}}`; r.got[2].body != want {
		t.Errorf("id_only: %s", r.got[2].body)
	}
}

func TestLateCallbackKeepsItsTime(t *testing.T) {
	r := newReceiver(t)
	s := start(t, Config{CallbackURL: r.URL})
	if err := s.Send(t.Context(), newJourney(t, s, "passed-passport", WithFaults(faults(t, "callback:late:1:delay=80ms")...))); err != nil {
		t.Fatal(err)
	}
	sentAt, err := time.Parse(journey.TimeFormat, r.got[0].callback.CallbackSentAt)
	if err != nil || r.got[0].at.Sub(sentAt) < 80*time.Millisecond {
		t.Errorf("sent at %s, arrived at %s, %v", sentAt, r.got[0].at, err)
	}
}

func TestUnacknowledgedCallbacksAreGivenUpOrRepeated(t *testing.T) {
	for _, tt := range []struct {
		name                string
		repeat              int
		answer              func(n int) int
		posted, acked, lost int
	}{
		{"given up at once", 0, func(int) int { return 503 }, 1, 0, 1},
		{"only 200 counts", 0, func(int) int { return 202 }, 1, 0, 1},
		{"a redirect is not followed", 0, func(int) int { return 307 }, 1, 0, 1},
		{"repeated until acknowledged", 5, func(n int) int { return map[bool]int{true: 200, false: 500}[n == 3] }, 3, 1, 0},
		{"repeated and given up", 2, func(int) int { return 500 }, 3, 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newReceiver(t)
			r.answer = tt.answer
			s := start(t, Config{CallbackURL: r.URL + "/secret-path", Repeat: tt.repeat, RepeatPause: time.Millisecond})
			j := newJourney(t, s, "passed-passport")
			err := s.Send(t.Context(), j)
			if (err != nil) != (tt.lost > 0) {
				t.Error(err)
			}
			totals, entry := s.Ledger().Totals, j.entry()
			if totals.CallbacksSent != tt.posted || totals.CallbacksAcknowledged != tt.acked || totals.CallbacksGivenUp != tt.lost {
				t.Errorf("totals %+v", totals)
			}
			if entry.CallbacksSent != tt.posted || entry.CallbacksAcknowledged != tt.acked || len(entry.Callbacks) != tt.posted {
				t.Errorf("entry %+v", entry)
			}
		})
	}
}

func TestUnreachableReceiverDoesNotShowItsPath(t *testing.T) {
	r := newReceiver(t)
	s := start(t, Config{CallbackURL: r.URL + "/secret-path"})
	r.Close()
	j := newJourney(t, s, "passed-passport")
	err := s.SendAll(t.Context(), []*Journey{j}, 0)
	if err == nil || strings.Contains(err.Error(), "secret-path") || !strings.Contains(err.Error(), "1 of 1") {
		t.Errorf("error %v", err)
	}
	if entry := j.entry(); entry.Callbacks[0].Code != 0 || entry.Callbacks[0].Error == "" || strings.Contains(entry.Callbacks[0].Error, "secret-path") {
		t.Errorf("%+v", entry.Callbacks)
	}
}

func TestSendNewSendsAllKindsInTurn(t *testing.T) {
	r := newReceiver(t)
	s := start(t, Config{CallbackURL: r.URL})
	if err := s.SendNew(t.Context(), 5, []string{"passed-passport", "session-expired"}, 1000); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, j := range s.Journeys() {
		kinds = append(kinds, j.Kind)
	}
	want := []string{"passed-passport", "session-expired", "passed-passport", "session-expired", "passed-passport"}
	if diff := cmp.Diff(want, kinds); diff != "" || len(r.got) != 5 {
		t.Errorf("%d callbacks, %s", len(r.got), diff)
	}
	if err := s.SendNew(t.Context(), 1, []string{"nonsense"}, 0); err == nil {
		t.Error("an unknown kind was sent")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.SendNew(ctx, 5, nil, 1); err == nil {
		t.Error("sent although it was cancelled")
	}
}
