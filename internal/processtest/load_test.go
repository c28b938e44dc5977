package processtest

import (
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

	mu    sync.Mutex
	ids   []string    // of those answered with 200
	codes map[int]int // all answers by status
}

const loadSenders = 4

// startLoad begins to post callbacks that ask for no retrieval to the instance.
// A connection that breaks is no answer.
func startLoad(s *instance) *load {
	l := &load{codes: map[int]int{}}
	for sender := range loadSenders {
		l.senders.Go(func() {
			for n := 0; !l.stopping.Load(); n++ {
				id := fmt.Sprintf("load-%d-%d", sender, n)
				a, err := tryPost(s.callbackURL(), jumioAddress, "application/json", callbackBody(id, "ACQUIRED"))
				if err != nil {
					continue
				}
				l.note(id, a)
			}
		})
	}
	return l
}

func (l *load) note(id string, a *answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
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
