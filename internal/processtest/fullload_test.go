package processtest

import (
	"fmt"
	"net/http"
	"testing"
)

// TestPostgresKilledUnderFullLoad: Postgres is killed again and again while 256
// connections post as fast as they are answered, so that batches are cut off in
// every state. Every callback answered with 200 is stored once, and no other status
// than 200 and 503 is given. It takes the whole machine, so no other test runs
// beside it.
func TestPostgresKilledUnderFullLoad(t *testing.T) {
	const (
		connections = 256
		kills       = 4
		between     = 1500 // callbacks answered with 200 before each kill, and after the last
	)
	postgres := newOutage(t)
	succeed(t, []string{"DATABASE_URL=" + postgres.dsn}, "migrate", "up")
	s := serve(t, append(receiving(postgres.dsn), "CALLBACKD_STORE_TIMEOUT=1s"))
	transport := &http.Transport{MaxIdleConnsPerHost: connections}
	t.Cleanup(transport.CloseIdleConnections)
	load := startLoadBy(s, connections, &http.Client{Transport: transport, Timeout: patience})
	for range kills {
		load.awaitMore(t, between)
		before := load.count(http.StatusServiceUnavailable)
		postgres.begin()
		eventually(t, patience, func() error {
			if n := load.count(http.StatusServiceUnavailable); n == before {
				return fmt.Errorf("Postgres is away, and still %d callbacks were answered with 503", n)
			}
			return nil
		})
		postgres.end()
	}
	load.awaitMore(t, between)
	ids := load.stop(t, http.StatusServiceUnavailable)
	if load.broken != nil {
		t.Errorf("a callback was not answered: %v", load.broken)
	}
	db := open(t, postgres.dsn)
	db.wantCallbacks(ids)
	db.wantNoneTwice()
	t.Logf("answers by status: %v; stored: %d", load.codes, db.count(`SELECT count(*) FROM jumio.callbacks`))
}
