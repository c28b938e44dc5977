package demo

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"callbackd/internal/jumio"
	"callbackd/internal/workflow"
)

const (
	// perSecond journeys are finished, slowly enough to be watched.
	perSecond = 10
	// dataCenter is where the journeys are started.
	dataCenter = "amer-1"
	// speed is how many times faster than at Jumio the stand-in's tokens and sessions
	// expire, so that nobody has to wait for half an hour.
	speed = 600
	// neverBegun is the token's lifetime of those who never begin, begun that of others.
	neverBegun, begun = "5m", "60d"
	// sessionTimeout and reconcileGrace are Jumio's and callbackd's own at this speed.
	sessionTimeout, reconcileGrace = 15 * time.Minute / speed, 5 * time.Minute / speed
	// expectedWithin is when everybody should have begun: Jumio is asked for a journey
	// this long after its start, a session's time-out and a grace.
	expectedWithin = 30 * time.Minute / speed
	// lostCallback is the fault of a journey whose end no callback tells.
	lostCallback = "callback:lost"
)

// definitions are the keys of the workflow definitions that the kinds have, where it
// is not 3.
var definitions = map[string]int{"passed-driving-license": 2, "passed-authentication": 9, "passed-later-jumio": 32}

// ends are the kinds that come about by what the user does not do.
var ends = map[string]string{"token-expired": workflow.StatusTokenExpired, "session-expired": workflow.StatusSessionExpired}

// atOnce is the budget of the demo's own requests: the stand-in has no limit.
type atOnce struct{}

func (atOnce) Wait(ctx context.Context, _ string, _ jumio.Class) error { return ctx.Err() }

// lost are the ids of the journeys whose callbacks are lost.
func (d *demo) lost(ids []string) []string {
	var lost []string
	for i, planned := range d.Journeys {
		if planned.isLost() {
			lost = append(lost, ids[i])
		}
	}
	return lost
}

func (j Journey) isLost() bool { return slices.Contains(j.Faults, lostCallback) }

// start starts the journeys as a service does: each is created at Jumio, and its
// callback expected.
func (d *demo) start(ctx context.Context) ([]*jumio.Creation, error) {
	started := make([]*jumio.Creation, len(d.Journeys))
	ids := make([]string, len(d.Journeys))
	for i, planned := range d.Journeys {
		order := d.order(i, planned)
		body, err := order.Encode()
		if err != nil {
			return nil, fmt.Errorf("write the request for a journey: %w", err)
		}
		if started[i], err = d.jumio.CreateAccount(ctx, dataCenter, body); err != nil {
			return nil, fmt.Errorf("start a journey %s: %w", planned.Kind, err)
		}
		ids[i] = started[i].WorkflowExecutionID
		if _, err = d.pool.Exec(ctx, `SELECT jumio.expect($1, $2, $3, $4, $5, $6)`, ids[i], started[i].AccountID, dataCenter,
			order.UserReference(), order.DefinitionKey(), expectedWithin); err != nil {
			return nil, fmt.Errorf("expect a journey: %w", err)
		}
	}
	var again bool
	if err := d.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM jumio.expectations WHERE workflow_execution_id = ANY($1::text[])
		AND state <> 'expected')`, d.lost(ids)).Scan(&again); err != nil {
		return nil, fmt.Errorf("look for an earlier run: %w", err)
	}
	if again {
		return nil, fmt.Errorf("the database has the journeys of seed %d from an earlier run, and knows how those without a callback ended; choose another seed", d.Seed)
	}
	return started, nil
}

// order is the request that starts a journey. Words of its reportingCriteria tell the
// stand-in how the journey ends.
func (d *demo) order(i int, planned Journey) jumio.Initiation {
	var words []string
	lifetime := begun
	switch ends[planned.Kind] {
	case "":
		words = append(words, "kind="+planned.Kind)
	case workflow.StatusTokenExpired:
		lifetime = neverBegun
	}
	for _, fault := range planned.Faults {
		words = append(words, "fault="+fault)
	}
	key := json.Number(strconv.Itoa(cmp.Or(definitions[planned.Kind], 3)))
	return jumio.Initiation{
		"customerInternalReference": fmt.Sprintf("order-%d", 1001+i),
		"workflowDefinition":        map[string]any{"key": key},
		jumio.ParamUserReference:    userReference(i),
		jumio.ParamCallbackURL:      d.callbackURL,
		"reportingCriteria":         strings.Join(words, " "),
		"tokenLifetime":             lifetime,
	}
}

func userReference(i int) string { return fmt.Sprintf("user-%d", 1001+i) }

// finish does what the people do: most take their pictures and end their journey, one
// leaves after the first picture, one never begins. The stand-in then posts callbacks.
// It returns what went wrong before ctx ended.
func (d *demo) finish(ctx context.Context, started []*jumio.Creation) (problems []string) {
	limiter := rate.NewLimiter(perSecond, 1)
	for i, created := range started {
		if limiter.Wait(ctx) != nil {
			break
		}
		var err error
		switch ends[d.Journeys[i].Kind] {
		case workflow.StatusSessionExpired:
			err = d.takePicture(ctx, created)
		case "":
			err = d.finalize(ctx, created)
		}
		if err != nil && ctx.Err() == nil {
			problems = append(problems, userReference(i)+" could not finish: "+err.Error())
		}
	}
	return problems
}

func (d *demo) finalize(ctx context.Context, created *jumio.Creation) error {
	link, err := d.jumio.FinalizeLink(created)
	if err == nil {
		_, err = d.jumio.Finalize(ctx, link)
	}
	return err
}

// takePicture uploads the front of a document.
func (d *demo) takePicture(ctx context.Context, created *jumio.Creation) error {
	i := slices.IndexFunc(created.Credentials, func(c jumio.CreatedCredential) bool { return c.Category == "ID" })
	if i < 0 {
		return errors.New("the workflow has no document")
	}
	link, err := d.jumio.UploadLink(created, &created.Credentials[i], "FRONT")
	if err != nil {
		return err
	}
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 64, 40))); err != nil {
		return err
	}
	file, err := jumio.NewFile(bytes.NewReader(picture.Bytes()), int64(picture.Len()))
	if err == nil {
		_, err = d.jumio.Upload(ctx, link, file)
	}
	return err
}
