package processtest

import (
	"fmt"
	"net/http"
	"strconv"
	"testing"
)

// TestPostgresAway: while Postgres is away, callbacks get 503 with Retry-After
// and /readyz is 503; once it is back all goes on, and no 200 is lost.
func TestPostgresAway(t *testing.T) {
	t.Parallel()
	postgres := ownPostgres(t)
	jumio := startSandbox(t, "--fast-images")
	s := serve(t, append(retrieving(postgres.dsn, jumio), "CALLBACKD_STORE_TIMEOUT=1s"))
	load := startLoad(s)
	eventually(t, patience, func() error { return load.wantMore(0) })

	postgres.begin()
	eventually(t, patience, func() error { return wantReady(s, http.StatusServiceUnavailable) })
	away := s.post(t, jumioAddress, "application/json", processed("away")).wantCode(t, http.StatusServiceUnavailable)
	if seconds, err := strconv.Atoi(away.header.Get("Retry-After")); err != nil || seconds < 1 {
		t.Errorf("Retry-After is %q, want seconds", away.header.Get("Retry-After"))
	}
	if a, err := get(s.callback + "/healthz"); err != nil || a.code != http.StatusOK {
		t.Errorf("/healthz while Postgres is away: %v %v", a, err)
	}

	postgres.end()
	eventually(t, patience, func() error { return wantReady(s, http.StatusOK) })
	before := load.answered.Load()
	eventually(t, patience, func() error { return load.wantMore(before) })
	db := open(t, postgres.dsn)
	db.wantCallbacks(load.stop(t, http.StatusServiceUnavailable))
	id := jumio.sendOne(journeys{Kind: "passed-passport", CallbackURL: s.callbackURL()})
	db.awaitState(id, "retrieved")
}

// wantReady: /readyz has the status on both listeners.
func wantReady(s *instance, status int) error {
	for _, base := range []string{s.callback, s.admin} {
		if code := ready(base); code != status {
			return fmt.Errorf("/readyz is %d, want %d", code, status)
		}
	}
	return nil
}
