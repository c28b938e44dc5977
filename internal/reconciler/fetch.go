package reconciler

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"callbackd/internal/jumio"
	"callbackd/internal/queue"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/workflow"
)

// Fetch asks Jumio now for the status of a workflow execution, which callbackd may not
// know, and returns it: a text of Jumio's. It takes a final one in as reconciliation does: a
// retrieval is queued. An empty account or data center is that of the row, if there is one,
// or else the fallback. A status that is not final leaves nothing. What is erased is not
// asked for: results.ErrErased. Errors of Jumio are of type *jumio.Error.
func Fetch(ctx context.Context, db *store.DB, client *jumio.Client, schedule workflow.Schedule, at jumio.Workflow, fallback string) (string, error) {
	s := results.New(db)
	if err := s.NotErased(ctx, at.ID, at.AccountID); err != nil {
		return "", err
	}
	place, err := s.Place(ctx, at.ID)
	if err != nil {
		return "", err
	}
	at = client.Address(at.ID, cmp.Or(at.DataCenter, place.DataCenter), cmp.Or(at.AccountID, place.AccountID), place.WorkflowHref, place.AccountHref)
	at.DataCenter = cmp.Or(at.DataCenter, fallback)
	asked := results.Asked{At: time.Now()}
	status, at, err := Status(jumio.WithAttempt(ctx), client, at)
	if err != nil {
		return "", err
	}
	if final, _ := workflow.FinalStatus(status.Status); !final {
		return status.Status, nil
	}
	asked.Status, asked.AccountID = status.Status, status.AccountID
	q, err := queue.NewInserter(db, schedule)
	if err != nil {
		return "", err
	}
	err = s.TakeIn(ctx, at.ID, at.DataCenter, asked, func(tx *results.Tx, e *workflow.Execution) error {
		return q.Enqueue(ctx, tx.Tx, []workflow.Retrieval{e.Retrieval()}, queue.Retrieval{}, nil)
	})
	if err != nil {
		return "", fmt.Errorf("take in the status %s: %w", status.Status, err)
	}
	return status.Status, nil
}
