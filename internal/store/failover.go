package store

import (
	"sync/atomic"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// failover closes the pool's connections once a server has refused to write:
// they would stay with a primary that has become a standby, while a new one
// finds the new primary among the hosts of DATABASE_URL.
type failover struct{ pool atomic.Pointer[pgxpool.Pool] }

// watchFailover looks at every error of every connection, COPY's too. The pool
// is still to be set.
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
