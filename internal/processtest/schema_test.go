package processtest

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"callbackd/internal/store/storetest"
)

// TestSchemaTooOld: serve does not start on a schema older than it needs: exit code
// 1, and one line that says what to do.
func TestSchemaTooOld(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewDatabase(t)
	environ := receiving(dsn)
	wantTooOld := func(version int) {
		t.Helper()
		line := fails(t, environ, "serve")
		for _, part := range []string{fmt.Sprintf("version is %d,", version), "`callbackd migrate up`", "CALLBACKD_MIGRATE_ON_START=true"} {
			if !strings.Contains(line, part) {
				t.Errorf("serve says %q, want %q in it", line, part)
			}
		}
	}
	version := func() (has, needs int) {
		t.Helper()
		line := succeed(t, environ, "migrate", "version")
		if _, err := fmt.Sscanf(line, "schema %d, needed %d\n", &has, &needs); err != nil {
			t.Fatalf("migrate version prints %q: %v", line, err)
		}
		return has, needs
	}

	if has, _ := version(); has != 0 {
		t.Errorf("the version of an empty database is %d", has)
	}
	wantTooOld(0)
	succeed(t, environ, "migrate", "up")
	succeed(t, environ, "migrate", "up")
	has, needs := version()
	if has != needs {
		t.Errorf("the version is %d after migrate up, want %d", has, needs)
	}
	succeed(t, environ, "migrate", "down", "1")
	wantTooOld(needs - 1)
	succeed(t, environ, "migrate", "force", fmt.Sprint(needs-2))
	wantTooOld(needs - 2)
	succeed(t, environ, "migrate", "force", fmt.Sprint(needs-1))
	succeed(t, environ, "migrate", "up")
	serve(t, environ)
}

// TestMigrateOnStart: of two instances that start together on an empty database,
// one brings the schema up to date and the other waits for it.
func TestMigrateOnStart(t *testing.T) {
	t.Parallel()
	environ := append(receiving(storetest.NewDatabase(t)), "CALLBACKD_MIGRATE_ON_START=true")
	together := []*instance{launch(t, environ), launch(t, environ)}
	for n, s := range together {
		s.awaitStart()
		s.post(t, jumioAddress, "application/json", processed(fmt.Sprint("on-start-", n))).wantCode(t, http.StatusOK)
	}
}
