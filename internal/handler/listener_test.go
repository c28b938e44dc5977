package handler

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/callback"
	"callbackd/internal/store"
)

// TestContractTable is the table of the contract's section 3.
func TestContractTable(t *testing.T) {
	t.Run("POST on the callback path, from an allowed address, a valid callback: 200 once it is durable", func(t *testing.T) {
		now := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
		r := start(t, func(s *setup) { s.options.Now = func() time.Time { return now } })
		a := r.do(http.MethodPost, "http://"+r.addr+callbackPath+"?token=x", "application/json; charset=\xff", guideExample)
		if a.StatusCode != http.StatusOK || a.body != "" {
			t.Errorf("answer %d %q, want an empty 200", a.StatusCode, a.body)
		}
		callbacks, rejected := r.store.kept()
		want, err := callback.Decode([]byte(guideExample))
		if err != nil {
			t.Fatal(err)
		}
		want.ID, want.ReceivedAt, want.SourceIP = a.checkID(t), now, allowedAddr
		want.ContentType, want.Body = "application/json; charset=\ufffd", []byte(guideExample)
		if diff := cmp.Diff([]*callback.Callback{want}, callbacks, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("stored (-want +got):\n%s", diff)
		}
		if len(rejected) != 0 {
			t.Errorf("%d kept as rejected", len(rejected))
		}
		r.wantOutcomes(map[string]int{"stored": 1})
	})

	t.Run("the same from an address that is not allowed: 403", func(t *testing.T) {
		r := start(t, rejectAll)
		a := r.post(guideExample)
		a.checkProblem(t, http.StatusForbidden, "")
		r.wantRejected(a, "address_not_allowed", guideExample)
		r.wantOutcomes(map[string]int{"forbidden": 1})
	})

	t.Run("a body that is no callback: 400, kept as rejected", func(t *testing.T) {
		r := start(t, nil)
		a := r.post(`{"workflowExecution":{}}`)
		a.checkProblem(t, http.StatusBadRequest, "missing_workflow_execution_id")
		r.wantRejected(a, "malformed: missing_workflow_execution_id", `{"workflowExecution":{}}`)
		r.wantOutcomes(map[string]int{"malformed": 1})
	})

	t.Run("a body over the limit: 413", func(t *testing.T) {
		r := start(t, func(s *setup) { s.options.MaxBodyBytes = int64(len(guideExample)) })
		if a := r.post(guideExample); a.StatusCode != http.StatusOK {
			t.Errorf("a body of just the limit: %d", a.StatusCode)
		}
		r.post(guideExample+" ").checkProblem(t, http.StatusRequestEntityTooLarge, "")
		if _, rejected := r.store.kept(); len(rejected) != 0 {
			t.Error("kept as rejected")
		}
		r.wantOutcomes(map[string]int{"stored": 1, "too_large": 1})
	})

	for _, method := range []string{"GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
		t.Run("another method on the callback path: 405 with Allow: POST: "+method, func(t *testing.T) {
			r := start(t, rejectAll) // nobody is checked for that
			a := r.do(method, "http://"+r.addr+callbackPath, "", "")
			if method == http.MethodHead {
				a.checkID(t)
			} else {
				a.checkProblem(t, http.StatusMethodNotAllowed, "")
			}
			if a.StatusCode != http.StatusMethodNotAllowed || a.Header.Get("Allow") != "POST" {
				t.Errorf("status %d, Allow %q", a.StatusCode, a.Header.Get("Allow"))
			}
			r.wantOutcomes(map[string]int{})
		})
	}

	for name, err := range map[string]error{
		"":                     fmt.Errorf("insert: %w", store.ErrUnavailable),
		", or any other fault": fmt.Errorf("column does not exist"),
	} {
		t.Run("Postgres away"+name+": 503 with Retry-After", func(t *testing.T) {
			r := start(t, nil)
			r.store.insertErr = err
			a := r.post(guideExample)
			a.checkProblem(t, http.StatusServiceUnavailable, "")
			if a.Header.Get("Retry-After") != "10" {
				t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
			}
			r.wantOutcomes(map[string]int{"unavailable": 1})
		})
	}

	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, probe := range []string{"/healthz", "/readyz"} {
			t.Run(method+" "+probe+": 200", func(t *testing.T) {
				r := start(t, rejectAll)
				for _, listener := range []string{r.addr, r.admin} {
					a := r.do(method, "http://"+listener+probe, "", "")
					a.checkID(t)
					if a.StatusCode != http.StatusOK {
						t.Errorf("status %d", a.StatusCode)
					}
				}
			})
		}
	}

	for _, target := range []string{
		"POST /", "POST " + callbackPath + "/", "POST /" + callbackPath, "POST /jumio//callback", "POST /jumio%2Fcallback",
		"POST /jumio/%63allback", "POST /jumio/callback%20", "POST /jumio/Callback", "POST /jumio/./callback",
		"POST /x/../jumio/callback", "POST /jumio/callback;x", "POST /jumio/callbacks", "POST /jumio",
		"GET /jumio/callback/", "BREW /jumio/callback/", "GET /", "GET /metrics", "GET /healthz/", "GET //healthz",
		"POST /healthz", "PUT /readyz", "GET /favicon.ico",
	} {
		t.Run("anything else: 404: "+target, func(t *testing.T) {
			r := start(t, nil)
			method, path, _ := strings.Cut(target, " ")
			a := r.raw(method, method+" "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: "+
				fmt.Sprint(len(guideExample))+"\r\n\r\n"+guideExample)
			a.checkProblem(t, http.StatusNotFound, "")
			r.wantOutcomes(map[string]int{})
		})
	}

	t.Run("in the spool: 200", func(t *testing.T) {
		r := start(t, nil)
		r.store.spooled = true
		if a := r.post(guideExample); a.StatusCode != http.StatusOK {
			t.Errorf("%d", a.StatusCode)
		}
		r.wantOutcomes(map[string]int{"spooled": 1})
	})

	t.Run("admin listener: GET /metrics", func(t *testing.T) {
		r := start(t, nil)
		a := r.get("http://" + r.admin + "/metrics")
		a.checkID(t)
		for _, outcome := range []string{"stored", "spooled", "forbidden", "malformed", "too_large", "unavailable"} {
			if line := `callbackd_callbacks_total{outcome="` + outcome + `"} 0`; !strings.Contains(a.body, line) {
				t.Errorf("metrics lack %s", line)
			}
		}
		if !strings.Contains(a.body, "callbackd_callback_duration_seconds_count 0") {
			t.Error("metrics lack the duration")
		}
	})

	t.Run("admin listener: no callbacks", func(t *testing.T) {
		r := start(t, nil)
		for _, method := range []string{"POST", "GET", "BREW"} {
			r.do(method, "http://"+r.admin+callbackPath, "", guideExample).checkProblem(t, http.StatusNotFound, "")
		}
	})
}

// wantOutcomes also checks that a duration was observed for each.
func (r *rig) wantOutcomes(want map[string]int) {
	r.t.Helper()
	got, observed := r.outcomes()
	if diff := cmp.Diff(want, got); diff != "" {
		r.t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	total := 0
	for _, n := range want {
		total += n
	}
	if observed != total {
		r.t.Errorf("%d durations observed, want %d", observed, total)
	}
}

// wantRejected: exactly one was kept, under the answer's request id.
func (r *rig) wantRejected(a answer, reason, body string) {
	r.t.Helper()
	callbacks, rejected := r.store.kept()
	if len(callbacks) != 0 || len(rejected) != 1 {
		r.t.Fatalf("%d stored and %d kept as rejected, want 0 and 1", len(callbacks), len(rejected))
	}
	got := rejected[0]
	if got.ID != a.checkID(r.t) || got.Reason != reason || string(got.Body) != body ||
		got.ContentType != "application/json" || !got.SourceIP.IsValid() || got.ReceivedAt.IsZero() {
		r.t.Errorf("kept %+v with the body %q, want the reason %q and the body %q", got, got.Body, reason, body)
	}
}

func TestInboundRequestIDIsNotBelieved(t *testing.T) {
	r := start(t, nil)
	const theirs = "01900000-0000-7000-8000-000000000000"
	a := r.raw("GET", "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: "+theirs+"\r\n\r\n")
	if a.checkID(t).String() == theirs || len(a.Header.Values("X-Request-Id")) != 1 {
		t.Errorf("X-Request-Id: %q", a.Header.Values("X-Request-Id"))
	}
}

func TestUserReferenceKey(t *testing.T) {
	signed, err := callback.SignUserReference("key", "customer-1")
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		userReference string
		reason        string
	}{
		"signed":   {signed, ""},
		"absent":   {"", "user_reference_unsigned"},
		"unsigned": {"customer-1", "user_reference_unsigned"},
		"wrong":    {"customer-2" + strings.TrimPrefix(signed, "customer-1"), "user_reference_invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(s *setup) { s.options.UserReferenceKey = "key" })
			body := `{"userReference":"` + tc.userReference + `","workflowExecution":{"id":"a"}}`
			a := r.post(body)
			if tc.reason == "" {
				callbacks, _ := r.store.kept()
				if a.StatusCode != http.StatusOK || len(callbacks) != 1 || callbacks[0].UserReference != signed {
					t.Errorf("answer %d, stored %+v", a.StatusCode, callbacks)
				}
				r.wantOutcomes(map[string]int{"stored": 1})
				return
			}
			a.checkProblem(t, http.StatusForbidden, "")
			r.wantRejected(a, tc.reason, body)
			r.wantOutcomes(map[string]int{"forbidden": 1})
		})
	}
	t.Run("a body that is no callback is 400 before it is 403", func(t *testing.T) {
		r := start(t, func(s *setup) { s.options.UserReferenceKey = "key" })
		r.post("{}").checkProblem(t, http.StatusBadRequest, "missing_workflow_execution_id")
	})
}

func TestPanicIsA500(t *testing.T) {
	r := start(t, func(s *setup) {
		s.options.Check = func(*http.Request) (netip.Addr, string) { panic("secret") }
	})
	r.post(guideExample).checkProblem(t, http.StatusInternalServerError, "")
	r.wantOutcomes(map[string]int{"unavailable": 1})
	if a := r.get("http://" + r.addr + "/healthz"); a.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %d", a.StatusCode)
	}
}

func TestAbortHandlerStillAborts(t *testing.T) {
	r := start(t, func(s *setup) {
		s.options.Check = func(*http.Request) (netip.Addr, string) { panic(http.ErrAbortHandler) }
	})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.addr+callbackPath, strings.NewReader(guideExample))
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultTransport.RoundTrip(req); err == nil {
		_ = resp.Body.Close()
		t.Errorf("answer %d, want a closed connection", resp.StatusCode)
	}
}

func TestNewNamesEveryWrongOption(t *testing.T) {
	_, err := New(Options{CallbackPath: "secret", RejectedPerHour: -1})
	if err == nil {
		t.Fatal("no error")
	}
	for _, name := range []string{
		"CallbackPath", "MaxBodyBytes", "RejectedPerHour", "Check", "Store", "Logger", "Metrics", "Gatherer",
	} {
		if !strings.Contains(err.Error(), name) {
			t.Errorf("the error does not name %s: %v", name, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error shows the path: %v", err)
	}
}

func TestCallbackPaths(t *testing.T) {
	for _, path := range []string{"/", "/jumio/callback/", "/a%20b", "/jumio/x!$&'()+,;=:@~._-y", "/a/%C3%A4", "//a"} {
		t.Run(path, func(t *testing.T) {
			r := start(t, func(s *setup) { s.options.CallbackPath = path })
			length := fmt.Sprintf(" HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(guideExample))
			if a := r.raw("POST", "POST "+path+length+guideExample); a.StatusCode != http.StatusOK {
				t.Errorf("POST: %d", a.StatusCode)
			}
			if a := r.raw("GET", "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"); a.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("GET: %d", a.StatusCode)
			}
		})
	}
	t.Run("an encoded variant of an unusual path", func(t *testing.T) {
		r := start(t, func(s *setup) { s.options.CallbackPath = "/a!b" })
		r.do(http.MethodPost, "http://"+r.addr+"/a%21b", "", guideExample).checkProblem(t, http.StatusNotFound, "")
	})
}
