package processtest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/sandbox"
)

// forge starts the forger, who has many hands. Each does the same kind of thing
// again and again until stop.
func (s *soak) forge() {
	s.began = time.Now()
	s.ctx, s.stop = context.WithCancel(s.t.Context())
	s.t.Cleanup(func() {
		s.stop()
		s.forgers.Wait()
	})
	for n := range 3 {
		s.hand(fmt.Sprint("callbacks ", n), s.forgeCallbacks)
	}
	s.hand("crowd", s.forgeCrowd)
	s.hand("storm", s.forgeStorm)
	s.hand("unknown", s.forgeUnknown)
	for n := range 2 {
		s.hand(fmt.Sprint("rows ", n), s.session(receiverLogin, s.forgeRows))
	}
	s.hand("receiver's notifications", s.session(receiverLogin, s.notify))
	// All ten sessions that a reader's login has.
	for n := range 2 {
		s.hand(fmt.Sprint("reader's notifications ", n), s.session(readerLogin, s.notify))
	}
	s.hand("locks", s.session(readerLogin, s.lock))
	for n := range 2 {
		s.hand(fmt.Sprint("deaf ", n), s.session(readerLogin, s.listenNever))
	}
	for n := range 5 {
		s.hand(fmt.Sprint("sleep ", n), s.session(readerLogin, s.sleep))
	}
	s.forgers.Go(s.watchReady)
}

func (s *soak) hand(name string, work func(*rand.Rand)) {
	rng := seeded(s.t.Name() + " " + name)
	s.forgers.Go(func() { work(rng) })
}

// pause waits for a random time, and tells whether the forger goes on.
func (s *soak) pause(rng *rand.Rand, most time.Duration) bool {
	select {
	case <-s.ctx.Done():
		return false
	case <-time.After(time.Duration(rng.Int64N(int64(most)))):
		return true
	}
}

func (s *soak) count(kind string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did[kind] += n
}

// notReadyFor is how long an instance may not be ready: a busy machine may take the second
// that an answer of the database may take, and the answer is kept for another.
const notReadyFor = 3 * time.Second

// watchReady: no instance is not ready for long.
func (s *soak) watchReady() {
	since := map[*instance]time.Time{} // of those that are not ready
	poll := time.NewTicker(200 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-poll.C:
		}
		for _, i := range s.instances() {
			a, err := get(i.admin + "/readyz")
			switch {
			case err == nil && a.code == http.StatusOK:
				delete(since, i)
			case since[i].IsZero():
				since[i] = time.Now()
			case time.Since(since[i]) > notReadyFor:
				s.t.Errorf("an instance is not ready: %+v, %v", a, err)
				return
			}
		}
	}
}

// post posts a forged callback, which must be answered with one of the codes.
func (s *soak) post(c *http.Client, kind, body string, codes ...int) {
	a, err := postBy(c, s.receiver.callbackURL(), jumioAddress, "application/json", body)
	switch {
	case err != nil:
		s.t.Errorf("post a forged callback (%s): %v", kind, err)
		return
	case !slices.Contains(codes, a.code):
		s.t.Errorf("a forged callback (%s) is answered with %d: %s", kind, a.code, a.body)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did[kind]++
	s.posted++
	if a.code == http.StatusOK {
		s.accepted++
	}
}

// keepAlive is a client of the forger's; done must follow.
func keepAlive() (c *http.Client, done func()) {
	c = &http.Client{Transport: &http.Transport{}, Timeout: patience}
	return c, c.CloseIdleConnections
}

func (s *soak) forgeCallbacks(rng *rand.Rand) {
	c, done := keepAlive()
	defer done()
	for s.pause(rng, 40*time.Millisecond) {
		switch rng.IntN(10) {
		case 0:
			s.post(c, "odd JSON", oddBody(rng, s.target(rng).WorkflowExecutionID), http.StatusOK, http.StatusBadRequest)
		case 1:
			s.repeat(c, s.target(rng).WorkflowExecutionID)
		default:
			kind, body := s.forgery(rng)
			s.post(c, kind, body, http.StatusOK)
		}
	}
}

// repeat posts a stored callback again, byte for byte.
func (s *soak) repeat(c *http.Client, workflowExecution string) {
	var body []byte
	err := s.db.pool.QueryRow(s.ctx, `SELECT body FROM jumio.callbacks WHERE workflow_execution_id = $1 AND user_reference LIKE 'genuine-%'
		AND length(body) < 2000 LIMIT 1`, workflowExecution).Scan(&body)
	if err == nil { // else there is none yet
		s.post(c, "repeat", string(body), http.StatusOK, http.StatusBadRequest)
	}
}

// forgeStorm posts newer and newer callbacks for one journey.
func (s *soak) forgeStorm(rng *rand.Rand) {
	c, done := keepAlive()
	defer done()
	victim := s.target(rng).WorkflowExecutionID
	for s.pause(rng, 8*time.Millisecond) {
		s.post(c, "storm", processed(victim), http.StatusOK)
	}
}

// forgeCrowd names more wrong accounts than are tried, before the genuine callback
// comes and dated so that it stays the newest.
func (s *soak) forgeCrowd(rng *rand.Rand) {
	c, done := keepAlive()
	defer done()
	const ahead, accounts = 4, 40
	for s.pause(rng, time.Second) {
		next := int(s.sent.Load()) + ahead
		if next >= len(s.targets) {
			continue
		}
		for range accounts {
			s.post(c, "crowd of accounts", s.forged(&s.targets[next], "ACQUIRED", uuid.NewString(), time.Now().Add(9*time.Minute)), http.StatusOK)
		}
	}
}

// forged is a callback for a journey with these values.
func (s *soak) forged(victim *sandbox.Entry, status, account string, sentAt time.Time) string {
	return fmt.Sprintf(`{"callbackSentAt":%q,"workflowExecution":{"id":%q,"status":%q},"account":{"id":%q}}`,
		sentAt.UTC().Format("2006-01-02T15:04:05.000Z"), victim.WorkflowExecutionID, status, account)
}

// forgeUnknown posts callbacks for what nobody knows: many at once, and then some
// every second.
func (s *soak) forgeUnknown(rng *rand.Rand) {
	c, done := keepAlive()
	defer done()
	const atOnce = 200
	most := time.Nanosecond
	for n := 0; s.pause(rng, most); n++ {
		if n == atOnce {
			most = 400 * time.Millisecond
		}
		s.post(c, "unknown", processed(fmt.Sprintf("unknown-%016x", rng.Uint64())), http.StatusOK)
	}
}

// target is a journey whose genuine callback has arrived or is about to.
func (s *soak) target(rng *rand.Rand) *sandbox.Entry {
	const window, ahead = 20, 3
	last := min(int(s.sent.Load())+ahead, len(s.targets)) - 1
	if rng.IntN(2) == 0 {
		return &s.targets[rng.IntN(last+1)]
	}
	return &s.targets[last-rng.IntN(min(window, last+1))]
}

func pick[T any](rng *rand.Rand, list ...T) T { return list[rng.IntN(len(list))] }

// forgery is a callback for a journey that is right but for one thing, its status
// and its date.
func (s *soak) forgery(rng *rand.Rand) (kind, body string) {
	victim, other := s.target(rng), s.target(rng)
	account, dataCenter, reference := victim.AccountID, victim.DataCenter, s.references[victim.WorkflowExecutionID]
	status := pick(rng, "PROCESSED", "TOKEN_EXPIRED", "SESSION_EXPIRED", "ACQUIRED", "INITIATED", "COMPLETED", "")
	workflow := map[string]string{"id": victim.WorkflowExecutionID, "status": status, "definitionKey": victim.DefinitionKey}
	switch rng.IntN(8) {
	case 0:
		kind, account = "account id of 6,000 characters", noise(rng, 6000)
	case 1:
		kind, account = "another's account", other.AccountID
	case 2, 3:
		kind, account = "invented account", uuid.NewString()
	case 4:
		kind, reference = "another's reference", pick(rng, s.references[other.WorkflowExecutionID], "carol", noise(rng, 3000))
	case 5:
		kind, dataCenter = "another data center", pick(rng, "amer-1", "emea-1", "apac-1", "mine", "-")
	case 6:
		kind, workflow["definitionKey"] = "another definition", pick(rng, "99", noise(rng, 500))
	default:
		kind = "status " + status
	}
	base := "https://retrieval." + dataCenter + ".jumio.ai/api/v1/accounts/" + account
	workflow["href"] = base + "/workflow-executions/" + victim.WorkflowExecutionID
	if rng.IntN(100) == 0 {
		kind, workflow["href"] = "href of up to 1 MB", base+noise(rng, rng.IntN(1_000_000))
	}
	sentAt := pick(rng, time.Now(), time.Now(), time.Now().Add(9*time.Minute), time.Now().Add(-time.Hour), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))
	text, err := json.Marshal(map[string]any{
		"callbackSentAt": sentAt.UTC().Format("2006-01-02T15:04:05.000Z"), "userReference": reference,
		"workflowExecution": workflow, "account": map[string]string{"id": account, "href": base},
	})
	if err != nil {
		s.t.Errorf("write a forged callback: %v", err)
	}
	return kind, string(text)
}

// noise is text that cannot be compressed.
func noise(rng *rand.Rand, length int) string {
	bytes := make([]byte, length)
	for i := range bytes {
		bytes[i] = byte(rng.Uint32())
	}
	return base64.RawURLEncoding.EncodeToString(bytes)[:length]
}

// oddBody is not a callback, or barely one.
func oddBody(rng *rand.Rand, id string) string {
	return pick(rng,
		`{`, `{}`, `[]`, `null`, `"`+id+`"`, `{"workflowExecution":null}`, `{"workflowExecution":{"id":null}}`,
		`{"workflowExecution":{"id":"`+id+`"}} {"workflowExecution":{"id":"`+id+`"}}`,
		`{"workflowExecution":{"id":"`+id+`","id":"../`+id+`","status":"PROCESSED"}}`,
		`{"workflowExecution":{"id":"`+id+`","status":{"a":["PROCESSED"]}},"account":[],"userReference":{"x":1}}`,
		`{"workflowExecution":{"id":"`+id+`","status":"PROCESSED\u0000\u202e"},"callbackSentAt":"-9999-99-99"}`,
		`{"workflowExecution":{"id":"`+id+`","status":"`+strings.Repeat(`\ud83d\ude00`, 500)+`"},"callbackSentAt":1e400}`,
		strings.Repeat(`{"a":`, 20_000), strings.Repeat(`[`, 100_000),
		`workflowExecution.id=`+id+`&workflowExecution[status]=TOKEN_EXPIRED&account.id=%00%ff`,
	)
}

// session makes a hand of what works in a session of a role.
func (s *soak) session(role string, work func(*rand.Rand, *pgx.Conn)) func(*rand.Rand) {
	return func(rng *rand.Rand) {
		conn, err := pgx.Connect(s.ctx, s.roles.dsn(role))
		if err != nil {
			if s.ctx.Err() == nil {
				s.t.Errorf("%s: %v", role, err)
			}
			return
		}
		defer func() { _ = conn.Close(context.Background()) }()
		work(rng, conn)
	}
}

// do runs statements, which must end with the SQLSTATE, "" for success.
func (s *soak) do(conn *pgx.Conn, kind, want, sql string, args ...any) {
	if len(args) == 0 {
		args = []any{pgx.QueryExecModeSimpleProtocol}
	}
	_, err := conn.Exec(s.ctx, sql, args...)
	if got := sqlState(err); got != want && s.ctx.Err() == nil {
		s.t.Errorf("%s: SQLSTATE %q, want %q", kind, got, want)
	}
	s.count(kind, 1)
}

// rejectedRows are values of a callback that the table rejects.
var rejectedRows = []string{
	`gen_random_uuid(), 'infinity', NULL, '', 'w', '', NULL, NULL, NULL, ''`,
	`gen_random_uuid(), now(), 'infinity', '', 'w', '', NULL, NULL, NULL, ''`,
	`gen_random_uuid(), '4713-01-01 BC', NULL, '', 'w', '', NULL, NULL, NULL, ''`,
	`gen_random_uuid(), now(), NULL, '', repeat('a', 9000), '', NULL, NULL, NULL, ''`,
	`gen_random_uuid(), now(), NULL, '', 'w', '', repeat('a', 6000), NULL, NULL, ''`,
	`gen_random_uuid(), now(), NULL, '', 'w', '', NULL, repeat('h', 1000000), NULL, ''`,
	`gen_random_uuid(), now(), NULL, '', 'w', '', NULL, NULL, repeat('r', 1000000), ''`,
	`gen_random_uuid(), now(), NULL, '', 'w', repeat('s', 1000), NULL, NULL, NULL, ''`,
}

// forgeRows inserts callbacks, as a receiver may, with values that no receiver
// stores.
func (s *soak) forgeRows(rng *rand.Rand, conn *pgx.Conn) {
	const insert = `INSERT INTO callbackd.callbacks (callback_id, received_at, callback_sent_at, content_type,
		workflow_execution_id, workflow_status, account_id, workflow_href, user_reference, body) VALUES `
	for s.pause(rng, 50*time.Millisecond) {
		if rng.IntN(3) == 0 {
			s.do(conn, "row that is rejected", pgerrcode.CheckViolation, insert+"("+pick(rng, rejectedRows...)+")")
			continue
		}
		id := uuid.New()
		if rng.IntN(2) == 0 {
			clear(id[:8]) // before all others in the inbox
		}
		e, other := s.target(rng), s.target(rng)
		// Not given up when the forger stops: it might be there and not be counted.
		_, err := conn.Exec(context.WithoutCancel(s.ctx), insert+`($1, $2::text::timestamptz, $3::text::timestamptz, $4, $5, $6, $7, $8, $9, $10)`,
			id, pick(rng, "now", "1970-01-01T00:00:00Z", "2199-12-31T00:00:00Z", time.Now().Add(9*time.Minute).Format(time.RFC3339)),
			pick(rng, "now", "4713-01-01 BC", "294276-12-31", time.Now().Add(9*time.Minute).Format(time.RFC3339)),
			strings.Repeat("\u202e", rng.IntN(300)), e.WorkflowExecutionID, pick(rng, "PROCESSED", "TOKEN_EXPIRED", "ACQUIRED", "\u009b", ""),
			pick(rng, e.AccountID, other.AccountID, uuid.NewString()), noise(rng, rng.IntN(2048)),
			pick(rng, s.references[other.WorkflowExecutionID], noise(rng, 1024)), []byte(noise(rng, rng.IntN(100_000))))
		if err != nil {
			s.t.Errorf("insert a row: SQLSTATE %s", sqlState(err))
			continue
		}
		s.mu.Lock()
		s.inserted++
		s.did["row"]++
		s.mu.Unlock()
	}
}

// notifications to callbackd, to River, and to the consumers of events.
var notifications = []string{
	`SELECT pg_notify('callbackd_inbox', '')`,
	`SELECT pg_notify('callbackd_jobs', repeat('x', 7000))`,
	`SELECT pg_notify('jumio_events', 'unknown-' || n) FROM generate_series(1, 100) AS n`,
	`SELECT pg_notify('callbackd.river_insert', '{"queue":"default"}')`,
	`SELECT pg_notify('callbackd.river_control', json_build_object('action', 'cancel', 'job_id', n, 'queue', 'default')::text) FROM generate_series(1, 3000) AS n`,
	`SELECT pg_notify('callbackd.river_control', '{"action":"pause","queue":"*"}')`,
	`SELECT pg_notify('callbackd.river_leadership', '{"name":"default","leader_id":"x","action":"request_resign"}')`,
	`SELECT pg_notify('callbackd.river_leadership', '{"name":"default","leader_id":"x","action":"resigned"}')`,
}

func (s *soak) notify(rng *rand.Rand, conn *pgx.Conn) {
	for s.pause(rng, 50*time.Millisecond) {
		s.do(conn, "NOTIFY", "", pick(rng, notifications...))
	}
}

func (s *soak) lock(rng *rand.Rand, conn *pgx.Conn) {
	for s.pause(rng, 500*time.Millisecond) {
		s.do(conn, "advisory lock", pgerrcode.InsufficientPrivilege, pick(rng,
			`SELECT pg_advisory_lock(1667329635, 1702257011)`, `SELECT pg_advisory_lock(n) FROM generate_series(1, 100000) AS n`))
	}
}

// listenNever listens and never reads, which keeps the cluster's queue of
// notifications from being emptied.
func (s *soak) listenNever(_ *rand.Rand, conn *pgx.Conn) {
	s.do(conn, "LISTEN without reading", "", `SET idle_in_transaction_session_timeout = 0; LISTEN jumio_events; LISTEN callbackd_inbox`)
	s.do(conn, "LISTEN without reading", "", `BEGIN; SELECT count(*) FROM jumio.events`)
	<-s.ctx.Done()
}

func (s *soak) sleep(_ *rand.Rand, conn *pgx.Conn) {
	s.do(conn, "pg_sleep", "", `SET statement_timeout = 0; SELECT pg_sleep(3600)`)
}
