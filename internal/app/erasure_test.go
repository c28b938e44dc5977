package app

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
)

// TestErasureWithoutTheKey: a worker that has no key stops its work as soon as something is
// erased, for it cannot tell what, and /readyz says why. It goes on receiving; one that
// does nothing else is not ready.
func TestErasureWithoutTheKey(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		receive string
		status  int
	}{"receives": {"true", http.StatusOK}, "worker only": {"false", http.StatusServiceUnavailable}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := storetest.NewMigrated(t)
			s := storetest.Open(t, dsn)
			i, stop, ended := start(t, "DATABASE_URL="+dsn, "CALLBACKD_WORKERS=1", "CALLBACKD_RECEIVE="+tc.receive, "CALLBACKD_JUMIO_HEALTH_INTERVAL=0",
				"JUMIO_CLIENT_ID=i", "JUMIO_CLIENT_SECRET=s", "JUMIO_USER_AGENT=Example Test/v1.0", "JUMIO_TOKEN_URL=http://127.0.0.1:1", "JUMIO_RETRIEVAL_URL=http://127.0.0.1:1")
			promoted := func() bool { return storetest.Scalar[int64](t, s, `SELECT count(*) FROM callbackd.inbox`) == 0 }
			early := storetest.Callback("early")
			early.WorkflowStatus = "ACQUIRED" // nothing is to be retrieved
			storetest.Insert(t, s, early)
			storetest.Eventually(t, "promotion before anything is erased", promoted)

			// Another worker, which has the key, bars somebody.
			if err := results.New(s.DB).SetErasureKey(t.Context()); err != nil {
				t.Fatal(err)
			}
			storetest.Query(t, s, `INSERT INTO callbackd.tombstones (hash, kind, order_id) VALUES ('\x01', 'account', $1)`, uuid.New())
			const why = "the worker has stopped: "
			storetest.Eventually(t, why, func() bool {
				status, text := readyz(t, i)
				halted := strings.Contains(text, why)
				if halted && (status != tc.status || !strings.Contains(text, "CALLBACKD_ERASURE_KEY is not set")) {
					t.Fatalf("/readyz: %d, %q; want %d, and which setting is missing", status, text, tc.status)
				}
				return halted
			})
			late := storetest.Callback("late")
			storetest.Insert(t, s, late)
			stop()
			mustEnd(t, ended)
			if promoted() {
				t.Error("a callback is promoted though the worker has stopped")
			}
		})
	}
}

// readyz is the answer on the admin listener.
func readyz(t *testing.T, i *Instance) (status int, text string) {
	t.Helper()
	response, err := http.Get("http://" + i.AdminListener().Addr().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() // read only
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}
