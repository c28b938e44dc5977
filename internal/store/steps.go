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

// steps is golang-migrate's driver. It runs a migration and marks its version in
// one transaction with a short lock timeout: a statement that waits for a lock
// makes everyone behind it wait too, callbacks included, so it soon gives up, rolls
// everything back, and tries again after a pause.
//
// A statement that Postgres runs only outside a transaction is written so that it
// can be repeated, and marked afterwards. So no migration is left half done.
type steps struct {
	database.Driver
	db      *sql.DB
	conn    *sql.Conn
	maxWait time.Duration
	onWait  func(holders string)
	ctx     context.Context //nolint:containedctx // the interface has none
	target  int
}

// concurrently matches a migration that is one statement outside a transaction,
// and the index that it makes or drops. It waits for others without holding them
// up. IF [NOT] EXISTS is what makes it repeatable.
var concurrently = regexp.MustCompile(`(?im)^\s*(?:CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+IF\s+NOT\s+EXISTS|DROP\s+INDEX\s+CONCURRENTLY\s+IF\s+EXISTS)\s+(?:callbackd\.)?(\w+)`)

// SetVersion is called before Run, with dirty, and after it.
func (s *steps) SetVersion(version int, dirty bool) error {
	if dirty {
		s.target = version // Run marks it
		return nil
	}
	if now, wasDirty, err := s.Version(); err == nil && now == version && !wasDirty {
		return nil
	}
	return s.patiently(markVersion(version))
}

// Run runs one migration, a file.
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

// dropInvalid drops an index that an interrupted build has left behind.
func (s *steps) dropInvalid(index string) error {
	var invalid bool
	err := s.conn.QueryRowContext(s.ctx, `SELECT EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass($1) AND NOT indisvalid)`, index).Scan(&invalid)
	if err != nil || !invalid {
		return err
	}
	return s.exec("DROP INDEX CONCURRENTLY " + index)
}

// markVersion writes golang-migrate's table, without the driver's TRUNCATE: that
// would wait for a running backup, and hold up everyone who reads the version.
func markVersion(version int) string {
	mark := "DELETE FROM callbackd.schema_migrations;"
	if version >= 0 {
		mark += fmt.Sprintf(" INSERT INTO callbackd.schema_migrations (version, dirty) VALUES (%d, false);", version)
	}
	return mark
}

// patiently runs the statements as one transaction, again and again until it gets
// its locks.
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
			return fmt.Errorf("%w: a lock was unavailable for %s, nothing was changed; held by %s: let that end, then try again", ErrUnavailable, s.maxWait, who)
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
