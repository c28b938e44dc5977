package results

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"callbackd/internal/store"
	"callbackd/internal/tombstone"
)

const (
	// ErrUnknownSubject means that nothing is known of what is to be erased.
	ErrUnknownSubject store.Error = "nothing is known of it, or it is erased already"
	// ErrOrdered means that an order for the same subject is under way.
	ErrOrdered store.Error = "an order is erasing it already"
	// ErrBeingErased means that a hold comes too late.
	ErrBeingErased store.Error = "it is being erased"
)

// RequestErasure orders that a subject is erased, and returns the order's id. A user
// reference is without our signature. Errors are ErrErasureKey, ErrUnknownSubject and
// ErrOrdered.
func (s *Store) RequestErasure(ctx context.Context, subject tombstone.Subject, reason string, atJumio bool, referenceKey string) (id uuid.UUID, err error) {
	if err := s.SetErasureKey(ctx); err != nil {
		return id, err
	}
	const doing = "order an erasure"
	forms := []string{subject.ID}
	if subject.Kind == tombstone.UserReference {
		forms = referenceForms(referenceKey, subject.ID)
	}
	for _, form := range forms {
		err = store.Translate(doing, s.db.Pool().QueryRow(ctx, `SELECT jumio.request_erasure($1, $2, $3, $4)`, subject.Kind, form, reason, atJumio).Scan(&id))
		e, ok := errors.AsType[*store.SQLError](err)
		switch {
		case ok && e.Code == pgerrcode.NoDataFound:
			err = fmt.Errorf("%s: %w", doing, ErrUnknownSubject)
			continue // another form may be known
		case ok && e.Code == pgerrcode.ObjectInUse:
			err = fmt.Errorf("%s: %w", doing, ErrOrdered)
		}
		return id, err
	}
	return id, err
}

// countCovered counts, by table, what an order would delete of workflow executions ($1), of
// accounts ($2) and of names ($3).
const countCovered = `
	SELECT 'callbacks', count(*) FROM callbackd.callbacks WHERE workflow_execution_id = ANY ($1)
	UNION ALL SELECT 'rejected_callbacks', count(*) FROM callbackd.rejected_callbacks WHERE workflow_execution_id = ANY ($1) OR account_id = ANY ($2) OR user_reference = ANY ($3)
	UNION ALL SELECT 'events', count(*) FROM callbackd.events WHERE workflow_execution_id = ANY ($1) AND type <> 'erased'
	UNION ALL SELECT 'images', count(*) FROM callbackd.images WHERE workflow_execution_id = ANY ($1)
	UNION ALL SELECT 'objects', count(object_key) FROM callbackd.images WHERE workflow_execution_id = ANY ($1)
	UNION ALL SELECT 'details', count(details_id) FROM callbackd.workflow_executions WHERE workflow_execution_id = ANY ($1)
	UNION ALL SELECT 'credentials', count(*) FROM callbackd.workflow_executions AS w JOIN callbackd.credentials AS c USING (details_id) WHERE w.workflow_execution_id = ANY ($1)
	UNION ALL SELECT 'capabilities', count(*) FROM callbackd.workflow_executions AS w JOIN callbackd.capabilities AS c USING (details_id) WHERE w.workflow_execution_id = ANY ($1)
	UNION ALL SELECT 'extracted_documents', count(*) FROM callbackd.extracted_documents WHERE workflow_execution_id = ANY ($1)
	UNION ALL SELECT 'expectations', count(*) FROM callbackd.expectations WHERE workflow_execution_id = ANY ($1)
	UNION ALL SELECT 'relationships', count(*) FROM callbackd.relationships WHERE account_id = ANY ($2)
	UNION ALL SELECT 'river_job', count(*) FROM callbackd.river_job WHERE args ->> 'workflow_execution_id' = ANY ($1)`

// TableCount is how many rows of a table an order would delete.
type TableCount struct {
	Table string
	Count int64
}

// DryErasure returns what an order would delete, and how many workflow executions it covers
// and how many of them are held. Its error is ErrUnknownSubject if nothing is known.
func (s *Store) DryErasure(ctx context.Context, subject tombstone.Subject, referenceKey string) (counts []TableCount, executions, held int, err error) {
	err = s.InTx(ctx, "look for what an order would erase", func(tx *Tx) error {
		c, err := tx.covered(ctx, subject.Kind, subject.ID, referenceKey)
		if err != nil {
			return err
		}
		ids, references := []string{}, []string{}
		for _, e := range c.executions {
			ids = append(ids, e.ID)
		}
		for _, r := range c.references {
			references = append(references, referenceForms(referenceKey, r)...)
		}
		executions = len(ids)
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM callbackd.holds WHERE workflow_execution_id = ANY ($1)`, ids).Scan(&held); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, countCovered, ids, append([]string{}, c.accounts...), references)
		if err != nil {
			return err
		}
		counts, err = pgx.CollectRows(rows, pgx.RowToStructByPos[TableCount])
		if err != nil {
			return err
		}
		var erased bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM callbackd.workflow_executions WHERE workflow_execution_id = ANY ($1) AND erased_at IS NOT NULL)`, ids).Scan(&erased); err != nil {
			return err
		}
		total := int64(0)
		for _, t := range counts {
			total += t.Count
		}
		if erased || total == 0 && (executions == 0 || subject.Kind == tombstone.WorkflowExecution) {
			return ErrUnknownSubject
		}
		return nil
	})
	return counts, executions, held, err
}

// Receipt is an order as jumio.erasures shows it, and what is known besides.
type Receipt struct {
	ID          uuid.UUID       `json:"order_id"`
	RequestedAt time.Time       `json:"requested_at"`
	RequestedBy string          `json:"requested_by"`
	Reason      string          `json:"reason"`
	Kind        tombstone.Kind  `json:"subject_kind"`
	AtJumio     bool            `json:"at_jumio"`
	State       OrderState      `json:"state"`
	Error       *string         `json:"error"`
	FinishedAt  *time.Time      `json:"finished_at"`
	Deleted     json.RawMessage `json:"deleted"`
	Answers     json.RawMessage `json:"jumio_answer"`
	// Step is what comes next.
	Step Step `json:"step"`
	// Tombstones counts what is barred.
	Tombstones int64 `json:"tombstones"`
	// Consumers are the named consumers of the events.
	Consumers []ConsumerPassed `json:"consumers"`
}

// ConsumerPassed says whether a consumer has handled the order's events erased.
type ConsumerPassed struct {
	Consumer string `json:"consumer"`
	Passed   bool   `json:"passed"`
}

const selectReceipt = `
	SELECT order_id, requested_at, requested_by, reason, subject_kind, at_jumio, state, error, finished_at, deleted, jumio_answer, step,
		(SELECT count(*) FROM callbackd.tombstones AS t WHERE t.order_id = e.order_id)
	FROM callbackd.erasures AS e`

func scanReceipt(row pgx.CollectableRow) (r Receipt, err error) {
	return r, row.Scan(&r.ID, &r.RequestedAt, &r.RequestedBy, &r.Reason, &r.Kind, &r.AtJumio, &r.State, &r.Error, &r.FinishedAt, &r.Deleted, &r.Answers, &r.Step, &r.Tombstones)
}

// Receipts returns the newest orders, the newest first, without consumers.
func (s *Store) Receipts(ctx context.Context, limit int) ([]Receipt, error) {
	const doing = "list the orders to erase"
	rows, err := s.db.Pool().Query(ctx, selectReceipt+` ORDER BY requested_at DESC, order_id DESC LIMIT $1`, limit)
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, scanReceipt)
	return list, store.Translate(doing, err)
}

// Receipt returns an order, or store.ErrNotFound.
func (s *Store) Receipt(ctx context.Context, id uuid.UUID) (r Receipt, err error) {
	doing := fmt.Sprintf("read the order %s", id)
	rows, err := s.db.Pool().Query(ctx, selectReceipt+` WHERE order_id = $1`, id)
	if err != nil {
		return r, store.Translate(doing, err)
	}
	if r, err = pgx.CollectExactlyOneRow(rows, scanReceipt); err != nil {
		return r, store.Translate(doing, err)
	}
	rows, err = s.db.Pool().Query(ctx, `SELECT c.consumer, coalesce(c.last_event_id >= e.last_event_id, false)
		FROM callbackd.consumers AS c, callbackd.erasures AS e WHERE e.order_id = $1 ORDER BY c.consumer`, id)
	if err != nil {
		return r, store.Translate(doing, err)
	}
	r.Consumers, err = pgx.CollectRows(rows, pgx.RowToStructByPos[ConsumerPassed])
	return r, store.Translate(doing, err)
}

// Hold keeps erasure and retention from a workflow execution. Repeating it changes the
// reason. Errors are store.ErrNotFound, ErrErased, and ErrBeingErased if it is too late.
func (s *Store) Hold(ctx context.Context, workflowExecutionID, reason string) error {
	return s.InTx(ctx, fmt.Sprintf("hold the workflow execution %q", workflowExecutionID), func(tx *Tx) error {
		// An order that bars it has a lock that this waits for (Bar).
		if _, err := tx.Exec(ctx, `INSERT INTO callbackd.holds (workflow_execution_id, reason) VALUES ($1, $2)
			ON CONFLICT (workflow_execution_id) DO UPDATE SET reason = excluded.reason`, workflowExecutionID, reason); err != nil {
			return err
		}
		var erasedAt time.Time
		var barred bool
		err := tx.QueryRow(ctx, `
			SELECT w.erased_at, EXISTS (
				SELECT FROM callbackd.erasures AS e JOIN callbackd.erasure_subjects AS s USING (order_id)
				WHERE s.kind = 'workflow_execution' AND s.subject = $1 AND e.state = 'running' AND e.step NOT IN ('resolve', 'jumio', 'bar'))
			FROM callbackd.workflow_executions AS w WHERE w.workflow_execution_id = $1`, workflowExecutionID).Scan((*zeronull.Timestamptz)(&erasedAt), &barred)
		switch {
		case err != nil:
			return err
		case !erasedAt.IsZero():
			return ErrErased
		case barred:
			return ErrBeingErased
		}
		return nil
	})
}

// Release ends a hold: orders that it has held go on. It returns store.ErrNotFound if there
// is none.
func (s *Store) Release(ctx context.Context, workflowExecutionID string) error {
	return s.InTx(ctx, fmt.Sprintf("release the workflow execution %q", workflowExecutionID), func(tx *Tx) error {
		tag, err := tx.Exec(ctx, `DELETE FROM callbackd.holds WHERE workflow_execution_id = $1`, workflowExecutionID)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return store.ErrNotFound
		}
		_, err = tx.Exec(ctx, `UPDATE callbackd.erasures SET next_at = '-infinity' WHERE state = 'held'`)
		return err
	})
}
