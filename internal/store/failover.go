package store

import (
	"sync/atomic"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// failover closes the pool's connections once a server rejects a write as read-only.
// They would stay with a primary that has become a standby; new ones find the new
// primary among the hosts of DATABASE_URL.
type failover struct{ pool atomic.Pointer[pgxpool.Pool] }

// watchFailover sees every error of every connection, also from COPY. The caller sets
// the pool.
func watchFailover(cfg *pgx.ConnConfig) *failover {
	f := &failover{}
	before := cfg.OnPgError // closes a connection after a fatal error
	cfg.OnPgError = func(conn *pgconn.PgConn, err *pgconn.PgError) bool {
		if pool := f.pool.Load(); pool != nil && err.Code == pgerrcode.ReadOnlySQLTransaction {
			pool.Reset()
		}
		return before(conn, err)
	}
	return f
}
