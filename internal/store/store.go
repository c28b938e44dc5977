// Package store is callbackd's database: every SQL statement, the group commit
// that takes callbacks in, and the transactions that promote and retrieve.
//
// It does not decide anything: what a callback means for its workflow execution
// and what an answer of Jumio's is worth is the fetcher's business. Callers
// never see an error of the driver's own; errors.go translates them.
package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"
)

// Options are the store's settings.
type Options struct {
	// DSN is the Postgres connection string; never logged.
	DSN string
	// MaxConns bounds the pool; 0 leaves the DSN's or pgx's own default.
	MaxConns int32
	// StoreTimeout bounds how long a callback may wait for Postgres.
	StoreTimeout time.Duration
	// Log and Metrics must be set.
	Log     *zap.Logger
	Metrics *Metrics
}

// Store is a pool of connections and the writers of the group commit. It is
// safe for concurrent use.
type Store struct {
	pool    *pgxpool.Pool
	log     *zap.Logger
	metrics *Metrics
	ingest  *ingest
	waker   *waker
}

// Open makes the pool; it does not wait for the database. Close ends it.
func Open(ctx context.Context, o Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		// The parser's text may hold the password.
		return nil, fmt.Errorf("parse DATABASE_URL: not a valid Postgres connection string")
	}
	if o.MaxConns > 0 {
		cfg.MaxConns = o.MaxConns
	}
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "callbackd"
	}
	if cfg.ConnConfig.ConnectTimeout == 0 {
		cfg.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	cfg.AfterConnect = makeDurable
	failover := watchFailover(cfg.ConnConfig)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, translate("open the pool", err)
	}
	failover.pool.Store(pool)
	s := &Store{pool: pool, log: o.Log, metrics: o.Metrics}
	s.waker = startWaker(pool, o.Log)
	s.ingest = startIngest(pool, o.StoreTimeout, o.Metrics, s.waker.wake)
	o.Metrics.observePool(pool)
	return s, nil
}

// makeDurable raises a weaker synchronous_commit, which a server or a role may
// have as its default, to the "on" that a 200 promises; a stronger one stays.
// It also bounds how long a transaction of ours may hold locks while idle.
func makeDurable(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false)
		WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write');
		SET idle_in_transaction_session_timeout = '60s'`, pgx.QueryExecModeSimpleProtocol)
	return err
}

// Close waits for the callbacks that are being written, then closes the pool.
// No callback may be inserted any more when it is called.
func (s *Store) Close() {
	s.ingest.stop()
	s.waker.stop()
	s.pool.Close()
}

// Pool gives the pool to River, which keeps its own tables.
func (s *Store) Pool() *pgxpool.Pool { return s.pool }

// Ready returns nil when a callback sent now would be stored: the database
// answers and is not read-only.
func (s *Store) Ready(ctx context.Context) error {
	var readOnly bool
	err := s.pool.QueryRow(ctx, `SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool`).Scan(&readOnly)
	if err != nil {
		return translate("ask the database whether it is ready", err)
	}
	if readOnly {
		s.pool.Reset() // as failover does
		return fmt.Errorf("the database is read-only: %w", ErrUnavailable)
	}
	return nil
}

// inTx runs f in a transaction: committed when f returns nil.
func (s *Store) inTx(ctx context.Context, doing string, f func(pgx.Tx) error) error {
	return translate(doing, pgx.BeginFunc(ctx, s.pool, f))
}
