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

// Error is one of the store's own errors, for errors.Is. Any other error is a fault in
// the program or the database's schema.
type Error string

const (
	// ErrUnavailable means that the database could not be reached or did not commit
	// in time. Nothing is known to be stored.
	ErrUnavailable Error = "database unavailable"
	// ErrTimeout means that an ErrUnavailable, which it accompanies, is a time-out.
	ErrTimeout Error = "time-out"
	// ErrNotFound means that no such row exists.
	ErrNotFound Error = "not found"
)

// Error implements error.
func (e Error) Error() string { return string(e) }

// Translate is the only function that inspects the driver's errors. It adds what was
// being done, keeps the SQLSTATE, and drops the driver's text, which may quote a row.
// It keeps an Error as it is.
func Translate(doing string, err error) error {
	var pgErr *pgconn.PgError
	var connectErr *pgconn.ConnectError
	var netErr net.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, new(Error)):
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

// SQLError is an error that Postgres reported and that a retry would not fix.
type SQLError struct {
	// Code is the SQLSTATE.
	Code string
	// Constraint names the violated constraint, if any.
	Constraint string
}

// Error returns the code and the constraint, never the server's text, which may quote a
// row.
func (e *SQLError) Error() string {
	if e.Constraint != "" {
		return fmt.Sprintf("SQLSTATE %s on %s", e.Code, e.Constraint)
	}
	return "SQLSTATE " + e.Code
}

// Forbidden reports whether err means that the database role lacks a right.
func Forbidden(err error) bool {
	e, ok := errors.AsType[*SQLError](err)
	return ok && e.Code == pgerrcode.InsufficientPrivilege
}

// unavailable reports whether an SQLSTATE means a passing state: no connection, a
// shutdown, too many connections, a full disk, read-only after a failover, a lock held
// for long.
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

// OfBatch reports whether a batch that failed with err may succeed in part: a row's
// values or a damaged page are at fault, or the batch needed too much time or memory.
func OfBatch(err error) bool {
	if BadRow(err) || errors.Is(err, ErrTimeout) {
		return true
	}
	e, ok := errors.AsType[*SQLError](err)
	return ok && (pgerrcode.IsInternalError(e.Code) || e.Code == pgerrcode.OutOfMemory)
}

// Locked reports whether another transaction has held a lock for longer than lock_timeout.
func Locked(err error) bool {
	e, ok := errors.AsType[*SQLError](err)
	return ok && e.Code == pgerrcode.LockNotAvailable
}

// BadRow reports whether the values of a row caused err: neither waiting nor another
// server would help, but the statement may succeed without that row.
func BadRow(err error) bool {
	e, ok := errors.AsType[*SQLError](err)
	return ok && (pgerrcode.IsDataException(e.Code) ||
		pgerrcode.IsIntegrityConstraintViolation(e.Code) || pgerrcode.IsProgramLimitExceeded(e.Code))
}
