// Package receiving holds the statements that the role callbackd_receiver may execute:
// those that add callbacks and rejected callbacks, report the spool, and load and save
// the addresses of Jumio's hosts. What faces the internet has no other SQL, and nothing here
// reads what Jumio sent.
package receiving

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"callbackd/internal/callback"
	"callbackd/internal/store"
)

// Store executes the statements. It is safe for concurrent use.
type Store struct {
	db      *store.DB
	timeout time.Duration
	ingest  *ingest
}

// New creates a Store in which storing a callback, or a rejected one, takes at most the
// timeout. Its metrics are registered with reg. Close it before db.
func New(db *store.DB, timeout time.Duration, reg prometheus.Registerer) *Store {
	return &Store{db: db, timeout: timeout, ingest: newIngest(db, timeout, reg)}
}

// Ready returns nil if a callback sent now would be stored.
func (s *Store) Ready(ctx context.Context) error { return s.db.Ready(ctx) }

// Close waits for the callbacks that are being written. Call InsertCallback no more.
func (s *Store) Close() { s.ingest.close() }

var (
	rejectedRow    = store.RowOf[callback.Rejected]()
	insertRejected = rejectedRow.Insert("callbackd.rejected_callbacks")
)

// InsertRejected bounds and stores a rejected callback.
func (s *Store) InsertRejected(ctx context.Context, r *callback.Rejected) error {
	r.Bound()
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := s.db.Pool().Exec(ctx, insertRejected, rejectedRow.Values(r)...)
	return store.Translate("store a rejected callback", err)
}
