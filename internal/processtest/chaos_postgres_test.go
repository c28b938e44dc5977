package processtest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestChaosPostgres: whatever happens to Postgres, no callback that was answered
// with 200 is lost, and all goes on by itself once it is over. With a spool, all
// are answered with 200 meanwhile. The short version leaves out that without one.
func TestChaosPostgres(t *testing.T) {
	t.Parallel()
	for _, f := range []struct {
		name, kind string
		repeat     int
		happen     func(*chaosRig, *outage, time.Duration)
	}{
		{"Killed", "Postgres killed (immediate shutdown) and restarted", times(5, 1), (*chaosRig).killPostgres},
		{"Terminated", "every connection terminated", times(20, 2), (*chaosRig).terminateConnections},
		{"Exhausted", "max_connections exhausted", times(3, 1), (*chaosRig).exhaustConnections},
		{"Locked", "callbacks locked (ACCESS EXCLUSIVE)", times(3, 1), (*chaosRig).lockCallbacks},
		{"ReadOnly", "default_transaction_read_only", times(3, 1), (*chaosRig).makeReadOnly},
		{"DiskFull", diskFull, times(3, 1), (*chaosRig).fillDisk},
	} {
		for spool, spooled := range times(map[string]bool{"": true, "WithoutSpool": false}, map[string]bool{"": true}) {
			t.Run(f.name+spool, func(t *testing.T) {
				t.Parallel()
				postgres := ownPostgres(t)
				r := newChaosRig(t, postgres.dsn)
				r.spooled = spooled
				r.serve(roleBoth)
				r.warmUp()
				r.load.start()
				for range f.repeat {
					r.awaitMore(chaosSenders)
					r.moment(500 * time.Millisecond)
					r.fault(f.kind)
					r.stranded = true
					f.happen(r, postgres, times(10*time.Second, 2*time.Second))
				}
				r.awaitMore(chaosSenders)
				r.settle()
			})
		}
	}
}

func (r *chaosRig) killPostgres(postgres *outage, away time.Duration) {
	r.t.Helper()
	postgres.begin()
	r.felt()
	hold(away)
	postgres.end()
}

func (r *chaosRig) terminateConnections(*outage, time.Duration) {
	r.t.Helper()
	r.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'callbackd'`)
}

// exhaustConnections takes every connection that the server allows, those of
// callbackd too.
func (r *chaosRig) exhaustConnections(_ *outage, long time.Duration) {
	r.t.Helper()
	var taken []*pgx.Conn
	defer func() {
		for _, conn := range taken {
			_ = conn.Close(r.t.Context()) // it has served
		}
	}()
	admin := r.connect()
	defer admin.Close(r.t.Context())
	eventually(r.t, 3*patience, func() error {
		more, err := takeAll(r.t.Context(), r.dsn)
		taken = append(taken, more...)
		if err != nil {
			return err
		}
		var theirs int
		err = admin.QueryRow(r.t.Context(), `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'callbackd'`).Scan(&theirs)
		if err == nil && theirs > 0 {
			err = errors.New("callbackd still has connections")
		}
		return err
	})
	r.felt()
	hold(long)
}

// takeAll opens connections until the server accepts no more.
func takeAll(ctx context.Context, dsn string) (taken []*pgx.Conn, err error) {
	for {
		conn, err := pgx.Connect(ctx, dsn)
		var refused *pgconn.PgError
		switch {
		case errors.As(err, &refused) && refused.Code == pgerrcode.TooManyConnections:
			return taken, nil
		case err != nil:
			return taken, err
		}
		taken = append(taken, conn)
	}
}

func (r *chaosRig) connect() *pgx.Conn {
	r.t.Helper()
	conn, err := pgx.Connect(r.t.Context(), r.dsn)
	if err != nil {
		r.t.Fatalf("connect: %v", err)
	}
	return conn
}

func (r *chaosRig) lockCallbacks(_ *outage, long time.Duration) {
	r.t.Helper()
	err := pgx.BeginFunc(r.t.Context(), r.db.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(r.t.Context(), `LOCK TABLE callbackd.callbacks IN ACCESS EXCLUSIVE MODE`)
		if err == nil {
			r.felt()
			hold(long)
		}
		return err
	})
	if err != nil {
		r.t.Fatalf("lock callbackd.callbacks: %v", err)
	}
}

func (r *chaosRig) makeReadOnly(_ *outage, long time.Duration) {
	r.t.Helper()
	r.exec(`ALTER SYSTEM SET default_transaction_read_only = on`)
	r.exec(`SELECT pg_reload_conf()`)
	r.felt()
	hold(long)
	r.exec(`ALTER SYSTEM RESET default_transaction_read_only`)
	r.exec(`SELECT pg_reload_conf()`)
}
