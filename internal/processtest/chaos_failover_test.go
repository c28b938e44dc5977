package processtest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestChaosFailover: the primary dies under load and its synchronous standby is
// promoted; with both in DATABASE_URL callbackd goes on by itself, and every
// callback that was answered with 200 is in the new primary.
func TestChaosFailover(t *testing.T) {
	t.Parallel()
	for n := range times(3, 1) {
		t.Run(fmt.Sprint(n+1), failOver)
	}
}

func failOver(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*patience)
	defer cancel()
	primary := ownPostgres(t)
	standby, err := primary.server.Standby(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Stop(); err != nil {
			t.Errorf("stop the standby: %v", err)
		}
	})
	r := newChaosRig(t, primary.dsn)
	r.exec(`ALTER SYSTEM SET synchronous_standby_names = '*'`)
	r.exec(`SELECT pg_reload_conf()`)
	eventually(t, patience, func() error {
		if r.db.count(`SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'`) == 0 {
			return fmt.Errorf("the standby is not synchronous yet")
		}
		return nil
	})
	both := strings.Replace(r.dsn, primary.server.Address(), primary.server.Address()+","+standby.Address(), 1) + "&target_session_attrs=read-write"
	r.serve(roleBoth, "DATABASE_URL="+both)
	r.warmUp()
	r.load.start()
	r.awaitMore(chaosSenders)
	r.moment(time.Second)
	r.fault("primary killed, synchronous standby promoted")
	primary.begin()
	r.stranded = true
	r.felt()
	if err := standby.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	r.dsn = standby.DSN("postgres")
	r.db = open(t, r.dsn)
	r.awaitMore(2 * chaosSenders)
	r.settle()
}
