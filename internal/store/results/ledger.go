package results

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/store"
	"callbackd/internal/tombstone"
)

// StepReplay comes before StepExecutions where an order is replayed.
const StepReplay Step = "replay"

// LedgerEntry is an order as it is exported: nothing in it says who was erased, but to
// whoever has the key and guesses an id.
type LedgerEntry struct {
	OrderID     uuid.UUID  `json:"order_id"`
	RequestedAt time.Time  `json:"requested_at"`
	RequestedBy string     `json:"requested_by"`
	Reason      string     `json:"reason"`
	SubjectKind string     `json:"subject_kind"`
	AtJumio     bool       `json:"at_jumio"`
	State       OrderState `json:"state"`
	FinishedAt  *time.Time `json:"finished_at"`
	// Deleted and JumioAnswer are those of jumio.erasures.
	Deleted     json.RawMessage `json:"deleted"`
	JumioAnswer json.RawMessage `json:"jumio_answer"`
	// KeyCheck tells the key that made the hashes from others.
	KeyCheck Hash `json:"key_check"`
	// SubjectHash is null until a worker has begun.
	SubjectHash Hash          `json:"subject_hash"`
	Tombstones  []LedgerStone `json:"tombstones"`
}

// LedgerStone is a tombstone as it is exported.
type LedgerStone struct {
	Kind tombstone.Kind `json:"kind"`
	Hash Hash           `json:"hash"`
}

// Hash is in JSON a text in hexadecimal, or null.
type Hash []byte

// MarshalJSON implements json.Marshaler.
func (h Hash) MarshalJSON() ([]byte, error) {
	if h == nil {
		return []byte("null"), nil
	}
	return json.Marshal(hex.EncodeToString(h))
}

// UnmarshalJSON implements json.Unmarshaler.
func (h *Hash) UnmarshalJSON(b []byte) error {
	var text *string
	if err := json.Unmarshal(b, &text); err != nil || text == nil {
		return err
	}
	decoded, err := hex.DecodeString(*text)
	*h = decoded
	return err
}

// ExportLedger calls f for each order, in the order in which they were given.
func (s *Store) ExportLedger(ctx context.Context, f func(*LedgerEntry) error) error {
	const doing = "export the ledger of erasures"
	rows, err := s.db.Pool().Query(ctx, `
		SELECT e.order_id, e.requested_at, e.requested_by, e.reason, e.subject_kind, e.at_jumio, e.state, e.finished_at, e.deleted, e.jumio_answer,
			k.key_check, e.subject_hash,
			(SELECT coalesce(jsonb_agg(jsonb_build_object('kind', t.kind, 'hash', encode(t.hash, 'hex')) ORDER BY t.kind, t.hash), '[]')
				FROM callbackd.tombstones AS t WHERE t.order_id = e.order_id)
		FROM callbackd.erasures AS e LEFT JOIN callbackd.erasure_key AS k ON true
		ORDER BY e.requested_at, e.order_id`)
	if err != nil {
		return store.Translate(doing, err)
	}
	defer rows.Close()
	for rows.Next() {
		var e LedgerEntry
		var stones []byte
		if err := rows.Scan(&e.OrderID, &e.RequestedAt, &e.RequestedBy, &e.Reason, &e.SubjectKind, &e.AtJumio, &e.State, &e.FinishedAt,
			&e.Deleted, &e.JumioAnswer, (*[]byte)(&e.KeyCheck), (*[]byte)(&e.SubjectHash), &stones); err != nil {
			return store.Translate(doing, err)
		}
		if err := json.Unmarshal(stones, &e.Tombstones); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
		if err := f(&e); err != nil {
			return err
		}
	}
	return store.Translate(doing, rows.Err())
}

// ReplayEntry makes an order that is done again, under its id and with its tombstones, in a
// database that does not know it: a worker then erases what the tombstones are of, and asks
// Jumio nothing. It reports whether the order was unknown; a known one stays as it is.
func (s *Store) ReplayEntry(ctx context.Context, e *LedgerEntry) (made bool, err error) {
	err = s.InTx(ctx, "replay order "+e.OrderID.String(), func(tx *Tx) error {
		tag, err := tx.Exec(ctx, `
			INSERT INTO callbackd.erasures (order_id, requested_at, requested_by, reason, subject_kind, subject_hash, at_jumio, state, step, jumio_answer)
			VALUES ($1, $2, $3, $4, $5, $6, $7, 'ordered', $8, $9) ON CONFLICT DO NOTHING`,
			e.OrderID, e.RequestedAt, e.RequestedBy, e.Reason, e.SubjectKind, []byte(e.SubjectHash), e.AtJumio, string(StepReplay), string(e.JumioAnswer))
		if made = tag.RowsAffected() > 0; err != nil || !made {
			return err
		}
		kinds, hashes := make([]string, len(e.Tombstones)), make([][]byte, len(e.Tombstones))
		for i, t := range e.Tombstones {
			kinds[i], hashes[i] = string(t.Kind), t.Hash
		}
		return tx.insertTombstones(ctx, e.OrderID, kinds, hashes)
	})
	return made, err
}

// FindReplayed finds what replayed orders cover, by hashing all ids in the tables, for all of
// them at once: o is one of them. It may take minutes, in which it renews o's lease.
func (s *Store) FindReplayed(ctx context.Context, o *Order, referenceKey string) error {
	const doing = "look for what replayed orders cover"
	orders, byHash, err := s.replayed(ctx)
	if err != nil {
		return s.putOffIfLocked(ctx, o, err)
	}
	found := map[foundSubject]bool{}
	renewed := time.Now()
	err = s.eachNaming(ctx, referenceKey, func(Progress) {}, func(n naming) error {
		if time.Since(renewed) > orderLease/4 {
			renewed = time.Now()
			if err := s.RenewOrder(ctx, o); err != nil {
				return err
			}
		}
		for _, subject := range n.subjects {
			order, covered := byHash[string(s.db.ErasureKey.Hash(subject))]
			if !covered {
				continue
			}
			found[foundSubject{order, subject}] = true
			if subject.Kind == tombstone.Account && n.table == "workflow_executions" {
				for _, other := range n.subjects { // the account's, if there have been more since
					if other.Kind == tombstone.WorkflowExecution {
						found[foundSubject{order, other}] = true
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		return store.Translate(doing, err)
	}
	return s.inOrder(ctx, o, doing, func(tx *orderTx) error { return tx.coverReplayed(ctx, orders, found, referenceKey) })
}

// foundSubject is a subject that a replayed order covers.
type foundSubject struct {
	order uuid.UUID
	tombstone.Subject
}

// replayed returns the replayed orders of which nobody has looked yet what they cover, and
// whose each tombstone is. No transaction that has not seen the tombstones is under way
// when it returns.
func (s *Store) replayed(ctx context.Context) (orders []uuid.UUID, byHash map[string]uuid.UUID, err error) {
	err = s.InTx(ctx, "read replayed orders", func(tx *Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '`+barLockTimeout+`'; LOCK TABLE callbackd.tombstones IN ACCESS EXCLUSIVE MODE`,
			pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT e.order_id, t.hash FROM callbackd.erasures AS e LEFT JOIN callbackd.tombstones AS t ON t.order_id = e.order_id
			WHERE e.step = $1 ORDER BY e.order_id`, string(StepReplay))
		if err != nil {
			return err
		}
		byHash = map[string]uuid.UUID{}
		var order uuid.UUID
		var hash []byte
		_, err = pgx.ForEachRow(rows, []any{&order, &hash}, func() error {
			if len(orders) == 0 || orders[len(orders)-1] != order {
				orders = append(orders, order)
			}
			if hash != nil {
				byHash[string(hash)] = order
			}
			return nil
		})
		return err
	})
	return orders, byHash, err
}

// coverReplayed writes down what replayed orders cover, and has them go on. One that covers
// what is held waits.
func (tx *orderTx) coverReplayed(ctx context.Context, orders []uuid.UUID, found map[foundSubject]bool, referenceKey string) error {
	if err := tx.addExclusiveTo(ctx, found, referenceKey); err != nil {
		return err
	}
	ids, kinds, subjects := make([]uuid.UUID, 0, len(found)), make([]string, 0, len(found)), make([]string, 0, len(found))
	for f := range found {
		ids, kinds, subjects = append(ids, f.order), append(kinds, string(f.Kind)), append(subjects, f.ID)
	}
	if _, err := tx.Exec(ctx, `INSERT INTO callbackd.erasure_subjects (order_id, kind, subject)
		SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[]) ON CONFLICT DO NOTHING`, ids, kinds, subjects); err != nil {
		return err
	}
	held, err := tx.heldUp(ctx, StepReplay)
	if err != nil {
		return err
	}
	if !held {
		tx.State, tx.Step = OrderRunning, StepExecutions
	}
	// Of the others, those that are held look for themselves.
	_, err = tx.Exec(ctx, `
		UPDATE callbackd.erasures AS e SET state = 'running', step = $3, next_at = '-infinity'
		WHERE e.order_id = ANY ($1) AND e.order_id <> $2 AND e.step = $4
			AND NOT EXISTS (SELECT FROM callbackd.erasure_subjects AS s JOIN callbackd.holds AS h ON h.workflow_execution_id = s.subject
				WHERE s.order_id = e.order_id AND s.kind = 'workflow_execution')`,
		orders, tx.ID, string(StepExecutions), string(StepReplay))
	return err
}

// addExclusiveTo adds the accounts and references of the found workflow executions that no
// other one has: there are no tombstones of them.
func (tx *Tx) addExclusiveTo(ctx context.Context, found map[foundSubject]bool, referenceKey string) error {
	type cover struct {
		coverage
		ids []string
	}
	covers := map[uuid.UUID]*cover{}
	for f := range found {
		c := covers[f.order]
		if c == nil {
			c = &cover{}
			covers[f.order] = c
		}
		switch f.Kind {
		case tombstone.WorkflowExecution:
			c.ids = append(c.ids, f.ID)
		case tombstone.Account:
			c.accounts = append(c.accounts, f.ID)
		default:
			c.references = append(c.references, f.ID)
		}
	}
	for order, c := range covers {
		var err error
		if c.executions, err = tx.claimed(ctx, `SELECT unnest($1::text[])`, c.ids, referenceKey); err != nil {
			return err
		}
		if err := tx.addExclusive(ctx, &c.coverage, referenceKey); err != nil {
			return err
		}
		for _, s := range c.subjects() {
			found[foundSubject{order, s.Subject}] = true
		}
	}
	return nil
}
