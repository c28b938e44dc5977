package store

import (
	"context"
	"errors"
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

// TraceQueryStart has nothing to do.
func (f *failover) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd looks at the error of every statement.
func (f *failover) TraceQueryEnd(_ context.Context, _ *pgx.Conn, data pgx.TraceQueryEndData) {
	if data.Err == nil {
		return
	}
	if e, ok := errors.AsType[*pgconn.PgError](data.Err); ok && e.Code == pgerrcode.ReadOnlySQLTransaction {
		if pool := f.pool.Load(); pool != nil {
			pool.Reset()
		}
	}
}
