package fetcher

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"

	"callbackd/internal/store"
)

// retrievalArgs name one retrieval. They hold ids only: River keeps them in
// its table for a day.
type retrievalArgs struct {
	WorkflowExecutionID string `json:"workflow_execution_id"`
	Generation          int    `json:"generation"`
	// Refetch: an operator wants the details, whatever the status; of AccountID,
	// if that is set, whatever callbacks have said.
	Refetch   bool   `json:"refetch,omitempty"`
	AccountID string `json:"account_id,omitempty"`

	// attempt and notBefore carry the attempt's number and Jumio's Retry-After
	// from an attempt to NextRetry, which River calls with the same job.
	attempt   int
	notBefore time.Time
}

// Kind is the name of the job in River's table.
func (retrievalArgs) Kind() string { return "retrieval" }

// riverAttempts is how many runs River grants a job. Attempts are counted in the
// workflow execution's row, which outlives the job.
const riverAttempts = 1000

// The priorities of jobs: what is more likely to help somebody goes first, so that
// a flood of callbacks for nothing delays nobody but itself.
const (
	priorityKnown    = 1 // of an account that Jumio has told us of, or wanted by an operator
	priorityFirst    = 2 // a first attempt
	priorityContinue = 3 // a further attempt, after one that got something or of a known account
	priorityRetry    = 4 // any other further attempt
)

// Schedule is the delay before each attempt, the first one's included; its
// length is the number of attempts (guide, "Retrieval", Best Practices). It is
// River's retry policy.
type Schedule []time.Duration

// Attempts is how many attempts a retrieval has.
func (s Schedule) Attempts() int { return len(s) }

// Length is the sum of the delays: how long a retrieval may take in which Jumio
// answers at once, but only the last attempt succeeds.
func (s Schedule) Length() time.Duration {
	var sum time.Duration
	for _, delay := range s {
		sum += delay
	}
	return sum
}

// Next is the time of the attempt after the given one, which failed now. A
// server's wish to be left alone until notBefore is obeyed.
func (s Schedule) Next(attempt int, now, notBefore time.Time) time.Time {
	next := now
	if attempt < len(s) {
		next = now.Add(s[attempt])
	}
	if notBefore.After(next) {
		return notBefore
	}
	return next
}

// NextRetry implements river.ClientRetryPolicy, for jobs whose arguments
// cannot be read.
func (s Schedule) NextRetry(job *rivertype.JobRow) time.Time {
	return s.Next(job.Attempt, time.Now(), time.Time{})
}

// enqueue adds a job for each retrieval, due after the first delay, with what
// metadata gives for it.
func (f *Fetcher) enqueue(ctx context.Context, tx pgx.Tx, retrievals []store.Retrieval, metadata func(store.Retrieval) []byte) error {
	return insertJobs(ctx, f.river, tx, f.schedule, retrievals, retrievalArgs{}, metadata)
}

// insertJobs adds a job for each retrieval, with these arguments besides its own.
func insertJobs(ctx context.Context, client *river.Client[pgx.Tx], tx pgx.Tx, schedule Schedule, retrievals []store.Retrieval, args retrievalArgs, metadata func(store.Retrieval) []byte) error {
	opts := river.InsertOpts{MaxAttempts: riverAttempts}
	if schedule[0] > 0 {
		opts.ScheduledAt = time.Now().Add(schedule[0])
	}
	jobs := make([]river.InsertManyParams, len(retrievals))
	for i, r := range retrievals {
		opts := opts
		opts.Metadata = metadata(r)
		opts.Priority = priorityFirst
		if r.Known {
			opts.Priority = priorityKnown
		}
		args := args
		args.WorkflowExecutionID, args.Generation = r.WorkflowExecutionID, r.Generation
		jobs[i] = river.InsertManyParams{Args: args, InsertOpts: &opts}
	}
	if _, err := client.InsertManyFastTx(ctx, tx, jobs); err != nil {
		return fmt.Errorf("enqueue retrievals: %w", err)
	}
	return nil
}
