package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"callbackd/internal/jumio"
	"callbackd/internal/workflow"
)

const (
	// pollInterval is how often the display is brought up to date.
	pollInterval = 100 * time.Millisecond
	// forgerAddress is nobody's address (RFC 5737).
	forgerAddress = "203.0.113.66"
)

// Journey is one journey to start.
type Journey struct {
	Kind   string
	Faults []string // as sandbox.ParseFaults reads them; lostCallback is one
	Note   string   // what makes it difficult, for the report
	Erased bool     // in the end
}

// Journeys are those that the demo shows.
func Journeys() []Journey {
	return []Journey{
		{Kind: "passed-passport"},
		{Kind: "passed-id-card", Faults: []string{lostCallback}},
		{Kind: "passed-driving-license", Erased: true},
		{Kind: "passed-later-jumio"},
		{Kind: "passed-authentication"},
		{Kind: "image-checks-watermark-warning"},
		{Kind: "image-checks-punched"},
		{Kind: "liveness-digital-copy"},
		{Kind: "similarity-no-match"},
		{Kind: "session-expired"},
		{Kind: "token-expired", Faults: []string{lostCallback}},
		{Kind: "odd-nul-in-string", Note: `a name with \u0000, not for jsonb`},
		{Kind: "odd-foreign-href", Note: "an image's address leads to a foreign host"},
		{Kind: "passed-passport", Faults: []string{"details:404:6"}, Note: "404 for the details, in three attempts"},
		{Kind: "passed-id-card", Faults: []string{"details:429:1:retry-after=1s"}, Note: "429, Retry-After: 1"},
		{Kind: "passed-passport", Faults: []string{"details:not_final:2"}, Note: "details not final yet, twice"},
		{Kind: "passed-driving-license", Faults: []string{"image:truncated:2:part=FRONT"}, Note: "the front's image breaks off, twice"},
		{Kind: "passed-id-card", Faults: []string{"callback:duplicate:2", "callback:reordered"}, Note: "each callback three times, the last one first"},
		{Kind: "passed-id-card", Faults: []string{"image:404:0:part=BACK"}, Note: "the back's image is never available"},
		{Kind: "passed-passport", Faults: []string{"details:500:0"}, Note: "the details are never available"},
	}
}

// travel starts the journeys, sends a forged callback, shows how the journeys
// arrive, and reports. Its error wraps errNotArrived when something did not.
func (d *demo) travel(ctx context.Context) error {
	began := time.Now()
	started, err := d.start(ctx)
	if err != nil {
		return err
	}
	ids := make([]string, len(started))
	for i, created := range started {
		ids[i] = created.WorkflowExecutionID
	}
	forged, err := d.forge(ctx, ids[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(d.Out, "\n%d journeys (seed %d), %d callbacks lost, 1 forged:\n", len(ids), d.Seed, len(d.lost(ids)))
	unfinished, err := d.watch(ctx, started, ids, began)
	if err != nil {
		return err
	}
	r, err := d.readReport(ctx, ids, began, forged)
	if err != nil {
		return err
	}
	if err := d.print(r); err != nil {
		return err
	}
	problems := append(r.problems(), unfinished...)
	if n := d.sandbox.Ledger().Totals.CallbacksGivenUp; n > 0 {
		problems = append(problems, fmt.Sprintf("callbacks not answered with 200: %d", n))
	}
	if len(problems) > 0 {
		return fmt.Errorf("%w: %s", errNotArrived, strings.Join(problems, ", "))
	}
	for i, planned := range d.Journeys {
		if planned.Erased {
			return d.erase(ctx, userReference(i), started[i])
		}
	}
	return nil
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
		"workflowExecution": map[string]string{"id": workflowExecutionID, "status": workflow.StatusTokenExpired},
	})
	if err != nil {
		return forgery{}, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, d.callbackURL, bytes.NewReader(body))
	if err != nil {
		return forgery{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("X-Forwarded-For", jumioAddress+", "+forgerAddress)
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

// watch lets people finish their journeys and shows how these arrive, until all
// have or the time is over. problems says what went wrong on the way.
func (d *demo) watch(parent context.Context, started []*jumio.Creation, ids []string, began time.Time) (problems []string, err error) {
	ctx, cancel := context.WithTimeout(parent, d.Timeout)
	defer cancel()
	finished := make(chan []string, 1)
	go func() { finished <- d.finish(ctx, started) }()

	p := &progress{out: d.Out, live: d.terminal.live, all: counts{received: len(ids) - len(d.lost(ids)), finished: len(ids)}}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		now, err := d.count(ctx, ids, began)
		switch {
		case parent.Err() != nil:
			return nil, context.Cause(parent)
		case ctx.Err() != nil: // the report tells what is missing
			return append(problems, fmt.Sprintf("not all within %s", d.Timeout)), nil
		case err != nil:
			return nil, err
		}
		over := finished == nil && now.finished == len(ids)
		p.all.images = d.imagesServed()
		p.show(now, over, time.Now())
		if over {
			return problems, nil
		}
		select {
		case problems = <-finished:
			finished = nil
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// imagesServed is how many images the journeys have that are finished so far.
func (d *demo) imagesServed() (n int) {
	for _, entry := range d.sandbox.Ledger().Journeys {
		n += len(entry.Expected.Images)
	}
	return n
}
