package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"callbackd/internal/jumio"
)

// erasureKey is no secret: a database that the demo has filled knows it.
const erasureKey = "the key of callbackd demo, which everybody knows"

const receiptQuery = `SELECT state, coalesce(error, ''), coalesce(finished_at, now()) - requested_at, deleted, jumio_answer
FROM jumio.erasures WHERE order_id = $1`

// leftQuery counts the rows of a person in the views, but for what stays of an erased
// one: the id in jumio.verifications and in the event.
const leftQuery = `
SELECT (SELECT count(*) FROM jumio.verifications WHERE workflow_execution_id = $1 AND (stage <> 'erased' OR account_id IS NOT NULL OR last_name IS NOT NULL))
     + (SELECT count(*) FROM jumio.verifications WHERE account_id = $2)
     + (SELECT count(*) FROM jumio.workflow_executions WHERE workflow_execution_id = $1)
     + (SELECT count(*) FROM jumio.extracted_documents WHERE workflow_execution_id = $1)
     + (SELECT count(*) FROM jumio.capabilities WHERE workflow_execution_id = $1)
     + (SELECT count(*) FROM jumio.credentials WHERE workflow_execution_id = $1)
     + (SELECT count(*) FROM jumio.images WHERE workflow_execution_id = $1)
     + (SELECT count(*) FROM jumio.callbacks WHERE workflow_execution_id = $1)
     + (SELECT count(*) FROM jumio.rejected_callbacks WHERE workflow_execution_id = $1)
     + (SELECT count(*) FROM jumio.expectations WHERE workflow_execution_id = $1)
     + (SELECT count(*) FROM jumio.events WHERE workflow_execution_id = $1 AND type <> 'erased')`

// receipt is a row of jumio.erasures, in the order of receiptQuery's columns.
type receipt struct {
	state, error string
	took         time.Duration
	deleted      map[string]int
	answers      []struct{ Status int }
}

// erase orders that a person is erased, at Jumio too, and shows the receipt.
func (d *demo) erase(ctx context.Context, user string, created *jumio.Creation) error {
	var order uuid.UUID
	err := d.pool.QueryRow(ctx, `SELECT jumio.request_erasure('account', $1, 'end of the demo', at_jumio => true)`, created.AccountID).Scan(&order)
	if err != nil {
		return fmt.Errorf("order the erasure of %s: %w", user, err)
	}
	r, err := d.awaitErasure(ctx, order)
	if err != nil {
		return err
	}
	var left int
	if err := d.pool.QueryRow(ctx, leftQuery, created.WorkflowExecutionID, created.AccountID).Scan(&left); err != nil {
		return fmt.Errorf("look for what is left of %s: %w", user, err)
	}
	fmt.Fprint(d.Out, r.text(user, left))
	if r.state != "done" || left > 0 {
		return fmt.Errorf("%w: %s is not erased", errNotArrived, user)
	}
	return nil
}

// awaitErasure waits until the order has ended, or the time is over.
func (d *demo) awaitErasure(parent context.Context, order uuid.UUID) (*receipt, error) {
	ctx, cancel := context.WithTimeout(parent, d.Timeout)
	defer cancel()
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	r := &receipt{}
	for {
		err := d.pool.QueryRow(ctx, receiptQuery, order).Scan(&r.state, &r.error, &r.took, &r.deleted, &r.answers)
		switch {
		case parent.Err() != nil:
			return nil, context.Cause(parent)
		case ctx.Err() != nil: // the receipt tells how far it is
			return r, nil
		case err != nil:
			return nil, fmt.Errorf("read the receipt: %w", err)
		case r.state == "done" || r.state == "failed":
			return r, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// text is the receipt in lines of at most 80 columns.
func (r *receipt) text(user string, left int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nErased, as %s has asked for (the receipt is in jumio.erasures):\n", user)
	fmt.Fprintf(&b, "  %s after %.1f s", r.state, r.took.Seconds())
	if n := len(r.answers); n > 0 {
		fmt.Fprintf(&b, "; first at Jumio, which answered %d", r.answers[n-1].Status)
	}
	b.WriteString("\n")
	if r.error != "" {
		b.WriteString(wrap("  ", r.error, 80))
	}
	deleted := make([]string, 0, len(r.deleted))
	for _, table := range slices.Sorted(maps.Keys(r.deleted)) {
		deleted = append(deleted, fmt.Sprintf("%d %s", r.deleted[table], strings.ReplaceAll(table, "_", " ")))
	}
	b.WriteString(wrap("  deleted: ", strings.Join(deleted, ", "), 80))
	fmt.Fprintf(&b, "  left in the views: %d rows, beside the id with the stage and event erased\n", left)
	return b.String()
}
