package questions

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
)

// Keys are the values of one workflow execution, by the names of parameters; nil where it
// has none.
type Keys map[string]any

// Args returns the parameters of a question, or false if a value is missing.
func (k Keys) Args(q Question) ([]any, bool) {
	args := make([]any, len(q.Parameters))
	for i, name := range q.Parameters {
		if args[i] = k[name]; args[i] == nil {
			return nil, false
		}
	}
	return args, true
}

// Check returns an error unless the keys have every parameter of the questions.
func (k Keys) Check(list []Question) error {
	for _, q := range list {
		for _, name := range q.Parameters {
			if _, ok := k[name]; !ok {
				return fmt.Errorf("question %s: there are no keys for %s", q.Name, name)
			}
		}
	}
	return nil
}

const selectKeys = `
SELECT w.workflow_execution_id, w.account_id, w.user_reference, w.user_reference_unsigned, w.customer_internal_reference,
    w.decision_type, w.details_retrieved_at, w.first_callback_at, w.last_callback_at, w.expected_at, q.answered_at,
    callbackd.stage(w.erased_at, w.details_id, w.retrieval_state, w.overdue_at, w.status) AS stage,
    x.document_number, x.issuing_country,
    (SELECT c.callback_id::text FROM callbackd.callbacks AS c WHERE c.workflow_execution_id = w.workflow_execution_id LIMIT 1) AS callback_id,
    w.first_callback_at AS received_at,
    (SELECT e.event_id FROM callbackd.events AS e WHERE e.workflow_execution_id = w.workflow_execution_id LIMIT 1) AS event_id
FROM callbackd.workflow_executions AS w
LEFT JOIN callbackd.extracted_documents AS x ON x.workflow_execution_id = w.workflow_execution_id AND x.details_id = w.details_id
LEFT JOIN callbackd.expectations AS q ON q.workflow_execution_id = w.workflow_execution_id
WHERE w.workflow_execution_id = $1`

// Keys returns those of random workflow executions that have a rejected callback, so that
// every question finds something. The seed decides which.
func (p Population) Keys(ctx context.Context, conn *pgx.Conn, count int, seed uint64) ([]Keys, error) {
	random := rand.New(rand.NewPCG(seed, 0)) // no secret
	batch := &pgx.Batch{}
	for range count {
		n := rejectedEvery * (1 + random.IntN(p.Executions/rejectedEvery))
		batch.Queue(selectKeys, p.execution(n).id)
	}
	results := conn.SendBatch(ctx, batch)
	list := make([]Keys, 0, count)
	for range count {
		rows, _ := results.Query() // its error is that of reading the rows
		k, err := pgx.CollectExactlyOneRow(rows, pgx.RowToMap)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("find keys: %w", err), results.Close())
		}
		list = append(list, k)
	}
	if err := results.Close(); err != nil {
		return nil, fmt.Errorf("find keys: %w", err)
	}
	return list, nil
}
