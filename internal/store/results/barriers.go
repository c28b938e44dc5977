package results

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/callback"
	"callbackd/internal/store"
	"callbackd/internal/tombstone"
	"callbackd/internal/workflow"
)

const (
	// ErrErased means that what is asked for is erased, or of an account that is.
	ErrErased store.Error = "erased"
	// ErrErasureKey means that something is erased, and that CALLBACKD_ERASURE_KEY is not
	// set, or not to that of the erasures: what is erased cannot be told from the rest.
	ErrErasureKey store.Error = "CALLBACKD_ERASURE_KEY is not set to the key of this database's erasures"
)

// selectBarred also locks the tombstones against another one (ACCESS SHARE): until its
// transaction ends, whoever has asked may store what is not barred.
const selectBarred = `
	SELECT EXISTS (SELECT FROM callbackd.tombstones), (SELECT key_check FROM callbackd.erasure_key),
		ARRAY(SELECT hash FROM callbackd.tombstones WHERE hash = ANY ($1) AND kind <> 'user_reference')`

// barrier asks which subjects are erased.
type barrier struct {
	key    tombstone.Key
	hashes [][]byte
	of     map[string]tombstone.Subject // by hash
	barred map[tombstone.Subject]bool
}

func (tx *Tx) barrier(subjects []tombstone.Subject) *barrier {
	b := &barrier{key: tx.DB.ErasureKey, hashes: [][]byte{}, of: map[string]tombstone.Subject{}, barred: map[tombstone.Subject]bool{}}
	if !b.key.IsZero() {
		for _, s := range subjects {
			hash := b.key.Hash(s)
			b.hashes, b.of[string(hash)] = append(b.hashes, hash), s
		}
	}
	return b
}

// scan reads the answer to selectBarred. Its error is ErrErasureKey if there is something
// erased that the key does not know.
func (b *barrier) scan(row pgx.Row) error {
	var any bool
	var check []byte
	var found [][]byte
	if err := row.Scan(&any, &check, &found); err != nil || !any {
		return err
	}
	if b.key.IsZero() || !bytes.Equal(check, b.key.Check()) {
		return ErrErasureKey
	}
	for _, hash := range found {
		b.barred[b.of[string(hash)]] = true
	}
	return nil
}

// queueNotBarred queues the question whether any of the subjects is erased; then the batch
// ends with ErrErased.
func (tx *Tx) queueNotBarred(batch *pgx.Batch, subjects ...tombstone.Subject) {
	b := tx.barrier(subjects)
	batch.Queue(selectBarred, b.hashes).QueryRow(func(row pgx.Row) error {
		err := b.scan(row)
		if err == nil && len(b.barred) > 0 {
			return ErrErased
		}
		return err
	})
}

// notBarred returns ErrErased if any of the subjects is erased, until the transaction ends.
func (tx *Tx) notBarred(ctx context.Context, subjects ...tombstone.Subject) error {
	batch := &pgx.Batch{}
	tx.queueNotBarred(batch, subjects...)
	return tx.SendBatch(ctx, batch).Close()
}

// NotErased returns ErrErased if a workflow execution is erased, or the account, unless it
// is empty.
func (s *Store) NotErased(ctx context.Context, workflowExecutionID, accountID string) error {
	return s.InTx(ctx, "look whether it is erased", func(tx *Tx) error {
		return tx.NotErased(ctx, workflowExecutionID, accountID)
	})
}

// NotErased is Store.NotErased. It holds until the transaction ends.
func (tx *Tx) NotErased(ctx context.Context, workflowExecutionID, accountID string) error {
	var erased bool
	batch := &pgx.Batch{}
	tx.queueNotBarred(batch, executionAndAccount(workflowExecutionID, accountID)...)
	batch.Queue(`SELECT EXISTS (SELECT FROM callbackd.workflow_executions WHERE workflow_execution_id = $1 AND erased_at IS NOT NULL)`,
		workflowExecutionID).QueryRow(func(row pgx.Row) error { return row.Scan(&erased) })
	err := tx.SendBatch(ctx, batch).Close()
	if err == nil && erased {
		return ErrErased
	}
	return err
}

func executionAndAccount(workflowExecutionID, accountID string) []tombstone.Subject {
	subjects := []tombstone.Subject{{Kind: tombstone.WorkflowExecution, ID: workflowExecutionID}}
	if accountID != "" {
		subjects = append(subjects, tombstone.Subject{Kind: tombstone.Account, ID: accountID})
	}
	return subjects
}

// subjectsOf returns the ids that a callback names.
func subjectsOf(c *callback.Callback) []tombstone.Subject {
	subjects := executionAndAccount(c.WorkflowExecutionID, c.AccountID)
	for _, href := range []string{c.WorkflowHref, c.AccountHref} {
		account, execution := callback.IDsOfHref(href)
		if account != "" && account != c.AccountID {
			subjects = append(subjects, tombstone.Subject{Kind: tombstone.Account, ID: account})
		}
		if execution != "" && execution != c.WorkflowExecutionID {
			subjects = append(subjects, tombstone.Subject{Kind: tombstone.WorkflowExecution, ID: execution})
		}
	}
	return subjects
}

// namedByCallback returns the ids that a stored callback names; none if there is no such
// callback.
func (tx *Tx) namedByCallback(ctx context.Context, id uuid.UUID) (*callback.Callback, error) {
	var c callback.Callback
	err := tx.QueryRow(ctx, `
		SELECT left(workflow_execution_id, 1000), coalesce(left(account_id, 1000), ''), coalesce(left(workflow_href, 1000), ''), coalesce(left(account_href, 1000), '')
		FROM callbackd.callbacks WHERE callback_id = $1`, id).Scan(&c.WorkflowExecutionID, &c.AccountID, &c.WorkflowHref, &c.AccountHref)
	if errors.Is(err, pgx.ErrNoRows) {
		return &c, nil
	}
	c.Bound()
	return &c, err
}

// dropBarred returns the deliveries that are not of what is erased, and the ids of those
// that are.
func (tx *Tx) dropBarred(ctx context.Context, list []workflow.Delivery) (kept []workflow.Delivery, barred []uuid.UUID, err error) {
	var subjects []tombstone.Subject
	for i := range list {
		subjects = append(subjects, subjectsOf(&list[i].Callback)...)
	}
	b := tx.barrier(subjects)
	if err := b.scan(tx.QueryRow(ctx, selectBarred, b.hashes)); err != nil {
		return nil, nil, err
	}
	if len(b.barred) == 0 {
		return list, nil, nil
	}
	for i := range list {
		drop := false
		for _, s := range subjectsOf(&list[i].Callback) {
			drop = drop || b.barred[s]
		}
		if drop {
			barred = append(barred, list[i].ID)
		} else {
			kept = append(kept, list[i])
		}
	}
	return kept, barred, nil
}

// DropCallbacks deletes callbacks that the transaction has taken from the inbox.
func (tx *Tx) DropCallbacks(ctx context.Context, ids []uuid.UUID) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `DELETE FROM callbackd.callbacks WHERE callback_id = ANY ($1)`, ids)
	return err
}

// Mention is an account or a user reference that a callback has named for a workflow
// execution which is, as far as its row says, another's.
type Mention struct{ Subject, WorkflowExecutionID string }

// AddMentions notes mentions, so that an erasure finds them.
func (tx *Tx) AddMentions(ctx context.Context, list []Mention) error {
	if len(list) == 0 {
		return nil
	}
	subjects, ids := make([]string, len(list)), make([]string, len(list))
	for i, m := range list {
		subjects[i], ids[i] = callback.CleanText(m.Subject), m.WorkflowExecutionID
	}
	// In an order, so that two transactions cannot deadlock.
	_, err := tx.Exec(ctx, `INSERT INTO callbackd.mentions (subject, workflow_execution_id)
		SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS n ORDER BY 1, 2 ON CONFLICT DO NOTHING`, subjects, ids)
	return err
}

// CheckErasureKey returns ErrErasureKey if an erasure has been ordered, and the key is not
// set, or another one.
func (s *Store) CheckErasureKey(ctx context.Context) error {
	return s.checkErasureKey(ctx, `SELECT EXISTS (SELECT FROM callbackd.erasures), (SELECT key_check FROM callbackd.erasure_key)`)
}

// CheckTombstones is CheckErasureKey once something has been erased.
func (s *Store) CheckTombstones(ctx context.Context) error {
	return s.checkErasureKey(ctx, `SELECT EXISTS (SELECT FROM callbackd.tombstones), (SELECT key_check FROM callbackd.erasure_key)`)
}

func (s *Store) checkErasureKey(ctx context.Context, query string) error {
	var needed bool
	var check []byte
	if err := s.db.Pool().QueryRow(ctx, query).Scan(&needed, &check); err != nil {
		return store.Translate("look for the erasures' key", err)
	}
	key := s.db.ErasureKey
	switch {
	case !needed:
		return nil
	case key.IsZero():
		return fmt.Errorf("an erasure has been ordered: %w", ErrErasureKey)
	case check != nil && !bytes.Equal(check, key.Check()):
		return fmt.Errorf("another key has been used: %w", ErrErasureKey)
	}
	return nil
}

// SetErasureKey makes the key that of this database's erasures, unless there is one.
// Its error is ErrErasureKey if that is another one.
func (s *Store) SetErasureKey(ctx context.Context) error {
	if s.db.ErasureKey.IsZero() {
		return ErrErasureKey
	}
	const doing = "store what tells the erasures' key"
	if _, err := s.db.Pool().Exec(ctx, `INSERT INTO callbackd.erasure_key (key_check) VALUES ($1) ON CONFLICT DO NOTHING`, s.db.ErasureKey.Check()); err != nil {
		return store.Translate(doing, err)
	}
	var same bool
	err := s.db.Pool().QueryRow(ctx, `SELECT key_check = $1 FROM callbackd.erasure_key`, s.db.ErasureKey.Check()).Scan(&same)
	if err == nil && !same {
		return ErrErasureKey
	}
	return store.Translate(doing, err)
}
