// Package examples tests the consumers beside it, with the rights and the accidents of
// real ones.
package examples_test

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
)

const (
	// rounds is how often a consumer is killed at each gate.
	rounds = 2
	// addInterval is how often events are added.
	addInterval = 10 * time.Millisecond
)

// TestConsumers: while events come, each consumer is killed within its work, loses its
// connections, cannot log in for a time, and then runs twice. In the end it has handled each
// event, and none twice.
func TestConsumers(t *testing.T) {
	t.Parallel()
	for name, command := range map[string]func(*testing.T) []string{
		"consumer-go": goCommand, "consumer-py": pythonCommand, "consumer-sh": shellCommand,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, name, command(t))
			p := r.start()
			stopAdding := r.addEvents()
			r.awaitProgress()
			for range rounds {
				for _, table := range []string{r.role + ".decided_users", "callbackd.consumers"} {
					r.holdUp(table, 1, func() {
						p.kill()
						r.endSessions() // one would end its statement before it noticed
						p = r.start()
					})
				}
			}
			r.outage(p)
			r.start()
			r.holdUp(r.role+".decided_users", 2, func() {}) // one at its effect, one at the lock
			stopAdding()
			storetest.Eventually(t, "all events are handled", func() bool {
				return r.place() == storetest.Scalar[int64](t, r.owner, `SELECT max(event_id) FROM jumio.events`)
			})
			r.wantOnce()
		})
	}
}

// look looks at a file that another program reads: what a test looks at is a part of its
// key in go test's cache.
func look(t *testing.T, path string) string {
	t.Helper()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func goCommand(t *testing.T) []string {
	t.Helper()
	look(t, "consumer-go/main.go")
	program := filepath.Join(t.TempDir(), "consumer-go")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, "./consumer-go")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build consumer-go: %v: %s", err, out)
	}
	return []string{program}
}

func pythonCommand(t *testing.T) []string {
	t.Helper()
	return python(t, "consumer.py")
}

// python takes the first Python that has psycopg: Debian's may not be the first in PATH.
func python(t *testing.T, script string) []string {
	t.Helper()
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import psycopg").Run() == nil {
			return []string{python, look(t, script)}
		}
	}
	t.Fatal(script + " needs Python with psycopg 3: apt-get install python3-psycopg, or pip install 'psycopg[binary]'")
	return nil
}

func shellCommand(t *testing.T) []string {
	t.Helper()
	if _, err := exec.LookPath("psql"); err != nil {
		t.Fatal("consumer.sh needs psql in PATH: apt-get install postgresql-client, brew install libpq")
	}
	return []string{"sh", look(t, "consumer.sh")}
}

// rig is a database, and a login role in it for one consumer.
type rig struct {
	t         *testing.T
	consumer  string
	command   []string
	owner     *storetest.Store
	dsn, role string
}

func newRig(t *testing.T, consumer string, command []string) *rig {
	t.Helper()
	dsn := storetest.NewMigrated(t)
	r := &rig{t: t, consumer: consumer, command: command, owner: storetest.Open(t, dsn), dsn: storetest.AsMember(t, dsn, "jumio_reader, jumio_consumer")}
	r.role = ownSchema(t, r.owner, r.dsn)
	return r
}

// ownSchema gives the role that a DSN logs in with a schema for its tables, and returns the role.
func ownSchema(t *testing.T, owner *storetest.Store, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	role := u.User.Username()
	for _, sql := range []string{
		"CREATE SCHEMA " + role, // the first in its search path
		"GRANT USAGE, CREATE ON SCHEMA " + role + " TO " + role,
		"GRANT " + role + " TO CURRENT_USER", // to use its tables, and to end its sessions
	} {
		storetest.Query(t, owner, sql)
	}
	// The role's tables go before it does.
	t.Cleanup(func() { storetest.Query(t, owner, "DROP OWNED BY "+role) })
	return role
}

// consumer is a running process, and those that it started.
type consumer struct {
	cmd    *exec.Cmd
	stderr output
}

// output is what a process has written so far.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (r *rig) start() *consumer {
	r.t.Helper()
	p := &consumer{cmd: exec.Command(r.command[0], r.command[1:]...)}
	p.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "DATABASE_URL=" + r.dsn}
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // for kill
	if err := p.cmd.Start(); err != nil {
		r.t.Fatalf("start %s: %v", r.consumer, err)
	}
	r.t.Cleanup(func() {
		p.kill()
		if r.t.Failed() {
			r.t.Logf("stderr of %s: %s", r.consumer, p.stderr.String())
		}
	})
	return p
}

// kill kills the process and those that it started, as a crash would. It may be repeated.
func (p *consumer) kill() {
	if p.cmd.ProcessState == nil {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
		_ = p.cmd.Wait()
	}
}

// addEvents adds events until the function that it returns is called. Every second one is
// for the consumers; a tenth of the workflow executions is erased at once.
func (r *rig) addEvents() (stop func()) {
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.add(ctx) }()
	return func() {
		r.t.Helper()
		cancel()
		if err := <-ended; err != nil {
			r.t.Fatalf("add events: %v", err)
		}
	}
}

func (r *rig) add(ctx context.Context) error {
	tick := time.NewTicker(addInterval)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		id := fmt.Sprint("w", n)
		// with another context: one that ends within the statement would be an error
		_, err := r.owner.Pool().Exec(context.WithoutCancel(ctx), `SELECT callbackd.add_events('{callback_received,details_retrieved}', ARRAY[$1, $1])`, id)
		if err != nil {
			return err
		}
		if n%10 == 0 {
			err = r.erase(context.WithoutCancel(ctx), id)
		}
		if err != nil {
			return err
		}
		r.owner.Announce([]string{id})
	}
}

// erase leaves of a workflow execution the event erased, as an erasure does.
func (r *rig) erase(ctx context.Context, id string) error {
	return r.owner.InTx(ctx, "erase", func(tx *results.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM callbackd.events WHERE workflow_execution_id = $1`, id)
		if err == nil {
			_, err = tx.Exec(ctx, `SELECT callbackd.add_events('{erased}', ARRAY[$1])`, id)
		}
		return err
	})
}

// place is the last event that the consumer has handled; 0 if there is none.
func (r *rig) place() int64 {
	r.t.Helper()
	return storetest.Scalar[int64](r.t, r.owner, `SELECT coalesce(max(last_event_id), 0) FROM jumio.consumers WHERE consumer = $1`, r.consumer)
}

// awaitProgress waits until the consumer has handled events that it had not handled yet.
func (r *rig) awaitProgress() {
	r.t.Helper()
	now := storetest.Scalar[int64](r.t, r.owner, `SELECT coalesce(max(event_id), 0) FROM jumio.events`)
	storetest.Eventually(r.t, r.consumer+" handles events", func() bool { return r.place() > now })
}

// holdUp locks a table against writes, waits until as many instances of the consumer wait
// for a lock, calls do, and lets them go on.
func (r *rig) holdUp(table string, instances int, do func()) {
	r.t.Helper()
	tx, err := r.owner.Pool().Begin(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(r.t.Context())) }()
	if _, err := tx.Exec(r.t.Context(), "LOCK TABLE "+table+" IN SHARE MODE"); err != nil {
		r.t.Fatalf("lock %s: %v", table, err)
	}
	storetest.Eventually(r.t, r.consumer+" waits for a lock", func() bool {
		return storetest.Scalar[int](r.t, r.owner, `SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND wait_event_type = 'Lock'`, r.role) == instances
	})
	do()
	if err := tx.Rollback(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	r.awaitProgress()
}

func (r *rig) endSessions() {
	r.t.Helper()
	storetest.Query(r.t, r.owner, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1`, r.role)
}

// outage ends the consumer's sessions, and accepts no others until it has noticed.
func (r *rig) outage(p *consumer) {
	r.t.Helper()
	storetest.Query(r.t, r.owner, "ALTER ROLE "+r.role+" NOLOGIN")
	r.endSessions()
	storetest.Eventually(r.t, r.consumer+" tries twice in vain", func() bool {
		return strings.Count(p.stderr.String(), "not permitted to log in") >= 2
	})
	storetest.Query(r.t, r.owner, "ALTER ROLE "+r.role+" LOGIN")
	r.awaitProgress()
}

// wantOnce demands that each event has had its effect once.
func (r *rig) wantOnce() {
	r.t.Helper()
	rows := storetest.Query(r.t, r.owner, `SELECT count(*), count(*) FILTER (WHERE n = 0), count(*) FILTER (WHERE n > 1) FROM (
		SELECT count(d.event_id) AS n FROM jumio.events AS e LEFT JOIN `+r.role+`.decided_users AS d USING (event_id)
		WHERE e.type = 'details_retrieved' GROUP BY e.event_id) AS handled`)
	events, missed, repeated := rows[0][0].(int64), rows[0][1].(int64), rows[0][2].(int64)
	if events == 0 || missed > 0 || repeated > 0 {
		r.t.Errorf("of %d events, %s missed %d and handled %d more than once", events, r.consumer, missed, repeated)
	}
	if n := storetest.Scalar[int](r.t, r.owner, `SELECT count(*) FROM `+r.role+`.decided_users JOIN jumio.events AS e USING (workflow_execution_id) WHERE e.type = 'erased'`); n > 0 {
		r.t.Errorf("%s keeps %d of those who are erased", r.consumer, n)
	}
}
