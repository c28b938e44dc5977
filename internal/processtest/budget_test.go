package processtest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSixWorkersShareTheBudget: six workers on one database together make as many
// requests to Jumio as CALLBACKD_RETRIEVAL_RPS allows one, and use it.
func TestSixWorkersShareTheBudget(t *testing.T) {
	// Not beside other tests: what keeps a process from its turn brings requests together.
	const rps, count = 20, 50 // of four requests each: details and three images
	dsn := migrated(t)
	db := open(t, dsn)
	jumio := startSandbox(t, "--fast-images", "--data-center", "emea-1") // each has a budget of its own
	receiver := serve(t, receiving(dsn))
	counted := countRetrievals(t, jumio.url)
	environ := append(retrieving(dsn, jumio), "CALLBACKD_RECEIVE=false", "CALLBACKD_RETRIEVAL_RPS="+strconv.Itoa(rps), "JUMIO_RETRIEVAL_URL="+counted.url)
	for range 6 {
		serve(t, environ)
	}
	jumio.send(journeys{Count: count, Kind: "passed-passport", CallbackURL: receiver.callbackURL()})
	eventually(t, patience, func() error {
		if n := db.count(`SELECT count(*) FROM jumio.workflow_executions WHERE retrieval_state = 'retrieved'`); n < count {
			return fmt.Errorf("%d of %d are retrieved", n, count)
		}
		return nil
	})

	counted.mu.Lock()
	defer counted.mu.Unlock()
	slices.SortFunc(counted.times, time.Time.Compare)
	if n := len(counted.times); n < 3*count {
		t.Fatalf("only %d requests: the journeys are not what this test wants", n)
	}
	for i, first := range counted.times {
		for j, last := range counted.times[i:] {
			window := last.Sub(first)
			// On their way here, requests may come closer together.
			const onTheWay = 250 * time.Millisecond
			if most := rps*(window+onTheWay).Seconds() + rps; float64(j+1) > most {
				t.Fatalf("%d requests in %s, want at most %.1f", j+1, window, most)
			}
		}
	}
	took := counted.times[len(counted.times)-1].Sub(counted.times[0])
	t.Logf("%d requests in %s", len(counted.times), took)
}

// countedRetrievals is a way to the sandbox that remembers when retrieval requests came.
type countedRetrievals struct {
	url   string
	mu    sync.Mutex
	times []time.Time
}

func countRetrievals(t *testing.T, sandbox string) *countedRetrievals {
	t.Helper()
	to, err := url.Parse(sandbox)
	if err != nil {
		t.Fatal(err)
	}
	c := &countedRetrievals{}
	proxy := httputil.NewSingleHostReverseProxy(to)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			c.mu.Lock()
			c.times = append(c.times, time.Now())
			c.mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}
