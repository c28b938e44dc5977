// Package queue holds the jobs: River's client, the kinds of jobs and their priorities.
// A job is enqueued in the transaction that stores its cause and completed in the one
// that stores its result.
//
// What a job does is up to the package that adds its worker.
package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivertype"
	"go.uber.org/zap"

	"callbackd/internal/store"
	"callbackd/internal/workflow"
)

const (
	schema = "callbackd"

	// AttemptTimeout bounds a job's run.
	AttemptTimeout = 100 * time.Second
	// RescueAfter is when a job that is still running counts as a dead worker's. River
	// checks every 30 s, so another worker takes over within 3 minutes. After
	// AttemptTimeout, a run has the remaining time to store its outcome.
	RescueAfter = 120 * time.Second

	// periodicQueue has the periodic jobs, apart so that retrievals do not delay them.
	periodicQueue = "periodic"

	// maxRuns bounds a job's runs in River. It is never reached: the workflow
	// execution's row, which outlives the job, counts the attempts.
	maxRuns = 1000
)

// The priorities of jobs. The more likely a job is to succeed, the sooner it runs, so
// that a flood of forged callbacks mostly delays itself.
const (
	PriorityKnown    = 1 // an account that Jumio has confirmed, or a refetch
	PriorityFirst    = 2 // a first attempt
	PriorityContinue = 3 // a later attempt, for a known account or after some success
	PriorityRetry    = 4 // any other later attempt
)

// Options are the settings of a Queue.
type Options struct {
	Schedule workflow.Schedule
	// Workers is how many jobs run at a time.
	Workers int
	// StopTimeout is how long jobs may keep running after Stop.
	StopTimeout time.Duration
	Log         *zap.Logger
}

// Queue enqueues jobs, and runs them from Start until Stop.
type Queue struct {
	client   *river.Client[pgx.Tx]
	driver   *driver
	workers  *river.Workers
	schedule workflow.Schedule
}

// New creates a queue; nothing runs before Start.
func New(db *store.DB, o Options) (*Queue, error) {
	return newQueue(db, o.Schedule, &river.Config{
		Queues: map[string]river.QueueConfig{
			river.QueueDefault: {MaxWorkers: o.Workers},
			periodicQueue:      {MaxWorkers: 2}, // so that one that hangs does not hold up the next
		},
		Workers:              river.NewWorkers(),
		RetryPolicy:          retryPolicy{o.Schedule},
		JobTimeout:           AttemptTimeout,
		RescueStuckJobsAfter: RescueAfter,
		SoftStopTimeout:      o.StopTimeout,
		FetchCooldown:        5 * time.Millisecond,
		FetchPollInterval:    500 * time.Millisecond,
		// Without the two indexes that the migrations drop.
		ReindexerIndexNames: []string{
			"river_job_kind", "river_job_pkey", "river_job_prioritized_fetching_index",
			"river_job_state_and_finalized_at_index", "river_job_unique_idx",
		},
		Logger: riverLogger(o.Log),
	})
}

// NewInserter creates a queue that only enqueues, for a command.
func NewInserter(db *store.DB, schedule workflow.Schedule) (*Queue, error) {
	return newQueue(db, schedule, &river.Config{})
}

func newQueue(db *store.DB, schedule workflow.Schedule, c *river.Config) (*Queue, error) {
	c.Schema = schema
	driver := &driver{Driver: riverpgxv5.New(db.Pool()), woken: make(chan struct{}, 1)}
	client, err := river.NewClient(driver, c)
	if err != nil {
		return nil, fmt.Errorf("set up the job queue: %w", err)
	}
	return &Queue{client: client, driver: driver, workers: c.Workers, schedule: schedule}, nil
}

// AddWorker adds the worker of a kind of job. Call it before Start.
func AddWorker[T river.JobArgs](q *Queue, w river.Worker[T]) { river.AddWorker(q.workers, w) }

// AddPeriodic has one job of the kind run at the start and then at each interval, by one
// of all workers. Call it before Start. Jobs are not repeated: the next one comes soon.
func AddPeriodic[T river.JobArgs](q *Queue, interval time.Duration, args T, w river.Worker[T]) {
	river.AddWorker(q.workers, w)
	q.client.PeriodicJobs().Add(river.NewPeriodicJob(river.PeriodicInterval(interval), func() (river.JobArgs, *river.InsertOpts) {
		return args, &river.InsertOpts{Queue: periodicQueue, MaxAttempts: 1}
	}, &river.PeriodicJobOpts{RunOnStart: true}))
}

// Start begins to run jobs. It needs the database.
func (q *Queue) Start(ctx context.Context) error {
	// The end of ctx would cancel the jobs; Stop ends them softly.
	if err := q.client.Start(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start the job queue: %w", err)
	}
	return nil
}

// Stop starts no more jobs, and cancels those that still run after StopTimeout. ctx
// bounds how long it takes.
func (q *Queue) Stop(ctx context.Context) error {
	err := q.client.Stop(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("stop the running jobs: %w", err), q.client.StopAndCancel(ctx))
	}
	return err
}

// Wake makes River fetch jobs now.
func (q *Queue) Wake() { q.driver.wake() }

// Retrieval is the arguments of a retrieval's job: only ids, because River keeps them
// for a day.
type Retrieval struct {
	WorkflowExecutionID string `json:"workflow_execution_id"`
	Generation          int    `json:"generation"`
	// Refetch means that an operator wants the details whatever the status, and
	// from AccountID, unless that is empty, whatever the callbacks say.
	Refetch   bool   `json:"refetch,omitempty"`
	AccountID string `json:"account_id,omitempty"`

	// Attempt and NotBefore pass the attempt's number and Jumio's Retry-After on to
	// NextRetry, which River calls with the same job.
	Attempt   int       `json:"-"`
	NotBefore time.Time `json:"-"`
}

// RetrievalKind is the kind of a retrieval's job in River's table.
const RetrievalKind = "retrieval"

// Kind implements river.JobArgs.
func (Retrieval) Kind() string { return RetrievalKind }

// retryPolicy is for jobs whose arguments cannot be read. For others, River asks the
// worker.
type retryPolicy struct{ workflow.Schedule }

// NextRetry implements river.ClientRetryPolicy.
func (p retryPolicy) NextRetry(job *rivertype.JobRow) time.Time {
	return p.Next(job.Attempt, time.Now(), time.Time{})
}

// Metadata returns the traceparent of the span that caused a retrieval (W3C Trace
// Context, section 3.2), for its job's metadata.
type Metadata func(workflow.Retrieval) (traceparent string)

// ReadTraceparent returns the traceparent in a job's metadata, empty if there is none.
func ReadTraceparent(job *rivertype.JobRow) string {
	var m metadata
	_ = json.Unmarshal(job.Metadata, &m)
	return m.Traceparent
}

type metadata struct {
	Traceparent string `json:"traceparent,omitempty"`
}

// Enqueue adds a job for each retrieval, due after the schedule's first delay. The jobs
// get the ids of their retrievals and the other arguments from args; traceparent may be
// nil. After the commit, the workers are woken.
func (q *Queue) Enqueue(ctx context.Context, tx *store.Tx, retrievals []workflow.Retrieval, args Retrieval, traceparent Metadata) error {
	if len(retrievals) == 0 {
		return nil
	}
	var due time.Time // now
	if q.schedule[0] > 0 {
		due = time.Now().Add(q.schedule[0])
	}
	jobs := make([]river.InsertManyParams, len(retrievals))
	for i, r := range retrievals {
		opts := &river.InsertOpts{MaxAttempts: maxRuns, ScheduledAt: due, Priority: PriorityFirst}
		if r.Known || args.Refetch {
			opts.Priority = PriorityKnown
		}
		if traceparent != nil {
			opts.Metadata, _ = json.Marshal(metadata{traceparent(r)}) // a string never fails
		}
		args.WorkflowExecutionID, args.Generation = r.WorkflowExecutionID, r.Generation
		jobs[i] = river.InsertManyParams{Args: args, InsertOpts: opts}
	}
	if _, err := q.client.InsertManyFastTx(ctx, tx.Tx, jobs); err != nil {
		return fmt.Errorf("enqueue retrievals: %w", err)
	}
	tx.AfterCommit(q.Wake)
	tx.AfterCommit(func() { tx.DB.Wake(store.Jobs) })
	return nil
}

// Complete marks the job as completed in the transaction, unless it no longer runs.
// River's JobCompleteTx has a statement for many jobs of every state, which Postgres plans
// anew each time: a twentieth of all that a retrieval costs.
func Complete(ctx context.Context, tx *store.Tx, jobID int64) error {
	_, err := tx.Exec(ctx, `UPDATE callbackd.river_job SET state = 'completed', finalized_at = clock_timestamp()
		WHERE id = $1 AND state = 'running'`, jobID)
	return err
}

// SetPriority sets the priority of the job's later runs in the transaction.
func SetPriority(ctx context.Context, tx *store.Tx, jobID int64, priority int) error {
	_, err := tx.Exec(ctx, `UPDATE callbackd.river_job SET priority = $2 WHERE id = $1`, jobID, priority)
	return err
}
