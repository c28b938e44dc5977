package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"
)

// translate is the one place that looks into the driver's errors. It says what
// was being done, keeps the error's code, and drops its texts, which may quote
// the values of a row. Errors of this package pass as they are.
func translate(doing string, err error) error {
	var pgErr *pgconn.PgError
	var connectErr *pgconn.ConnectError
	var netErr net.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrUnavailable), errors.Is(err, ErrNotFound), errors.Is(err, ErrSuperseded), errors.As(err, new(*BusyError)):
		return fmt.Errorf("%s: %w", doing, err)
	case errors.Is(err, pgx.ErrNoRows):
		return fmt.Errorf("%s: %w", doing, ErrNotFound)
	case errors.As(err, &pgErr):
		switch {
		case pgErr.Code == pgerrcode.QueryCanceled:
			return fmt.Errorf("%s: %w (%w)", doing, ErrUnavailable, ErrTimeout)
		case unavailable(pgErr.Code):
			return fmt.Errorf("%s: %w (%w)", doing, ErrUnavailable, &SQLError{Code: pgErr.Code})
		}
		return fmt.Errorf("%s: %w", doing, &SQLError{Code: pgErr.Code, Constraint: pgErr.ConstraintName})
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", doing, context.Canceled)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w (%w)", doing, ErrUnavailable, ErrTimeout)
	case errors.As(err, &connectErr):
		return fmt.Errorf("%s: %w (no connection)", doing, ErrUnavailable)
	case errors.As(err, &netErr), pgconn.SafeToRetry(err), pgconn.Timeout(err):
		return fmt.Errorf("%s: %w (connection lost)", doing, ErrUnavailable)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, puddle.ErrClosedPool):
		return fmt.Errorf("%s: %w (connection closed)", doing, ErrUnavailable)
	default:
		return fmt.Errorf("%s: unexpected error of type %T", doing, err)
	}
}

// SQLError is an error that Postgres reported for a statement and that trying
// again would not fix.
type SQLError struct {
	// Code is the SQLSTATE.
	Code string
	// Constraint is the name of the violated constraint, if any.
	Constraint string
}

// Error gives the code and the constraint, never the server's text, which may
// hold the values of the row.
func (e *SQLError) Error() string {
	if e.Constraint != "" {
		return fmt.Sprintf("SQLSTATE %s on %s", e.Code, e.Constraint)
	}
	return "SQLSTATE " + e.Code
}

// Forbidden tells whether the database's role may not do what was tried.
func Forbidden(err error) bool {
	var e *SQLError
	var pgErr *pgconn.PgError // of a migration
	return errors.As(err, &e) && e.Code == pgerrcode.InsufficientPrivilege ||
		errors.As(err, &pgErr) && pgErr.Code == pgerrcode.InsufficientPrivilege
}

// unavailable tells the states that pass: no connection, shutting down, too
// many connections, out of disk, read-only after a failover, locked for long.
func unavailable(code string) bool {
	switch code {
	case pgerrcode.ReadOnlySQLTransaction, pgerrcode.LockNotAvailable, pgerrcode.QueryCanceled,
		pgerrcode.IdleInTransactionSessionTimeout, pgerrcode.InvalidAuthorizationSpecification, pgerrcode.InvalidPassword,
		pgerrcode.InvalidCatalogName:
		return true
	}
	return pgerrcode.IsConnectionException(code) || pgerrcode.IsInsufficientResources(code) ||
		pgerrcode.IsOperatorIntervention(code) || pgerrcode.IsTransactionRollback(code) ||
		pgerrcode.IsSystemError(code) || pgerrcode.IsInternalError(code)
}

// OfBatch tells whether a batch that failed with err may be taken in part: a row's
// values are at fault, or its bytes on the disk, or the batch took too much time
// or memory.
func OfBatch(err error) bool {
	if badRow(err) || errors.Is(err, ErrTimeout) {
		return true
	}
	var e *SQLError
	return errors.As(err, &e) && (pgerrcode.IsInternalError(e.Code) || e.Code == pgerrcode.OutOfMemory)
}

// badRow tells whether an error lies in the values of a row, so that the other
// rows of its statement may still be taken.
func badRow(err error) bool {
	var e *SQLError
	return errors.As(err, &e) && (pgerrcode.IsDataException(e.Code) ||
		pgerrcode.IsIntegrityConstraintViolation(e.Code) || pgerrcode.IsProgramLimitExceeded(e.Code))
}
