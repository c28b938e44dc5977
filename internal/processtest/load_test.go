package processtest

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// load posts callbacks one after the other, from several senders.
type load struct {
	senders  sync.WaitGroup
	answered atomic.Int64 // with 200
	stopping atomic.Bool

	mu     sync.Mutex
	ids    []string    // of those answered with 200
	codes  map[int]int // all answers by status
	broken error       // the first connection that broke before its answer
}

const loadSenders = 4

// startLoad begins to post callbacks that ask for no retrieval to the instance.
// A connection that breaks is no answer.
func startLoad(s *instance) *load { return startLoadBy(s, loadSenders, client) }

// startLoadBy is startLoad with that many senders, which use the client. Each
// callback has a workflow execution of its own and is posted once.
func startLoadBy(s *instance, senders int, client *http.Client) *load {
	l := &load{codes: map[int]int{}}
	for sender := range senders {
		l.senders.Go(func() {
			for n := 0; !l.stopping.Load(); n++ {
				id := fmt.Sprintf("load-%d-%d", sender, n)
				a, err := postBy(client, s.callbackURL(), jumioAddress, "application/json", callbackBody(id, "ACQUIRED"))
				l.note(id, a, err)
			}
		})
	}
	return l
}

func (l *load) note(id string, a *answer, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.broken = cmp.Or(l.broken, err)
		return
	}
	l.codes[a.code]++
	if a.code == http.StatusOK {
		l.ids = append(l.ids, id)
		l.answered.Add(1)
	}
}

// wantMore: more than so many callbacks have been answered with 200.
func (l *load) wantMore(than int64) error {
	if n := l.answered.Load(); n <= than {
		return fmt.Errorf("%d callbacks were answered with 200, want more than %d", n, than)
	}
	return nil
}

// awaitMore waits until so many more callbacks have been answered with 200.
func (l *load) awaitMore(t *testing.T, n int64) {
	t.Helper()
	than := l.answered.Load() + n - 1
	eventually(t, patience, func() error { return l.wantMore(than) })
}

// count is how many callbacks were answered with the status.
func (l *load) count(code int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.codes[code]
}

// stop ends the senders and returns the ids of the callbacks that were answered
// with 200. An answer that is neither that nor among the others fails the test.
func (l *load) stop(t *testing.T, others ...int) []string {
	t.Helper()
	l.stopping.Store(true)
	l.senders.Wait()
	for code, n := range l.codes {
		if code != http.StatusOK && !slices.Contains(others, code) {
			t.Errorf("%d callbacks were answered with %d", n, code)
		}
	}
	return l.ids
}
