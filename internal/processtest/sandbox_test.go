package processtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"callbackd/internal/sandbox"
)

const (
	sandboxClient = "sandbox-client"
	sandboxSecret = "sandbox-secret-QzX81"
)

// jumioSandbox is a running `callbackd sandbox`.
type jumioSandbox struct {
	*process
	url string
}

// startSandbox starts a sandbox whose callbacks seem to come through a load
// balancer from one of Jumio's addresses. Journeys are sent on request.
func startSandbox(t testing.TB, args ...string) *jumioSandbox {
	t.Helper()
	args = slices.Concat([]string{
		"sandbox", "--listen", "127.0.0.1:0", "--client-id", sandboxClient, "--client-secret", sandboxSecret,
		"--callback-header", "X-Forwarded-For: " + jumioAddress,
	}, args)
	s := &jumioSandbox{process: startCallbackd(t, nil, args...)}
	eventually(t, patience, func() error {
		for _, line := range s.stdout.lines() {
			if url, ok := strings.CutPrefix(line, "sandbox listening on "); ok {
				s.url = url
				return nil
			}
		}
		if !s.running() {
			t.Fatalf("the sandbox ended at its start: %s", s.stderr.String())
		}
		return fmt.Errorf("the sandbox does not listen yet: %s", s.stderr.String())
	})
	return s
}

// journeys is the body of POST /_sandbox/journeys.
type journeys struct {
	Kind          string   `json:"kind,omitempty"`
	Count         int      `json:"count,omitempty"`
	Faults        []string `json:"faults,omitempty"`
	CallbackURL   string   `json:"callback_url,omitempty"`
	UserReference string   `json:"user_reference,omitempty"`
	// Hold makes the journeys known without sending their callbacks.
	Hold bool `json:"hold,omitempty"`
}

// send starts journeys and returns them as they are before their callbacks.
func (s *jumioSandbox) send(wanted journeys) []sandbox.Entry {
	s.t.Helper()
	entries, err := s.trySend(wanted)
	if err != nil {
		s.t.Fatalf("start journeys: %v", err)
	}
	return entries
}

func (s *jumioSandbox) trySend(wanted journeys) (entries []sandbox.Entry, err error) {
	body, err := json.Marshal(wanted)
	if err != nil {
		return nil, err
	}
	a, err := tryPost(s.url+"/_sandbox/journeys", "", "application/json", string(body))
	if err != nil {
		return nil, err
	}
	if a.code != http.StatusAccepted {
		return nil, fmt.Errorf("answered %d %s", a.code, a.body)
	}
	return entries, json.Unmarshal([]byte(a.body), &entries)
}

// setFaults makes the sandbox misbehave for all requests; without faults, it
// behaves again.
func (s *jumioSandbox) setFaults(faults ...string) {
	s.t.Helper()
	body, err := json.Marshal(map[string][]string{"faults": faults})
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := tryPost(s.url+"/_sandbox/faults", "", "application/json", string(body))
	if err != nil {
		s.t.Fatalf("set the sandbox's faults: %v", err)
	}
	a.wantCode(s.t, http.StatusNoContent)
}

// sendOne starts one journey and returns its workflow execution's id.
func (s *jumioSandbox) sendOne(wanted journeys) string {
	s.t.Helper()
	return s.send(wanted)[0].WorkflowExecutionID
}

// sendHeld posts the callbacks of journeys that were held back, many at a time,
// and demands that each is answered with 200.
func (s *jumioSandbox) sendHeld(ids []string) {
	s.t.Helper()
	const senders = 32
	var group errgroup.Group
	group.SetLimit(senders)
	for _, id := range ids {
		group.Go(func() error {
			a, err := tryPost(s.url+"/_sandbox/journeys/"+id+"/callbacks", "", "application/json", "")
			if err == nil && a.code != http.StatusOK {
				err = errors.New(a.body)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		s.t.Fatalf("send the callbacks: %v", err)
	}
}

func (s *jumioSandbox) ledger() sandbox.Ledger {
	s.t.Helper()
	var l sandbox.Ledger
	decode(s.t, s.ask("/_sandbox/ledger"), &l)
	return l
}

func (s *jumioSandbox) entry(workflowExecution string) sandbox.Entry {
	s.t.Helper()
	var e sandbox.Entry
	decode(s.t, s.ask("/_sandbox/journeys/"+workflowExecution), &e)
	return e
}

func (s *jumioSandbox) ask(path string) *answer {
	s.t.Helper()
	a, err := get(s.url + path)
	if err != nil {
		s.t.Fatalf("ask the sandbox: %v", err)
	}
	return a.wantCode(s.t, http.StatusOK)
}

func decode(t testing.TB, a *answer, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), into); err != nil {
		t.Fatalf("decode the sandbox's answer: %v", err)
	}
}
