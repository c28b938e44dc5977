package handler

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/callback"
)

// clock is set by tests.
type clock struct{ atomic.Pointer[time.Time] }

func newClock(now time.Time) *clock {
	c := &clock{}
	c.Store(&now)
	return c
}

func (c *clock) now() time.Time { return *c.Load() }

func (c *clock) add(d time.Duration) {
	later := c.now().Add(d)
	c.Store(&later)
}

func TestRejectedAreKeptUpToTheHourlyLimit(t *testing.T) {
	c := newClock(time.Date(2026, 1, 2, 3, 59, 59, 0, time.UTC))
	r := start(t, func(s *setup) {
		s.options.RejectedPerHour = 4
		s.options.Now = c.now
	})
	for i := range 4 {
		if a := r.post("{}"); a.StatusCode != http.StatusBadRequest {
			t.Errorf("request %d: %d", i, a.StatusCode)
		}
	}
	if n := r.keptFrom(allowedAddr); n != 1 {
		t.Errorf("%d kept, want half of the two for allowed addresses", n)
	}
	r.wantQuotaLine(t, "allowed addresses")
	c.add(time.Hour)
	r.post("{}")
	if n := r.keptFrom(allowedAddr); n != 2 {
		t.Errorf("%d kept, want another one an hour later", n)
	}
	r.wantOutcomes(map[string]int{"malformed": 5})
}

func TestRejectedPerHourZeroKeepsNone(t *testing.T) {
	r := start(t, func(s *setup) {
		rejectAll(s)
		s.options.RejectedPerHour = 0
	})
	r.post(guideExample).checkProblem(t, http.StatusForbidden, "")
	if _, rejected := r.store.kept(); len(rejected) != 0 {
		t.Errorf("%d kept", len(rejected))
	}
}

// No more is read from a rejected address than is kept of its body; beyond the hourly
// limit, nothing.
func TestForbiddenDoesNotWaitForTheBody(t *testing.T) {
	for name, tc := range map[string]struct{ perHour, sent, kept int }{
		"kept":             {2, callback.RejectedBodyLimit, 1},
		"beyond the limit": {1, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(s *setup) {
				rejectAll(s)
				s.options.RejectedPerHour = tc.perHour
				s.tune = func(h *Handler, _ *http.Server) { h.bodyTimeout = time.Hour }
			})
			// It announces more than net/http would read to keep the connection.
			a := r.raw("POST", "POST "+callbackPath+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", tc.sent))
			a.checkProblem(t, http.StatusForbidden, "")
			if _, rejected := r.store.kept(); len(rejected) != tc.kept {
				t.Errorf("%d kept", len(rejected))
			}
		})
	}
}

func TestRejectedBodyIsCut(t *testing.T) {
	body := "x" + strings.Repeat("y", callback.RejectedBodyLimit)
	for name, change := range map[string]func(*setup){
		"400":                nil,
		"403, address":       rejectAll,
		"403, userReference": func(s *setup) { s.options.UserReferenceKey = "key" },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, change)
			sent := body
			if name == "403, userReference" {
				sent = "workflowExecution.id=a&" + body
			}
			r.post(sent)
			_, rejected := r.store.kept()
			if len(rejected) != 1 || string(rejected[0].Body) != sent[:callback.RejectedBodyLimit] {
				t.Errorf("kept %d, want the first 64 KiB of one", len(rejected))
			}
		})
	}
}

func TestRejectedWithoutAnAddress(t *testing.T) {
	r := start(t, func(s *setup) {
		s.options.Check = func(*http.Request) (netip.Addr, string) {
			return netip.Addr{}, "no_client_address: \xff\x00"
		}
	})
	r.post(guideExample).checkProblem(t, http.StatusForbidden, "")
	_, rejected := r.store.kept()
	if len(rejected) != 1 || rejected[0].SourceIP.IsValid() {
		t.Fatalf("kept %+v", rejected)
	}
	if diff := cmp.Diff("no_client_address: \ufffd\ufffd", rejected[0].Reason); diff != "" {
		t.Errorf("reason:\n%s", diff)
	}
}

func TestRejectedThatCannotBeKeptChangesNoAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*setup)
		status int
	}{
		"400": {nil, http.StatusBadRequest},
		"403": {rejectAll, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, tc.change)
			r.store.insertErr = errors.New("database away")
			if a := r.post("{}"); a.StatusCode != tc.status {
				t.Errorf("status %d, want %d", a.StatusCode, tc.status)
			}
			if r.logs.FilterMessage("a rejected callback could not be kept").Len() != 1 {
				t.Error("not logged")
			}
		})
	}
}

func TestRefusalsAreLoggedAFewASecond(t *testing.T) {
	c := newClock(time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC))
	r := start(t, func(s *setup) {
		rejectAll(s)
		s.options.Now = c.now
		s.options.RejectedPerHour = 0
	})
	const requests = 40
	for i := range requests {
		switch i % 3 {
		case 0:
			r.post("{}")
		case 1:
			r.get("http://" + r.addr + "/x")
		case 2:
			r.get("http://" + r.addr + callbackPath)
		}
	}
	if n := r.logs.Len(); n != 2*rejectedLines {
		t.Errorf("%d lines for %d rejections, want %d", n, requests, 2*rejectedLines)
	}
	c.add(time.Second)
	r.post("{}")
	lines := r.logs.All()
	last := lines[len(lines)-1].ContextMap()
	if last["suppressed"] != int64(requests-2*rejectedLines) {
		t.Errorf("the next line is %v, want it to say how many were suppressed", last)
	}
}

// Every rejection is counted by its code, never by something that a caller wrote.
func TestRefusalsAreCountedByReason(t *testing.T) {
	reason := ""
	r := start(t, func(s *setup) {
		s.options.MaxBodyBytes = 1000
		s.options.RejectedPerHour = 0 // counted although nothing is kept
		s.options.UserReferenceKey = "key"
		s.options.Check = func(*http.Request) (netip.Addr, string) { return allowedAddr, reason }
	})
	for _, reason = range []string{"address_not_allowed", "address_not_allowed", "no_client_address: 0x41", "made up"} {
		r.post(guideExample)
	}
	reason = ""
	for _, body := range []string{"", "{", "{} x", guideExample, strings.Repeat("x", 1001)} {
		r.post(body)
	}
	r.do(http.MethodPost, "http://"+r.addr+callbackPath, "", "workflowExecution.id=a&userReference=x.aaaaaaaaaaaaaaaaaaaaaa")
	want := map[string]int{
		"address_not_allowed": 2, "no_client_address": 1, "other": 1, "empty_body": 1, "truncated_json": 1, "trailing_data": 1,
		"user_reference_unsigned": 1, "user_reference_invalid": 1, "too_large": 1,
	}
	if diff := cmp.Diff(want, r.counted()["callbackd_refused_callbacks_total"]); diff != "" {
		t.Errorf("callbackd_refused_callbacks_total (-want +got):\n%s", diff)
	}
}
