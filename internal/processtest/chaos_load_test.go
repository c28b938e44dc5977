package processtest

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"callbackd/internal/sandbox"
)

// chaosSenders deliver callbacks at a time.
const chaosSenders = 16

// post is one posted callback.
type post struct {
	mark      string // stands in its body, and in no other
	requestID string // of the 200; "" without one
}

// sentWorkflow is a workflow execution whose callbacks were all acknowledged.
type sentWorkflow struct {
	id    string
	state string // where it must end
	// asks counts the different callbacks that lead to a retrieval or an end.
	asks int
	// known says that the sandbox knows it, so that it can be retrieved.
	known bool
}

// chaosLoad is a closed loop of journeys: each sender delivers the callbacks of
// one workflow execution after the other. A callback that is not answered with
// 200 is posted again until it is, with another mark.
type chaosLoad struct {
	t     *testing.T
	jumio *jumioSandbox
	from  string // the address that callbacks come from
	// hot makes each retrieved workflow execution ask again, again and again.
	hot bool

	targets  atomic.Pointer[[]string] // URLs that callbacks are posted to
	answered atomic.Int64             // with 200
	broken   atomic.Int64             // posts without an answer
	stopping chan struct{}
	senders  sync.WaitGroup

	mu        sync.Mutex
	rng       *rand.Rand
	posts     []*post
	workflows []sentWorkflow
	journeys  []sandbox.Entry // held by the sandbox, for those to come
	codes     map[int]int     // answers by status
}

func newChaosLoad(t *testing.T, jumio *jumioSandbox) *chaosLoad {
	return &chaosLoad{t: t, jumio: jumio, from: jumioAddress, rng: seeded(t.Name() + " load"), codes: map[int]int{}}
}

// start begins to send; stop must follow.
func (l *chaosLoad) start() {
	l.stopping = make(chan struct{})
	for n := range chaosSenders {
		rng := rand.New(rand.NewPCG(l.draw(), l.draw()))
		l.senders.Go(func() {
			retrieve := n == 0 // one retrieval at least
			for l.pause(time.Duration(100+rng.IntN(200)) * time.Millisecond) {
				l.journey(rng, retrieve || l.hot)
				retrieve = false
			}
		})
	}
}

// stop waits until every callback that was begun is acknowledged.
func (l *chaosLoad) stop() {
	close(l.stopping)
	l.senders.Wait()
}

// pause waits, and tells whether the load goes on.
func (l *chaosLoad) pause(d time.Duration) bool {
	select {
	case <-l.stopping:
		return false
	case <-time.After(d):
		return true
	}
}

func (l *chaosLoad) draw() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rng.Uint64()
}

// journey delivers the callbacks of one workflow execution, of one that is
// retrieved if retrieve says so.
func (l *chaosLoad) journey(rng *rand.Rand, retrieve bool) {
	j := chaosJourney{load: l, rng: rng, sentAt: time.Now().Add(-time.Minute)}
	switch draw := rng.Float64(); {
	case retrieve || draw < 0.25:
		if !j.retrievable() {
			return
		}
	case draw < 0.6:
		j.invented("not_required", 1)
		j.deliver("ACQUIRED", false)
		j.deliver("SESSION_EXPIRED", rng.IntN(3) == 0)
	case draw < 0.7:
		j.invented("not_required", 1)
		j.deliver("TOKEN_EXPIRED", false)
	default:
		j.invented("awaiting", 0)
		j.deliver("ACQUIRED", rng.IntN(3) == 0)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.workflows = append(l.workflows, j.workflow)
}

// chaosJourney is one workflow execution whose callbacks are being delivered.
type chaosJourney struct {
	load     *chaosLoad
	rng      *rand.Rand
	workflow sentWorkflow
	account  any
	href     string
	sentAt   time.Time
}

func (j *chaosJourney) invented(state string, asks int) {
	j.workflow = sentWorkflow{id: fmt.Sprintf("chaos-%016x%016x", j.rng.Uint64(), j.rng.Uint64()), state: state, asks: asks}
}

// retrievable delivers a journey that the sandbox knows: sometimes twice, as
// Jumio may, and sometimes followed by a newer callback.
func (j *chaosJourney) retrievable() bool {
	e, ok := j.load.nextJourney()
	if !ok {
		return false
	}
	base := "https://retrieval." + e.DataCenter + ".jumio.ai/api/v1/accounts/" + e.AccountID
	j.account = map[string]string{"id": e.AccountID, "href": base}
	j.href = base + "/workflow-executions/" + e.WorkflowExecutionID
	j.workflow = sentWorkflow{id: e.WorkflowExecutionID, state: string(e.Expected.State), known: true}
	if j.rng.IntN(2) == 0 {
		j.deliver("ACQUIRED", false)
	}
	rounds := 1
	if j.load.hot {
		rounds = 5
	} else if j.rng.IntN(5) == 0 {
		rounds = 2
	}
	for range rounds {
		j.workflow.asks++
		j.deliver("PROCESSED", j.rng.IntN(3) == 0)
		j.load.pause(time.Duration(j.rng.IntN(300)) * time.Millisecond)
	}
	return true
}

// deliver posts a callback until it is acknowledged, and once more if it is to
// come twice.
func (j *chaosJourney) deliver(status string, twice bool) {
	j.sentAt = j.sentAt.Add(time.Second)
	deadline := time.Now().Add(5 * patience)
	copies := 1
	if twice {
		copies = 2
	}
	for copies > 0 {
		acknowledged, err := j.post(status)
		switch {
		case acknowledged:
			copies--
		case time.Now().After(deadline):
			j.load.t.Errorf("a callback is not acknowledged within %s: %v", 5*patience, err)
			return
		default:
			<-time.After(time.Duration(20+j.rng.IntN(80)) * time.Millisecond)
		}
	}
}

// post posts the callback with a mark of its own. Its error says why it was not
// acknowledged.
func (j *chaosJourney) post(status string) (acknowledged bool, err error) {
	p := &post{mark: fmt.Sprintf("%016x", j.rng.Uint64())}
	workflow := map[string]string{"id": j.workflow.id, "status": status}
	callback := map[string]any{"callbackSentAt": j.sentAt.UTC().Format("2006-01-02T15:04:05.000Z"), "workflowExecution": workflow, "mark": p.mark}
	if j.account != nil {
		callback["account"], workflow["href"] = j.account, j.href
	}
	body, err := json.Marshal(callback)
	if err != nil {
		return false, err
	}
	l := j.load
	l.mu.Lock()
	l.posts = append(l.posts, p)
	l.mu.Unlock()
	targets := *l.targets.Load()
	a, err := tryPost(targets[j.rng.IntN(len(targets))], l.from, "application/json", string(body))
	if err != nil {
		l.broken.Add(1)
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.codes[a.code]++
	switch a.code {
	case http.StatusOK:
		p.requestID = a.header.Get("X-Request-Id")
		l.answered.Add(1)
		return true, nil
	case http.StatusServiceUnavailable:
		return false, fmt.Errorf("answered with %d", a.code)
	default:
		l.t.Errorf("a callback is answered with %d: %s", a.code, a.body)
		return false, fmt.Errorf("answered with %d", a.code)
	}
}

// counts are the answers so far, by status.
func (l *chaosLoad) counts() map[int]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.codes)
}

// chaosKinds all end in the state retrieved.
var chaosKinds = []string{"passed-passport", "passed-id-card", "passed-liveness", "passed-authentication"}

// nextJourney is one that the sandbox holds; it is asked for many at once.
func (l *chaosLoad) nextJourney() (sandbox.Entry, bool) {
	const many = 20
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.journeys) == 0 {
		kind := chaosKinds[l.rng.IntN(len(chaosKinds))]
		var err error
		if l.journeys, err = l.jumio.trySend(journeys{Kind: kind, Count: many, Hold: true}); err != nil {
			l.t.Errorf("start journeys: %v", err)
			return sandbox.Entry{}, false
		}
	}
	next := l.journeys[0]
	l.journeys = l.journeys[1:]
	return next, true
}
