package results

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"callbackd/internal/store"
	"callbackd/internal/tombstone"
)

// OrderState is the column state of jumio.erasures.
type OrderState string

// The states of an order.
const (
	OrderOrdered OrderState = "ordered"
	OrderHeld    OrderState = "held"
	OrderRunning OrderState = "running"
	OrderDone    OrderState = "done"
	OrderFailed  OrderState = "failed"
)

// Step is what is to be done next for an order (docs/architecture.md, "Erasure").
type Step string

// The steps, in their order.
const (
	StepResolve    Step = "resolve"
	StepJumio      Step = "jumio"
	StepBar        Step = "bar"
	StepExecutions Step = "executions"
	StepMentions   Step = "mentions"
	StepRejected   Step = "rejected"
	StepObjects    Step = "objects"
	StepSpools     Step = "spools"
	StepFinish     Step = "finish"
	StepDone       Step = "done"
)

// The codes that begin an order's error.
const (
	codeHeld      = "held"                  // a legal hold covers part of it
	codePromotion = "waiting_for_promotion" // callbacks in the inbox name the subject
	codeLocks     = "waiting_for_locks"     // a transaction keeps the tombstones from being written
	codeObjects   = "waiting_for_objects"   // the image store has not deleted them yet
	codeSpools    = "waiting_for_spools"    // receivers have not drained theirs
)

const (
	orderPause     = 2 * time.Second // before it is looked at again what an order waits for
	heldPause      = 10 * time.Second
	promotionPause = 500 * time.Millisecond
	orderLease     = 20 * time.Second
	mostExecutions = 10 // executions that an order's error names
)

// Answer is Jumio's answer to a deletion.
type Answer struct {
	Status int       `json:"status"`
	At     time.Time `json:"at"`
}

// Order is an order to erase.
type Order struct {
	ID      uuid.UUID
	Kind    tombstone.Kind
	Subject string // empty once the order is done or failed
	AtJumio bool
	State   OrderState
	Step    Step
	Error   string // "code: detail"; empty for none
	// Deleted counts rows by table.
	Deleted map[string]int64
	Answers []Answer
	// Attempts counts those to delete at Jumio.
	Attempts int
	// NextAt is when to go on; zero for now.
	NextAt time.Time

	token uuid.UUID
}

const orderColumns = `e.order_id, e.subject_kind, coalesce(e.subject, ''), e.at_jumio, e.state, e.step, coalesce(e.error, ''), e.deleted, e.jumio_answer, e.attempts`

func scanOrder(row pgx.Row, o *Order) error {
	var deleted, answers []byte
	if err := row.Scan(&o.ID, &o.Kind, &o.Subject, &o.AtJumio, &o.State, &o.Step, &o.Error, &deleted, &answers, &o.Attempts); err != nil {
		return err
	}
	o.NextAt, o.Deleted, o.Answers = time.Time{}, nil, nil
	if err := json.Unmarshal(deleted, &o.Deleted); err != nil {
		return fmt.Errorf("read what order %s has deleted: %w", o.ID, err)
	}
	if err := json.Unmarshal(answers, &o.Answers); err != nil {
		return fmt.Errorf("read Jumio's answers to order %s: %w", o.ID, err)
	}
	return nil
}

// ClaimOrder takes the lease of the oldest order that is due, for 20 s; each step renews
// it. It returns nil if there is none.
func (s *Store) ClaimOrder(ctx context.Context) (*Order, error) {
	o := &Order{token: uuid.New()}
	err := scanOrder(s.db.Pool().QueryRow(ctx, `
		UPDATE callbackd.erasures AS e SET lease_token = $1, lease_until = clock_timestamp() + $2::interval,
			state = CASE WHEN e.state = 'ordered' THEN 'running' ELSE e.state END
		WHERE e.order_id = (
			SELECT order_id FROM callbackd.erasures
			WHERE state IN ('ordered', 'held', 'running') AND next_at <= now() AND (lease_until IS NULL OR lease_until < clock_timestamp())
			ORDER BY requested_at LIMIT 1 FOR UPDATE SKIP LOCKED)
		RETURNING `+orderColumns, o.token, orderLease), o)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	return o, store.Translate("look for an order to erase", err)
}

// ErrOrderLost means that another worker has taken over an order.
const ErrOrderLost store.Error = "another worker carries out the order"

// orderTx is a step of an order, in a transaction that has the order's row locked.
type orderTx struct {
	*Tx
	*Order
}

// count counts deleted rows of a table.
func (tx *orderTx) count(table string, n int64) {
	if n > 0 {
		tx.Deleted[table] += n
	}
}

// wait has the order wait for something.
func (tx *orderTx) wait(pause time.Duration, code, format string, args ...any) {
	tx.Error, tx.NextAt = code+": "+fmt.Sprintf(format, args...), time.Now().Add(pause)
}

// inOrder runs f in a transaction that renews the order's lease, and stores with it what f
// has made of the order. If the order then waits, or is over, the lease is given back.
func (s *Store) inOrder(ctx context.Context, o *Order, doing string, f func(*orderTx) error) error {
	next := &Order{token: o.token}
	err := s.InTx(ctx, doing, func(tx *Tx) error {
		err := scanOrder(tx.QueryRow(ctx, `
			UPDATE callbackd.erasures AS e SET lease_until = clock_timestamp() + $3::interval
			WHERE order_id = $1 AND lease_token = $2 RETURNING `+orderColumns, o.ID, o.token, orderLease), next)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrOrderLost
		}
		if err != nil {
			return err
		}
		next.Error = ""
		if err := f(&orderTx{tx, next}); err != nil {
			return err
		}
		deleted, _ := json.Marshal(next.Deleted)
		answers, _ := json.Marshal(next.Answers)
		_, err = tx.Exec(ctx, `
			UPDATE callbackd.erasures SET state = $2, step = $3, error = nullif($4, ''), deleted = $5, jumio_answer = $6, attempts = $7,
				next_at = coalesce($8::timestamptz, '-infinity'),
				lease_token = CASE WHEN $9 THEN NULL ELSE lease_token END, lease_until = CASE WHEN $9 THEN NULL ELSE lease_until END,
				subject = CASE WHEN $10 THEN NULL ELSE subject END, finished_at = CASE WHEN $10 THEN clock_timestamp() END
			WHERE order_id = $1`, o.ID, string(next.State), string(next.Step), next.Error, string(deleted), string(answers), next.Attempts,
			zeronull.Timestamptz(next.NextAt), !next.NextAt.IsZero() || next.over(), next.over())
		return err
	})
	if err == nil {
		*o = *next
	}
	return err
}

func (o *Order) over() bool { return o.State == OrderDone || o.State == OrderFailed }

// Waits reports whether the order waits for something, or is over: its lease is given back.
func (o *Order) Waits() bool { return !o.NextAt.IsZero() || o.over() }

// setSubjectHash stores by what a subject that is given again finds its order.
func (tx *orderTx) setSubjectHash(ctx context.Context, referenceKey string) error {
	subject := tombstone.Subject{Kind: tx.Kind, ID: tx.Subject}
	if tx.Kind == tombstone.UserReference {
		subject.ID = referenceForms(referenceKey, tx.Subject)[0]
	}
	_, err := tx.Exec(ctx, `UPDATE callbackd.erasures SET subject_hash = $2 WHERE order_id = $1`, tx.ID, tx.DB.ErasureKey.Hash(subject))
	return err
}

// Resolve writes down what the order covers. The key is that of signed user references;
// empty for none.
func (s *Store) Resolve(ctx context.Context, o *Order, referenceKey string) error {
	return s.inOrder(ctx, o, "look for what an order covers", func(tx *orderTx) error {
		if err := tx.setSubjectHash(ctx, referenceKey); err != nil {
			return err
		}
		waiting, err := tx.waitingForPromotion(ctx, referenceKey)
		if err != nil {
			return err
		}
		if waiting > 0 && tx.Kind == tombstone.UserReference {
			// They may name its accounts.
			tx.wait(promotionPause, codePromotion, "%d callbacks in the inbox name it", waiting)
			return nil
		}
		held, err := tx.resolve(ctx, referenceKey)
		if err != nil || held {
			return err
		}
		tx.State, tx.Step = OrderRunning, StepJumio
		return nil
	})
}

// resolve writes down what the order covers, in place of what it did before, and reports
// whether part of it is held; then the order is.
func (tx *orderTx) resolve(ctx context.Context, referenceKey string) (held bool, err error) {
	c, err := tx.covered(ctx, tx.Kind, tx.Subject, referenceKey)
	if err != nil {
		return false, err
	}
	if _, err := tx.Exec(ctx, `DELETE FROM callbackd.erasure_subjects WHERE order_id = $1 AND NOT deleted_at_jumio`, tx.ID); err != nil {
		return false, err
	}
	rows := c.subjects()
	kinds, subjects := make([]string, len(rows)), make([]string, len(rows))
	dataCenters, accounts := make([]string, len(rows)), make([]string, len(rows))
	for i, r := range rows {
		kinds[i], subjects[i], dataCenters[i], accounts[i] = string(r.Kind), r.ID, r.DataCenter, r.AccountID
	}
	if _, err := tx.Exec(ctx, `
		INSERT INTO callbackd.erasure_subjects (order_id, kind, subject, data_center, account_id)
		SELECT $1, kind, subject, nullif(data_center, ''), nullif(account_id, '')
		FROM unnest($2::text[], $3::text[], $4::text[], $5::text[]) AS n (kind, subject, data_center, account_id)
		ON CONFLICT DO NOTHING`, tx.ID, kinds, subjects, dataCenters, accounts); err != nil {
		return false, err
	}
	return tx.heldUp(ctx, StepResolve)
}

// heldUp reports whether part of what the order covers is held; then the order is, and
// goes on with a step.
func (tx *orderTx) heldUp(ctx context.Context, next Step) (bool, error) {
	var n int
	var ids []string
	err := tx.QueryRow(ctx, `
		SELECT count(*), (array_agg(h.workflow_execution_id ORDER BY h.workflow_execution_id))[:$2]
		FROM callbackd.holds AS h JOIN callbackd.erasure_subjects AS s
		ON s.order_id = $1 AND s.kind = 'workflow_execution' AND s.subject = h.workflow_execution_id`, tx.ID, mostExecutions).Scan(&n, &ids)
	if err != nil || n == 0 {
		return false, err
	}
	tx.State, tx.Step = OrderHeld, next
	tx.wait(heldPause, codeHeld, "a legal hold is on %d of its workflow executions, such as %v", n, ids)
	return true, nil
}

// barLockTimeout bounds how long promotions and attempts wait for the tombstones. It is
// shorter than Postgres' deadlock_timeout.
const barLockTimeout = "300ms"

// Bar writes the tombstones, after the promotions and attempts under way, and looks once
// more for what the order covers.
func (s *Store) Bar(ctx context.Context, o *Order, referenceKey string) error {
	err := s.inOrder(ctx, o, "bar what an order covers", func(tx *orderTx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '`+barLockTimeout+`'; LOCK TABLE callbackd.holds IN SHARE MODE;
			LOCK TABLE callbackd.tombstones IN ACCESS EXCLUSIVE MODE`, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		held, err := tx.resolve(ctx, referenceKey)
		if err != nil || held {
			return err
		}
		if err := tx.writeTombstones(ctx); err != nil {
			return err
		}
		// Whatever is under way for them has nothing left to do.
		if _, err := tx.Exec(ctx, `
			UPDATE callbackd.workflow_executions AS w SET retrieval_state = 'not_required', result_state = NULL,
				retrieval_generation = w.retrieval_generation + 1, retrieval_due_at = NULL, lease_token = NULL, lease_until = NULL
			FROM callbackd.erasure_subjects AS s
			WHERE s.order_id = $1 AND s.kind = 'workflow_execution' AND w.workflow_execution_id = s.subject`, tx.ID); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `
			UPDATE callbackd.expectations AS e SET next_ask_at = NULL, ask_token = NULL
			FROM callbackd.erasure_subjects AS s
			WHERE s.order_id = $1 AND s.kind = 'workflow_execution' AND e.workflow_execution_id = s.subject`, tx.ID); err != nil {
			return err
		}
		tx.Step = StepExecutions
		return nil
	})
	return s.putOffIfLocked(ctx, o, err)
}

// putOffIfLocked has the order wait if a step failed because it did not get the lock of the
// tombstones. Any other error it returns.
func (s *Store) putOffIfLocked(ctx context.Context, o *Order, err error) error {
	if !store.Locked(err) {
		return err
	}
	return s.inOrder(ctx, o, "put an order off", func(tx *orderTx) error {
		tx.wait(orderPause, codeLocks, "a transaction has locked what the order needs for longer than %s", barLockTimeout)
		return nil
	})
}

// barredKinds are the kinds of subjects that an order of a kind writes tombstones for.
var barredKinds = map[tombstone.Kind][]tombstone.Kind{
	tombstone.WorkflowExecution: {tombstone.WorkflowExecution},
	tombstone.Account:           {tombstone.Account, tombstone.WorkflowExecution},
	tombstone.UserReference:     {tombstone.Account, tombstone.WorkflowExecution, tombstone.UserReference},
}

func (tx *orderTx) writeTombstones(ctx context.Context) error {
	rows, err := tx.Query(ctx, `SELECT kind, subject FROM callbackd.erasure_subjects WHERE order_id = $1 AND kind = ANY ($2)`, tx.ID, barredKinds[tx.Kind])
	if err != nil {
		return err
	}
	var kinds []string
	var hashes [][]byte
	var subject tombstone.Subject
	if _, err := pgx.ForEachRow(rows, []any{&subject.Kind, &subject.ID}, func() error {
		kinds, hashes = append(kinds, string(subject.Kind)), append(hashes, tx.DB.ErasureKey.Hash(subject))
		return nil
	}); err != nil {
		return err
	}
	return tx.insertTombstones(ctx, tx.ID, kinds, hashes)
}

func (tx *Tx) insertTombstones(ctx context.Context, orderID uuid.UUID, kinds []string, hashes [][]byte) error {
	_, err := tx.Exec(ctx, `INSERT INTO callbackd.tombstones (hash, kind, order_id) SELECT hash, kind, $1 FROM unnest($2::bytea[], $3::text[]) AS n (hash, kind)
		ON CONFLICT DO NOTHING`, orderID, hashes, kinds)
	return err
}

// EraseNext erases the next workflow execution that the order covers, or as much of it as
// one transaction takes. It reports whether it got on.
func (s *Store) EraseNext(ctx context.Context, o *Order) (progress bool, err error) {
	err = s.inOrder(ctx, o, "erase a workflow execution", func(tx *orderTx) error {
		progress = true
		var id string
		err := tx.QueryRow(ctx, `SELECT subject FROM callbackd.erasure_subjects
			WHERE order_id = $1 AND kind = 'workflow_execution' AND NOT erased LIMIT 1`, tx.ID).Scan(&id)
		if errors.Is(err, pgx.ErrNoRows) {
			tx.Step = StepMentions
			return nil
		}
		if err != nil {
			return err
		}
		e := &erasing{id: id, orderID: tx.ID, count: tx.count}
		more, err := tx.erase(ctx, e)
		if err != nil || more {
			progress = e.deleted > 0
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE callbackd.erasure_subjects SET erased = true
			WHERE order_id = $1 AND kind = 'workflow_execution' AND subject = $2`, tx.ID, id)
		return err
	})
	return progress, err
}

// AwaitObjects has the order wait until the image store has deleted its objects.
func (s *Store) AwaitObjects(ctx context.Context, o *Order) error {
	return s.inOrder(ctx, o, "look for objects that are to be deleted", func(tx *orderTx) error {
		var n int
		// One that was queued before may be of a replaced image of the same person.
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM callbackd.object_deletions WHERE order_id = $1
			OR queued_at <= (SELECT max(erased_at) FROM callbackd.tombstones WHERE order_id = $1)`, tx.ID).Scan(&n); err != nil {
			return err
		}
		if n > 0 {
			tx.wait(orderPause, codeObjects, "%d objects are not deleted yet", n)
			return nil
		}
		tx.Step = StepSpools
		return nil
	})
}

// AwaitSpools has the order wait until the spools that were not empty before the
// tombstones are drained, and what was in them is promoted.
func (s *Store) AwaitSpools(ctx context.Context, o *Order, referenceKey string) error {
	return s.inOrder(ctx, o, "look for spools that are not empty", func(tx *orderTx) error {
		var n int
		var host string
		if err := tx.QueryRow(ctx, `SELECT count(*), coalesce(min(host), '') FROM callbackd.spools
			WHERE not_empty_since <= (SELECT max(erased_at) FROM callbackd.tombstones WHERE order_id = $1)`, tx.ID).Scan(&n, &host); err != nil {
			return err
		}
		if n > 0 {
			tx.wait(orderPause, codeSpools, "%d spools are not drained yet, such as that of the host %q", n, host)
			return nil
		}
		waiting, err := tx.waitingForPromotion(ctx, referenceKey)
		if err != nil {
			return err
		}
		if waiting > 0 {
			tx.wait(promotionPause, codePromotion, "%d callbacks in the inbox name it", waiting)
			return nil
		}
		tx.Step = StepFinish
		return nil
	})
}

// waitingForPromotion counts callbacks in the inbox that name what the order covers, or,
// before that is known, its subject.
func (tx *orderTx) waitingForPromotion(ctx context.Context, referenceKey string) (n int, err error) {
	accounts, executions, references := []string{}, []string{}, []string{}
	switch {
	case tx.Step != StepResolve:
		if accounts, executions, err = tx.barredSubjects(ctx); err != nil {
			return 0, err
		}
	case tx.Kind == tombstone.UserReference:
		references = referenceForms(referenceKey, tx.Subject)
	}
	err = tx.QueryRow(ctx, `
		SELECT count(*) FROM callbackd.inbox AS i JOIN callbackd.callbacks AS c ON c.callback_id = i.callback_id
		WHERE c.account_id = ANY ($1) OR c.workflow_execution_id = ANY ($2) OR c.user_reference = ANY ($3)`, accounts, executions, references).Scan(&n)
	return n, err
}

// barredSubjects returns what the order's tombstones are of.
func (tx *orderTx) barredSubjects(ctx context.Context) (accounts, executions []string, err error) {
	err = tx.QueryRow(ctx, `
		SELECT coalesce(array_agg(subject) FILTER (WHERE kind = 'account'), '{}'), coalesce(array_agg(subject) FILTER (WHERE kind = 'workflow_execution'), '{}')
		FROM callbackd.erasure_subjects WHERE order_id = $1 AND kind = ANY ($2)`, tx.ID, barredKinds[tx.Kind]).Scan(&accounts, &executions)
	return accounts, executions, err
}

// Finish forgets what the order covered.
func (s *Store) Finish(ctx context.Context, o *Order) error {
	return s.inOrder(ctx, o, "finish an order", func(tx *orderTx) error {
		tx.State, tx.Step = OrderDone, StepDone
		return tx.forgetSubjects(ctx)
	})
}

func (tx *orderTx) forgetSubjects(ctx context.Context) error {
	_, err := tx.Exec(ctx, `DELETE FROM callbackd.erasure_subjects WHERE order_id = $1`, tx.ID)
	return err
}

// ReleaseOrder gives the lease back, as at a stop.
func (s *Store) ReleaseOrder(ctx context.Context, o *Order) error {
	_, err := s.db.Pool().Exec(ctx, `UPDATE callbackd.erasures SET lease_token = NULL, lease_until = NULL WHERE order_id = $1 AND lease_token = $2`, o.ID, o.token)
	return store.Translate("give an order back", err)
}

// RenewOrder renews the lease during what takes long.
func (s *Store) RenewOrder(ctx context.Context, o *Order) error {
	tag, err := s.db.Pool().Exec(ctx, `UPDATE callbackd.erasures SET lease_until = clock_timestamp() + $3::interval WHERE order_id = $1 AND lease_token = $2`,
		o.ID, o.token, orderLease)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrOrderLost
	}
	return store.Translate("renew the lease of an order", err)
}
