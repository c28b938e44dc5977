package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"callbackd/internal/sandbox"
)

const (
	// demoPerSecond journeys are started, slowly enough to be watched.
	demoPerSecond = 10
	// demoPoll is how often the display is brought up to date.
	demoPoll = 100 * time.Millisecond
	// demoForger is nobody's address (RFC 5737).
	demoForger = "203.0.113.66"
)

// demoJourney is one journey to send.
type demoJourney struct {
	kind   string
	faults []string // as sandbox.ParseFault reads them
	note   string   // what makes it difficult, for the report
}

var demoJourneys = []demoJourney{
	{kind: "passed-passport"},
	{kind: "passed-id-card"},
	{kind: "passed-driving-license"},
	{kind: "passed-later-jumio"},
	{kind: "passed-authentication"},
	{kind: "image-checks-watermark-warning"},
	{kind: "image-checks-punched"},
	{kind: "liveness-digital-copy"},
	{kind: "similarity-no-match"},
	{kind: "session-expired"},
	{kind: "token-expired"},
	{kind: "odd-nul-in-string", note: `a name with \u0000, not for jsonb`},
	{kind: "odd-foreign-href", note: "an image's address leads to a foreign host"},
	{kind: "passed-passport", faults: []string{"details:404:6"}, note: "404 for the details, in three attempts"},
	{kind: "passed-id-card", faults: []string{"details:429:1:retry-after=1s"}, note: "429, Retry-After: 1"},
	{kind: "passed-passport", faults: []string{"details:not_final:2"}, note: "details not final yet, twice"},
	{kind: "passed-driving-license", faults: []string{"image:truncated:2:part=FRONT"}, note: "the front's image breaks off, twice"},
	{kind: "passed-id-card", faults: []string{"callback:duplicate:2", "callback:reordered"}, note: "each callback thrice, the last one first"},
	{kind: "passed-id-card", faults: []string{"image:404:0:part=BACK"}, note: "the back's image is never to be had"},
	{kind: "passed-passport", faults: []string{"details:500:0"}, note: "the details are never to be had"},
}

// travel sends the journeys and a forged callback, shows how they arrive, and
// reports. Its error wraps errNotArrived when something did not.
func (d *demo) travel(ctx context.Context) error {
	journeys, err := d.prepare()
	if err != nil {
		return err
	}
	ids := make([]string, len(journeys))
	for i, j := range journeys {
		ids[i] = j.WorkflowExecutionID
	}
	began := time.Now()
	forged, err := d.forge(ctx, ids[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "\n%d journeys (seed %d), and one forged callback:\n", len(journeys), d.seed)
	sendError, err := d.watch(ctx, journeys, ids, began)
	if err != nil {
		return err
	}
	r, err := d.readReport(ctx, ids, began, forged)
	if err != nil {
		return err
	}
	r.print(d.out)
	problems := r.problems()
	if sendError != nil {
		problems = append(problems, sendError.Error())
	}
	if len(problems) > 0 {
		return fmt.Errorf("%w: %s", errNotArrived, strings.Join(problems, ", "))
	}
	return nil
}

// prepare makes the journeys known to the stand-in.
func (d *demo) prepare() ([]*sandbox.Journey, error) {
	journeys := make([]*sandbox.Journey, len(d.journeys))
	for i, planned := range d.journeys {
		faults := make([]sandbox.Fault, len(planned.faults))
		var err error
		for f, text := range planned.faults {
			if faults[f], err = sandbox.ParseFault(text); err != nil {
				return nil, err
			}
		}
		journeys[i], err = d.sandbox.NewJourney(planned.kind, sandbox.WithFaults(faults...), sandbox.WithCallbackURL(d.callbackURL()))
		if err != nil {
			return nil, err
		}
	}
	return journeys, nil
}

// forgery is the answer to the forged callback.
type forgery struct {
	status    int
	requestID uuid.UUID
}

// forge posts what Jumio never sent. The forger claims Jumio's address; the
// load balancer adds the true one behind it, as load balancers do.
func (d *demo) forge(ctx context.Context, workflowExecutionID string) (forgery, error) {
	body, err := json.Marshal(map[string]any{
		"callbackSentAt":    time.Now().UTC().Add(time.Hour).Format(time.RFC3339),
		"workflowExecution": map[string]string{"id": workflowExecutionID, "status": sandbox.StatusTokenExpired},
	})
	if err != nil {
		return forgery{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.callbackURL(), bytes.NewReader(body))
	if err != nil {
		return forgery{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Forwarded-For", demoJumioAddress+", "+demoForger)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	answer, err := client.Do(request)
	if err != nil {
		return forgery{}, fmt.Errorf("post the forged callback: %w", err)
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, answer.Body) // says nothing more
	id, err := uuid.Parse(answer.Header.Get("X-Request-Id"))
	if err != nil {
		return forgery{}, fmt.Errorf("read the request id of the forged callback: %w", err)
	}
	return forgery{answer.StatusCode, id}, nil
}

// watch sends the journeys and shows how they arrive, until all have or the
// time is over. sendError says which callbacks were not answered with 200.
func (d *demo) watch(parent context.Context, journeys []*sandbox.Journey, ids []string, began time.Time) (sendError, err error) {
	ctx, cancel := context.WithTimeout(parent, d.timeout)
	defer cancel()
	all := demoCounts{received: len(journeys), finished: len(journeys)}
	for _, entry := range d.sandbox.Ledger().Journeys {
		all.images += len(entry.Expected.Images)
	}
	sent := make(chan error, 1)
	go func() { sent <- d.sandbox.SendAll(ctx, journeys, demoPerSecond) }()

	p := newDemoProgress(d.out, all)
	tick := time.NewTicker(demoPoll)
	defer tick.Stop()
	for {
		now, err := d.count(ctx, ids, began)
		switch {
		case parent.Err() != nil:
			return nil, context.Cause(parent)
		case ctx.Err() != nil: // the report tells what is missing
			return errors.Join(sendError, fmt.Errorf("not all within %s", d.timeout)), nil
		case err != nil:
			return nil, err
		}
		over := sent == nil && now.finished == len(journeys)
		p.show(now, over, time.Now())
		if over {
			return sendError, nil
		}
		select {
		case sendError = <-sent:
			sent = nil
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// problems names what did not end as it should.
func (r *demoReport) problems() []string {
	var problems []string
	for _, expected := range r.expected {
		i := slices.IndexFunc(r.rows, func(row demoRow) bool { return row.ID == expected.WorkflowExecutionID })
		if i < 0 {
			problems = append(problems, r.short(expected.WorkflowExecutionID)+" was not received")
			continue
		}
		want := make([]string, len(expected.Expected.Images))
		for n, image := range expected.Expected.Images {
			want[n] = image.CredentialID + " " + image.Classifier + " " + image.SHA256
		}
		slices.Sort(want)
		switch row := r.rows[i]; {
		case row.State != string(expected.Expected.State):
			problems = append(problems, fmt.Sprintf("%s (%s) is %s instead of %s", r.short(row.ID), expected.Kind, row.State, expected.Expected.State))
		case !slices.Equal(want, slices.Sorted(slices.Values(row.Images))):
			problems = append(problems, fmt.Sprintf("%s (%s) has other images than the stand-in served", r.short(row.ID), expected.Kind))
		}
	}
	switch {
	case r.forged.status != http.StatusForbidden:
		problems = append(problems, fmt.Sprintf("the forged callback got %d", r.forged.status))
	case r.refused.Address != demoForger:
		problems = append(problems, fmt.Sprintf("the forged callback got 403, kept as from %q", r.refused.Address))
	}
	return problems
}
