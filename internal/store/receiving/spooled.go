package receiving

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/callback"
	"callbackd/internal/store"
)

// insertSpooled skips what is stored already: a callback whose insert got no answer, or
// a batch that was stored but not yet dropped from the spool. A conflict target would
// require the right to read.
var insertSpooled = insertCallback + ` ON CONFLICT DO NOTHING`

// InsertSpooled bounds callbacks from an outage and stores them in one transaction,
// each exactly once, however often it is called with them. After an error, none is
// stored; if store.BadRow reports that a row is at fault, the others can be stored
// without it.
func (s *Store) InsertSpooled(ctx context.Context, list []*callback.Callback) error {
	var batch pgx.Batch // one transaction, without a BEGIN
	for _, c := range list {
		c.Bound() // an older version may have spooled it
		batch.Queue(insertSpooled, callbackRow.Values(c)...)
	}
	if err := s.db.Pool().SendBatch(ctx, &batch).Close(); err != nil {
		return store.Translate("insert spooled callbacks", err)
	}
	s.db.Wake(store.Inbox)
	return nil
}

// RejectSpooled stores a spooled callback as a dead letter: as a rejected callback with
// the same id, and the SQLSTATE of InsertSpooled's error in the reason. Repeating it does
// nothing.
func (s *Store) RejectSpooled(ctx context.Context, c *callback.Callback, cause error) error {
	r := callback.Rejected{
		ID: c.ID, ReceivedAt: c.ReceivedAt, SourceIP: c.SourceIP, Reason: store.DeadLetterReason(cause), ContentType: c.ContentType, Body: c.Body,
	}
	r.Bound()
	tag, err := s.db.Pool().Exec(ctx, insertRejected+` ON CONFLICT DO NOTHING`, rejectedRow.Values(&r)...)
	s.db.Metrics.DeadLetters.Add(float64(tag.RowsAffected()))
	return store.Translate(fmt.Sprintf("make spooled callback %s a dead letter", c.ID), err)
}

// ReportSpool says whether the spool on a host holds callbacks: an erasure waits for those
// that do. On a schema of before there were erasures it does nothing.
func (s *Store) ReportSpool(ctx context.Context, id uuid.UUID, host string, empty bool) error {
	_, err := s.db.Pool().Exec(ctx, `SELECT callbackd.report_spool($1, $2, $3)`, id, host, empty)
	err = store.Translate("report the spool", err)
	if e, ok := errors.AsType[*store.SQLError](err); ok && e.Code == pgerrcode.UndefinedFunction {
		return nil
	}
	return err
}
