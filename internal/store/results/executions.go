package results

import (
	"context"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/store"
	"callbackd/internal/workflow"
)

var executionRow = store.RowOf[workflow.Execution]()

// LockExecutions returns, by id, the workflow executions that exist, and locks them
// until the transaction ends. It locks them in the order of their ids, so that two
// transactions cannot deadlock.
func (tx *Tx) LockExecutions(ctx context.Context, ids []string) (map[string]*workflow.Execution, error) {
	list, err := tx.executions(ctx, `WHERE workflow_execution_id = ANY ($1) ORDER BY workflow_execution_id FOR UPDATE`, ids)
	if err != nil {
		return nil, err
	}
	executions := make(map[string]*workflow.Execution, len(list))
	for _, e := range list {
		executions[e.ID] = e
	}
	return executions, nil
}

func (tx *Tx) executions(ctx context.Context, where string, args ...any) ([]*workflow.Execution, error) {
	rows, err := tx.Query(ctx, `SELECT `+executionRow.Columns("w.")+` FROM callbackd.workflow_executions AS w `+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*workflow.Execution, error) {
		e, err := executionRow.Scan(row)
		return &e, err
	})
}

// UpdateExecutions writes workflow executions that the transaction has locked.
func (tx *Tx) UpdateExecutions(ctx context.Context, list []*workflow.Execution) error {
	if len(list) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, updateExecutions, executionRow.Arrays(list)...)
	return err
}

// ErrRaced means that another transaction has just inserted one of the workflow
// executions.
const ErrRaced store.Error = "raced with another promoter"

// InsertExecutions inserts workflow executions, or fails with ErrRaced.
func (tx *Tx) InsertExecutions(ctx context.Context, list []*workflow.Execution) error {
	if len(list) == 0 {
		return nil
	}
	tag, err := tx.Exec(ctx, insertExecutions, executionRow.Arrays(list)...)
	if err == nil && tag.RowsAffected() < int64(len(list)) {
		return ErrRaced
	}
	return err
}

var (
	updateExecutions = `UPDATE callbackd.workflow_executions AS w SET (` + executionRow.Written() + `) = ROW (n.*)
		FROM ` + executionRow.Unnest("n", 0) + ` WHERE w.workflow_execution_id = n.workflow_execution_id`
	// Also in the order of the ids: the INSERT waits for a row that another promoter is
	// inserting.
	insertExecutions = `INSERT INTO callbackd.workflow_executions (` + executionRow.Written() + `)
		SELECT * FROM ` + executionRow.Unnest("n", 0) + ` ORDER BY workflow_execution_id ON CONFLICT DO NOTHING`
)

// KnownAccounts returns those of the accounts for which something has been retrieved.
func (tx *Tx) KnownAccounts(ctx context.Context, accountIDs []string) (map[string]bool, error) {
	// Any number of workflow executions may name the same account. The index
	// workflow_executions_known_account_idx has only those with a result, and one is
	// enough.
	rows, err := tx.Query(ctx, `
		SELECT a.id FROM unnest($1::text[]) AS a (id), LATERAL (
			SELECT FROM callbackd.workflow_executions AS w WHERE w.account_id = a.id
				AND (w.details_retrieved_at IS NOT NULL OR w.retrieval_state IN ('retrieved', 'partial'))
			LIMIT 1) AS w`, accountIDs)
	if err != nil {
		return nil, err
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	known := make(map[string]bool, len(list))
	for _, id := range list {
		known[id] = true
	}
	return known, err
}

// mostRequeued bounds DueExecutions and LostExecutions.
const mostRequeued = 500

// DueExecutions locks and returns at most 500 workflow executions whose postponed
// retrieval is due. While an attempt runs, its workflow execution is not due.
func (tx *Tx) DueExecutions(ctx context.Context) ([]*workflow.Execution, error) {
	return tx.executions(ctx, `
		WHERE w.retrieval_due_at <= now() AND (w.lease_until IS NULL OR w.lease_until < now())
		ORDER BY w.workflow_execution_id LIMIT $1 FOR UPDATE SKIP LOCKED`, mostRequeued)
}

// LostExecutions locks and returns at most 500 workflow executions whose retrieval is
// pending but has neither a lease nor an unfinished job of this kind.
func (tx *Tx) LostExecutions(ctx context.Context, kind string) ([]*workflow.Execution, error) {
	return tx.executions(ctx, `
		WHERE w.retrieval_state = 'pending' AND (w.lease_until IS NULL OR w.lease_until < now())
			AND NOT EXISTS (
				SELECT FROM callbackd.river_job AS j
				WHERE j.kind = $2 AND j.state IN ('available', 'pending', 'retryable', 'running', 'scheduled')
					AND j.args ->> 'workflow_execution_id' = w.workflow_execution_id
					AND j.args ->> 'generation' = w.retrieval_generation::text)
		ORDER BY w.workflow_execution_id LIMIT $1 FOR UPDATE SKIP LOCKED`, mostRequeued, kind)
}
