package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"strings"
	"time"

	"github.com/golang-migrate/migrate/v4/database"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// lockTimeout bounds how long a statement of a migration waits for a lock,
	// and so how long callbacks queue behind it. It is more than a second, which
	// is Postgres' deadlock_timeout: only then does an autovacuum give way.
	lockTimeout = 1500 * time.Millisecond
	// lookAfter is when it is asked who holds the lock.
	lookAfter = time.Second
	// The pauses between two attempts grow from the first to the longest.
	firstPause, longestPause = time.Second, 15 * time.Second
)

// steps is golang-migrate's driver, which runs a migration and marks its
// version in one transaction of short waits: a statement that waits for its
// lock makes everybody wait who comes after it, callbacks too, so it gives up
// soon, everything is rolled back, and after a pause it is tried again.
//
// So no migration is left half done, but those that Postgres does not run in a
// transaction.
type steps struct {
	database.Driver
	db      *sql.DB
	conn    *sql.Conn
	maxWait time.Duration
	onWait  func(holders string)
	ctx     context.Context //nolint:containedctx // the interface has none
	target  int
}

// concurrently finds the statements that run outside of transactions. They wait
// long for others, but nobody waits for them.
var concurrently = regexp.MustCompile(`(?im)^\s*(CREATE|DROP|REINDEX)\b.*\bCONCURRENTLY\b`)

// SetVersion is called before Run, with dirty, and after it.
func (s *steps) SetVersion(version int, dirty bool) error {
	if dirty {
		s.target = version // Run marks it
		return nil
	}
	if now, wasDirty, err := s.Version(); err == nil && now == version && !wasDirty {
		return nil
	}
	return s.patiently(markVersion(version, false))
}

// Run runs one migration, a file.
func (s *steps) Run(migration io.Reader) error {
	text, err := io.ReadAll(migration)
	if err != nil {
		return err
	}
	if concurrently.Match(text) {
		if err := s.patiently(markVersion(s.target, true)); err != nil {
			return err
		}
		return s.exec(string(text))
	}
	return s.patiently(string(text) + "\n;\n" + markVersion(s.target, false))
}

// markVersion writes golang-migrate's table, without the TRUNCATE that the
// driver would make: that would wait for a backup, and so would who asks for
// the version.
func markVersion(version int, dirty bool) string {
	mark := "DELETE FROM callbackd.schema_migrations;"
	if version >= 0 {
		mark += fmt.Sprintf(" INSERT INTO callbackd.schema_migrations (version, dirty) VALUES (%d, %t);", version, dirty)
	}
	return mark
}

// patiently runs the statements as one transaction, again and again until it
// got its locks.
func (s *steps) patiently(text string) error {
	text = fmt.Sprintf("SET LOCAL lock_timeout = %d; ", lockTimeout.Milliseconds()) + text
	deadline := time.Now().Add(s.maxWait)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		holders := s.watch()
		err := s.exec(text)
		who := holders()
		if !lockFailed(err) {
			return err
		}
		if s.onWait != nil {
			s.onWait(who)
		}
		select {
		case <-time.After(pause/2 + rand.N(pause)):
			if time.Now().Before(deadline) {
				continue
			}
			return fmt.Errorf("%w: a lock was not to be had within %s, nothing was changed; held by %s: let that end, then try again", ErrUnavailable, s.maxWait, who)
		case <-s.ctx.Done():
			return fmt.Errorf("%w: ended while it waited for a lock, nothing was changed; held by %s", ErrUnavailable, who)
		}
	}
}

// exec runs statements, in one transaction if they are several.
func (s *steps) exec(text string) error {
	_, err := s.conn.ExecContext(context.WithoutCancel(s.ctx), text)
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && !lockFailed(err) {
		return &migrationError{version: s.target, line: lineOf(text, int(pgErr.Position)), err: pgErr}
	}
	return err
}

// lockFailed tells the errors of who got a lock too late: the time-out, and the
// choice of Postgres between two that wait for each other.
func lockFailed(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == pgerrcode.LockNotAvailable || pgErr.Code == pgerrcode.DeadlockDetected)
}

// watch asks, while a statement waits, who holds its lock. What it returns ends
// the watch and tells; nobody's query is in it.
func (s *steps) watch() (holders func() string) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.ctx))
	found := make(chan string, 1)
	go func() {
		who := "a session that is gone by now"
		select {
		case <-ctx.Done():
		case <-time.After(lookAfter):
			list, err := s.holders(ctx)
			if len(list) > 0 {
				who = strings.Join(list, ", ")
			} else if err != nil && ctx.Err() == nil {
				who = "a session that could not be found out"
			}
		}
		found <- who
	}()
	return func() string {
		cancel()
		return <-found
	}
}

func (s *steps) holders(ctx context.Context) (list []string, err error) {
	// Whose session it is and since when is hidden from an ordinary role, the
	// application's name is not.
	rows, err := s.db.QueryContext(ctx, `
		SELECT b.pid, coalesce(nullif(a.application_name, ''), a.backend_type, 'unknown'),
			coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), -1)::float8
		FROM pg_locks AS m, unnest(pg_blocking_pids(m.pid)) AS b (pid)
		LEFT JOIN pg_stat_activity AS a ON a.pid = b.pid
		WHERE m.pid = (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
				AND classid::int8 << 32 | objid::int8 = $1)
			AND NOT m.granted
		ORDER BY 3 DESC LIMIT 10`, int64(migrateLock))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var pid int
		var name string
		var seconds float64
		if err := rows.Scan(&pid, &name, &seconds); err != nil {
			return nil, err
		}
		holder := fmt.Sprintf("%q (pid %d", name, pid)
		if pid == 0 {
			holder = "(a prepared transaction"
		}
		if seconds >= 0 {
			holder += ", since " + (time.Duration(seconds) * time.Second).String()
		}
		list = append(list, holder+")")
	}
	return list, rows.Err()
}

// migrationError is a migration that Postgres did not take.
type migrationError struct {
	version, line int // line is 0 where it is not known
	err           *pgconn.PgError
}

// Error gives the server's text, unless that may quote a row.
func (e *migrationError) Error() string {
	text := fmt.Sprintf("the migration to version %d failed: SQLSTATE %s", e.version, e.err.Code)
	if e.line > 0 {
		text += fmt.Sprintf(" in line %d", e.line)
	}
	if pgerrcode.IsDataException(e.err.Code) || pgerrcode.IsIntegrityConstraintViolation(e.err.Code) {
		return text
	}
	return text + ": " + e.err.Message
}

// Unwrap gives what the server said.
func (e *migrationError) Unwrap() error { return e.err }

// lineOf is the line of the position, which counts characters from 1.
func lineOf(text string, position int) int {
	runes := []rune(text)
	if position < 1 || position > len(runes) {
		return 0
	}
	return 1 + strings.Count(string(runes[:position-1]), "\n")
}
