package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/callback"
)

// insertSpooled leaves alone what is stored already: the callback whose insert
// ended without an answer, and the batch that was stored and not yet dropped
// from the spool. Without a conflict target, which would take the right to read.
const insertSpooled = insertCallback + ` ON CONFLICT DO NOTHING`

// InsertSpooled stores, in one transaction, callbacks that were taken in while the database did not
// take them, each exactly once however often it is called with them. None is
// stored after an error; if BadRow tells that a row is at fault, the others may
// be stored without it.
func (s *Store) InsertSpooled(ctx context.Context, list []*callback.Callback) error {
	var batch pgx.Batch // without a BEGIN, yet one transaction
	for _, c := range list {
		c.Bound() // an older version may have spooled it
		batch.Queue(insertSpooled, insertArguments(c)...)
	}
	if err := s.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return translate("insert spooled callbacks", err)
	}
	s.waker.wake()
	return nil
}

// ReasonNotStorable begins the reason of a dead letter: a callback that was
// answered 200 and that Postgres would not store, or not promote, for its values.
const ReasonNotStorable = "not_storable"

// RejectSpooled keeps a callback that InsertSpooled refused for its values,
// under its own id, with the SQLSTATE in the reason. It may be called again with
// the same one.
func (s *Store) RejectSpooled(ctx context.Context, c *callback.Callback, cause error) error {
	r := callback.Rejected{
		ID: c.ID, ReceivedAt: c.ReceivedAt, SourceIP: c.SourceIP, Reason: notStorable(cause), ContentType: c.ContentType, Body: c.Body,
	}
	_, err := s.pool.Exec(ctx, insertRejected+` ON CONFLICT DO NOTHING`, rejectedArguments(&r)...)
	if err == nil {
		s.metrics.deadLetters.Inc()
	}
	return translate("keep a spooled callback as rejected", err)
}

// notStorable is the reason of what Postgres refused with cause.
func notStorable(cause error) string {
	if e, ok := errors.AsType[*SQLError](cause); ok {
		return fmt.Sprintf("%s: SQLSTATE %s", ReasonNotStorable, e.Code)
	}
	return ReasonNotStorable
}

// BadRow tells whether an error lies in the values of a row, so that neither
// waiting nor another server would mend it.
func BadRow(err error) bool { return badRow(err) }
