package store

import (
	"cmp"
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
	// lockTimeout bounds how long a migration waits for a lock, and so how long
	// callbacks queue behind it. An autovacuum gives way only after Postgres'
	// deadlock_timeout, a second.
	lockTimeout = 1500 * time.Millisecond
	// lookAfter is when a waiting migration looks up who holds the lock; a busy server
	// needs time to answer that.
	lookAfter = lockTimeout / 3
	// The pause between two attempts doubles up to the longest.
	firstPause, longestPause = time.Second, 15 * time.Second
)

// steps is golang-migrate's driver. It runs a migration and marks its version in one
// transaction with a short lock time-out: everyone, callbacks included, queues behind a
// statement that waits for a lock, so it soon rolls back and tries again after a pause.
//
// A statement that Postgres runs only outside a transaction must be repeatable; its
// version is marked afterwards. So no migration is left half done.
type steps struct {
	database.Driver
	db      *sql.DB
	conn    *sql.Conn
	maxWait time.Duration
	onWait  func(holders string)
	ctx     context.Context //nolint:containedctx // the interface has none
	target  int
}

// concurrently matches a migration that is one statement outside a transaction, and
// captures its index. Such a statement waits for others without blocking them; IF [NOT]
// EXISTS makes it repeatable.
var concurrently = regexp.MustCompile(`(?im)^\s*(?:CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+IF\s+NOT\s+EXISTS|DROP\s+INDEX\s+CONCURRENTLY\s+IF\s+EXISTS)\s+(?:callbackd\.)?(\w+)`)

// SetVersion implements database.Driver: it is called before Run with dirty, and after.
func (s *steps) SetVersion(version int, dirty bool) error {
	if dirty {
		s.target = version // for Run to mark
		return nil
	}
	if now, wasDirty, err := s.Version(); err == nil && now == version && !wasDirty {
		return nil
	}
	return s.patiently(markVersion(version))
}

// Run implements database.Driver: it runs one migration file.
func (s *steps) Run(migration io.Reader) error {
	text, err := io.ReadAll(migration)
	if err != nil {
		return err
	}
	if index := concurrently.FindSubmatch(text); index != nil {
		if err := s.dropInvalid("callbackd." + string(index[1])); err != nil {
			return err
		}
		return s.exec(string(text))
	}
	return s.patiently(string(text) + "\n;\n" + markVersion(s.target))
}

// dropInvalid drops an index that an interrupted build left behind.
func (s *steps) dropInvalid(index string) error {
	var invalid bool
	err := s.conn.QueryRowContext(s.ctx, `SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid)`, index).Scan(&invalid)
	if err != nil || !invalid {
		return err
	}
	return s.exec("DROP INDEX CONCURRENTLY " + index)
}

// markVersion returns SQL for golang-migrate's table. The driver's own TRUNCATE would
// wait for a running backup and block everyone who reads the version.
func markVersion(version int) string {
	mark := "DELETE FROM callbackd.schema_migrations;"
	if version >= 0 {
		mark += fmt.Sprintf(" INSERT INTO callbackd.schema_migrations (version, dirty) VALUES (%d, false);", version)
	}
	return mark
}

// patiently runs the statements as one transaction and repeats it until it gets its
// locks.
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
			return fmt.Errorf("%w: no lock within %s, nothing was changed; it is held by %s: let that end, then try again", ErrUnavailable, s.maxWait, who)
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

// exec runs statements, in one transaction if there are several. The end of ctx
// cancels them in the server.
func (s *steps) exec(text string) error {
	_, err := s.conn.ExecContext(s.ctx, text)
	if err != nil && s.ctx.Err() != nil {
		return s.ctx.Err()
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) && !lockFailed(err) {
		return &migrationError{version: s.target, line: lineOf(text, int(pgErr.Position)), err: pgErr}
	}
	return err
}

// lockFailed reports whether err is a lock time-out or a deadlock.
func lockFailed(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == pgerrcode.LockNotAvailable || pgErr.Code == pgerrcode.DeadlockDetected)
}

// watch looks up who holds the lock that the next statement waits for, unless that
// statement ends first. The returned function ends the watch and gives the answer,
// which quotes no query.
func (s *steps) watch() (holders func() string) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.ctx))
	found := make(chan string, 1)
	timer := time.AfterFunc(lookAfter, func() {
		list, err := s.holders(ctx)
		if err != nil {
			list = []string{"an unknown session"}
		}
		found <- strings.Join(list, ", ")
	})
	return func() string {
		cancel()
		who := ""
		if !timer.Stop() {
			who = <-found
		}
		return cmp.Or(who, "a session that has ended")
	}
}

func (s *steps) holders(ctx context.Context) (list []string, err error) {
	// An ordinary role sees a session's application name, but may not see its start.
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

// migrationError is a migration that Postgres rejected.
type migrationError struct {
	version, line int // line is 0 if unknown
	err           *pgconn.PgError
}

// Error includes the server's text, unless that may quote a row.
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

// Unwrap is for Forbidden.
func (e *migrationError) Unwrap() error { return &SQLError{Code: e.err.Code} }

// lineOf returns the line of a position, which counts characters from 1.
func lineOf(text string, position int) int {
	runes := []rune(text)
	if position < 1 || position > len(runes) {
		return 0
	}
	return 1 + strings.Count(string(runes[:position-1]), "\n")
}
