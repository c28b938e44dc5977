package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	journeyKind   = "passed-passport"
	imagesEach    = 3 // of that kind
	detailsBytes  = 6 << 10
	imageBytes    = 200 << 10
	bigImageBytes = 10 << 20
	// retrievalWorkers is callbackd's default, and the bare loop's number of
	// goroutines.
	retrievalWorkers = 8
	// retrievalPatience is how long all retrievals of a run may take.
	retrievalPatience = 5 * time.Minute
)

// journey is one of the sandbox's, to be retrieved.
type journey struct {
	WorkflowExecutionID string `json:"workflow_execution_id"`
	AccountID           string `json:"account_id"`
	DataCenter          string `json:"data_center"`
}

// retrieved is how fast one side retrieved.
type retrieved struct {
	table  string  // where it stores images
	rate   float64 // workflows a second
	memory float64 // MiB at the peak; 0 where unknown
	// wal and size are the bytes of WAL and of the database that one workflow took.
	wal, size float64
}

// retrieval compares callbackd's with the bare loop, interleaved. Both have the
// same sandbox, as many goroutines, and download the same bytes.
func (b *bench) retrieval(ctx context.Context) (err error) {
	sandbox, err := b.startSandbox(ctx, imageBytes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.stop()) }()
	var own, bare []float64
	for round := range b.rounds {
		r, err := b.retrieve(ctx, sandbox, imageBytes, b.workflows, b.retrieveWithCallbackd)
		if err != nil {
			return fmt.Errorf("callbackd: %w", err)
		}
		loop, err := b.retrieve(ctx, sandbox, imageBytes, b.workflows, b.retrieveWithBareLoop)
		if err != nil {
			return fmt.Errorf("bare loop: %w", err)
		}
		b.progress("retrieval %d/%d  callbackd %.0f workflows/s, bare loop %.0f", round+1, b.rounds, r.rate, loop.rate)
		own, bare = append(own, r.rate), append(bare, loop.rate)
	}
	b.results.compare(figure{
		What: "retrieved workflows/s", Value: median(own), Unit: "/s",
		OverWhat: "a bare loop", Over: median(bare), atLeast: 0.7,
	})
	return nil
}

// images measures the worker's memory with large images.
func (b *bench) images(ctx context.Context) (err error) {
	sandbox, err := b.startSandbox(ctx, bigImageBytes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sandbox.stop()) }()
	r, err := b.retrieve(ctx, sandbox, bigImageBytes, b.bigWorkflows, b.retrieveWithCallbackd)
	if err != nil {
		return err
	}
	b.progress("images  %.0f MiB, %.1f workflows/s", r.memory, r.rate)
	if r.memory > 0 {
		b.results.judge(figure{
			What: fmt.Sprintf("memory, %d workers, images of %d MiB", retrievalWorkers, bigImageBytes>>20), Value: r.memory, Unit: "MiB",
			Target: "< 256 MiB",
		}, r.memory < 256)
	}
	return nil
}

// startSandbox starts a stand-in for Jumio that has details of about
// detailsBytes, images of that size, and no limit on requests.
func (b *bench) startSandbox(ctx context.Context, size int) (*server, error) {
	return b.startServer(ctx, "the sandbox", "/_sandbox/kinds", func(address string) *exec.Cmd {
		return exec.CommandContext(ctx, b.callbackd, "sandbox", "--listen", address, "--log-level", "error", //nolint:gosec // built before
			"--fast-images", "--image-bytes", strconv.Itoa(size), "--details-bytes", strconv.Itoa(detailsBytes), "--max-journeys", "1000000", "--intermediate", "0")
	})
}

// retrieve has new journeys retrieved into a fresh database.
func (b *bench) retrieve(ctx context.Context, sandbox *server, size, workflows int,
	how func(context.Context, *server, string, int) (retrieved, error),
) (r retrieved, err error) {
	err = b.withDatabase(ctx, func(dsn string) error {
		if r, err = how(ctx, sandbox, dsn, workflows); err != nil {
			return err
		}
		return checkImages(ctx, dsn, r.table, workflows, size)
	})
	return r, err
}

// newJourneys makes journeys that the sandbox answers for. It posts their
// callbacks to the URL; without one it sends nothing.
func newJourneys(ctx context.Context, sandbox *server, n int, callbackURL string) ([]journey, error) {
	body, err := json.Marshal(map[string]any{"kind": journeyKind, "count": n, "callback_url": callbackURL, "hold": callbackURL == ""})
	if err != nil {
		return nil, err
	}
	var journeys []journey
	answer, err := request(ctx, &http.Client{}, http.MethodPost, "http://"+sandbox.address+"/_sandbox/journeys", body, http.StatusAccepted)
	if err == nil {
		err = json.Unmarshal(answer, &journeys)
	}
	if err != nil {
		return nil, fmt.Errorf("make journeys: %w", err)
	}
	return journeys, nil
}

// retrieveWithCallbackd is retrieveWith with callbackd's defaults.
func (b *bench) retrieveWithCallbackd(ctx context.Context, sandbox *server, dsn string, workflows int) (retrieved, error) {
	return b.retrieveWith(ctx, sandbox, dsn, workflows)
}

// retrieveWith counts from just before the sandbox sends the first
// callback until the last workflow execution is retrieved.
func (b *bench) retrieveWith(ctx context.Context, sandbox *server, dsn string, workflows int, env ...string) (r retrieved, err error) {
	s, err := b.startCallbackd(ctx, dsn, append(workerSettings("http://"+sandbox.address), env...)...)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	if err := awaitPartitions(ctx, dsn); err != nil {
		return r, err
	}
	wal, size, err := written(ctx, dsn)
	if err != nil {
		return r, err
	}
	began := time.Now()
	if _, err := newJourneys(ctx, sandbox, workflows, s.url()); err != nil {
		return r, err
	}
	var last time.Time
	err = query(ctx, dsn, func(conn *pgx.Conn) error {
		return poll(ctx, retrievalPatience, 50*time.Millisecond, "the retrievals to end", func() (bool, error) {
			var done, bad int
			err := conn.QueryRow(ctx, `SELECT count(*) FILTER (WHERE retrieval_state = 'retrieved'),
				count(*) FILTER (WHERE retrieval_state NOT IN ('retrieved', 'pending')), coalesce(max(retrieved_at), now())
				FROM jumio.workflow_executions`).Scan(&done, &bad, &last)
			if err == nil && bad > 0 {
				err = fmt.Errorf("%d retrievals have failed", bad)
			}
			return done == workflows, err
		})
	})
	if err != nil {
		return r, err
	}
	walAfter, sizeAfter, err := written(ctx, dsn)
	n := float64(workflows)
	return retrieved{"jumio.images", n / last.Sub(began).Seconds(), peakMemory(s.cmd.Process.Pid), (walAfter - wal) / n, (sizeAfter - size) / n}, err
}

// awaitPartitions waits until a fresh database has its partitions, which is not a
// retrieval's work.
func awaitPartitions(ctx context.Context, dsn string) error {
	return query(ctx, dsn, func(conn *pgx.Conn) error {
		return poll(ctx, retrievalPatience, 50*time.Millisecond, "the partitions", func() (made bool, err error) {
			err = conn.QueryRow(ctx, `SELECT bool_and((SELECT count(*) FROM pg_inherits AS i WHERE i.inhparent = c.oid) > 4)
				FROM pg_class AS c WHERE c.relnamespace = 'callbackd'::regnamespace AND c.relkind = 'p'`).Scan(&made)
			return made, err
		})
	})
}

// retrieveWithBareLoop runs the bare loop, which times itself.
func (b *bench) retrieveWithBareLoop(ctx context.Context, sandbox *server, dsn string, workflows int) (r retrieved, err error) {
	journeys, err := newJourneys(ctx, sandbox, workflows, "")
	if err != nil {
		return r, err
	}
	task, err := json.Marshal(bareTask{BaseURL: "http://" + sandbox.address, Journeys: journeys})
	if err != nil {
		return r, err
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, b.self, "baseline", "bareloop") //nolint:gosec // ourselves
	cmd.Env = []string{"DATABASE_URL=" + dsn}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(task), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return r, fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	seconds, err := strconv.ParseFloat(stdout.String(), 64)
	if err != nil {
		return r, fmt.Errorf("read its result: %w", err)
	}
	return retrieved{table: "bench.images", rate: float64(workflows) / seconds}, nil
}

// checkImages: every image is there, whole.
func checkImages(ctx context.Context, dsn, table string, workflows, size int) error {
	var images, octets int
	err := scan(ctx, dsn, "SELECT count(*), coalesce(sum(octet_length(data)), 0) FROM "+table, nil, &images, &octets)
	if err != nil {
		return fmt.Errorf("count the images: %w", err)
	}
	if want := workflows * imagesEach; images != want || octets != want*size {
		return fmt.Errorf("%d images of %d bytes together, want %d of %d each", images, octets, want, size)
	}
	return nil
}
