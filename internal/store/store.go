// Package store gives access to Postgres: the pool, transactions, notifications, the
// translation of the driver's errors, the mapping of rows, and the schema with its
// migrations.
//
// The statements are in its parts, divided by database role: store/receiving has what the
// role callbackd_receiver may execute, store/results what the worker executes,
// store/consuming what jumio_reader and jumio_consumer may. Callers outside these packages
// never see the driver's errors.
package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"callbackd/internal/tombstone"
)

// Options are the settings of a DB.
type Options struct {
	// DSN is the Postgres connection string; never logged.
	DSN string
	// MaxConns bounds the pool; 0 leaves the DSN's or pgx's own default.
	MaxConns int32
	// ErasureKey is that of the tombstones; the zero Key for none.
	ErasureKey tombstone.Key
	Log        *zap.Logger
	Metrics    *Metrics
}

// DB is a pool of connections. It is safe for concurrent use.
type DB struct {
	pool  *pgxpool.Pool
	waker *waker
	// Log and Metrics are for store/receiving and store/results, too.
	Log     *zap.Logger
	Metrics *Metrics
	// ErasureKey is for store/results.
	ErasureKey tombstone.Key
}

// Open creates the pool without waiting for the database. Close it.
func Open(ctx context.Context, o Options) (*DB, error) {
	cfg, err := pgxpool.ParseConfig(o.DSN)
	if err != nil {
		// The parser's text may contain the password.
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
		return nil, Translate("open the pool", err)
	}
	failover.pool.Store(pool)
	o.Metrics.observePool(pool)
	return &DB{pool: pool, Log: o.Log, Metrics: o.Metrics, ErasureKey: o.ErasureKey, waker: startWaker(pool, o.Log)}, nil
}

// makeDurable raises a weaker synchronous_commit, which may be the default of a server
// or a role, to the "on" that a 200 promises; a stronger one stays. It also bounds how
// long an idle transaction may hold locks.
func makeDurable(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, `SELECT set_config('synchronous_commit', 'on', false)
		WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write');
		SET idle_in_transaction_session_timeout = '60s'`, pgx.QueryExecModeSimpleProtocol)
	return err
}

// Close sends the last notifications, then closes the pool.
func (db *DB) Close() {
	db.waker.stop()
	db.pool.Close()
}

// Pool is for store/receiving, store/results, store/consuming and River.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// Ready returns nil if the database answers and accepts writes, else ErrUnavailable.
func (db *DB) Ready(ctx context.Context) error {
	var readOnly bool
	err := db.pool.QueryRow(ctx, `SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool`).Scan(&readOnly)
	if err != nil {
		return Translate("ask the database whether it is ready", err)
	}
	if readOnly {
		db.pool.Reset() // as failover does
		return fmt.Errorf("the database is read-only: %w", ErrUnavailable)
	}
	return nil
}

// Tx is a transaction, what it ends with, and what follows its commit.
type Tx struct {
	pgx.Tx
	DB    *DB
	last  pgx.Batch
	after []func()
}

// Last adds a statement that is executed after f of InTx, in one message with the commit:
// what it locks is locked for as long as the server needs, and not until this process gets
// its turn to say that all is well.
func (tx *Tx) Last(sql string, args ...any) { tx.last.Queue(sql, args...) }

// AfterCommit makes InTx call f after the commit.
func (tx *Tx) AfterCommit(f func()) { tx.after = append(tx.after, f) }

// InTx runs f in a transaction and commits it if f returns nil. An error begins with
// what was being done.
func (db *DB) InTx(ctx context.Context, doing string, f func(*Tx) error) error {
	tx := &Tx{DB: db}
	err := db.pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) (err error) {
		if tx.Tx, err = conn.Begin(ctx); err != nil {
			return err
		}
		if err = f(tx); err == nil {
			err = tx.commit(ctx, conn)
		}
		if err != nil {
			_ = tx.Rollback(ctx) // if it fails, the connection is closed
		}
		return err
	})
	if err != nil {
		return Translate(doing, err)
	}
	for _, after := range tx.after {
		after()
	}
	return nil
}

func (tx *Tx) commit(ctx context.Context, conn *pgxpool.Conn) error {
	if tx.last.Len() == 0 {
		return tx.Commit(ctx)
	}
	tx.last.Queue("commit")
	return conn.SendBatch(ctx, &tx.last).Close()
}
