package processtest

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/store/storetest"
)

// tailed is a line of `events tail --json`.
type tailed struct {
	ID                int64     `json:"event_id"`
	OccurredAt        time.Time `json:"occurred_at"`
	Type              string    `json:"type"`
	WorkflowExecution string    `json:"workflow_execution_id"`
}

// tailOf starts `events tail` with a consumer's rights alone.
func tailOf(t *testing.T, dsn string, args ...string) *process {
	t.Helper()
	environ := []string{"DATABASE_URL=" + storetest.AsMember(t, dsn, "jumio_reader, jumio_consumer")}
	return startCallbackd(t, environ, append([]string{"events", "tail"}, args...)...)
}

// tailed are the events that a process has printed with --json.
func (p *process) tailed() (list []tailed) {
	p.t.Helper()
	for _, line := range p.stdout.lines() {
		var e tailed
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			p.t.Fatalf("the line %q: %v", line, err)
		}
		list = append(list, e)
	}
	return list
}

// awaitTailed waits until the process has printed the event.
func (p *process) awaitTailed(last int64) {
	p.t.Helper()
	eventually(p.t, patience, func() error {
		list := p.tailed()
		if len(list) == 0 || list[len(list)-1].ID < last {
			return fmt.Errorf("%d events are printed, event %d is not", len(list), last)
		}
		return nil
	})
}

// addEvents adds one event of each type for each of n workflow executions, and returns the
// id of the last.
func (db *database) addEvents(n int, types ...string) int64 {
	db.t.Helper()
	db.exec(`SELECT callbackd.add_events(array_agg(t.type), array_agg('w' || n)) FROM generate_series(1, $1::int) AS n, unnest($2::text[]) AS t (type)`, n, types)
	db.exec(`NOTIFY jumio_events, 'w1'`)
	return query(db, pgx.RowTo[int64], `SELECT max(event_id) FROM jumio.events`)[0]
}

func (db *database) place(consumer string) int64 {
	db.t.Helper()
	return query(db, pgx.RowTo[int64], `SELECT coalesce(max(last_event_id), 0) FROM jumio.consumers WHERE consumer = $1`, consumer)[0]
}

// TestTailResumes: killed while it prints, `events tail --consumer` goes on where it was, and
// misses no event. Stopped, it prints none again.
func TestTailResumes(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn)
	var printed []tailed
	for range 4 {
		first := db.place("c") + 1
		db.addEvents(1500, "retrieved", "expired") // some batches
		p := tailOf(t, dsn, "--consumer", "c", "--json")
		p.awaitTailed(first)
		p.kill()
		printed = append(printed, p.tailed()...)
	}
	p := tailOf(t, dsn, "--consumer", "c", "--json")
	p.awaitTailed(db.addEvents(1, "overdue"))
	p.stop(os.Interrupt)
	ids := make([]int64, 0, len(printed))
	for _, e := range append(printed, p.tailed()...) {
		ids = append(ids, e.ID)
	}
	slices.Sort(ids)
	all := query(db, pgx.RowTo[int64], `SELECT event_id FROM jumio.events ORDER BY event_id`)
	if diff := cmp.Diff(all, slices.Compact(ids)); diff != "" {
		t.Errorf("event ids (-there +printed):\n%s", diff)
	}
	if place := db.place("c"); place != all[len(all)-1] {
		t.Errorf("the consumer stands at %d, want %d", place, all[len(all)-1])
	}
	last := db.addEvents(1, "expired")
	p = tailOf(t, dsn, "--consumer", "c", "--json", "--from", "beginning")
	p.awaitTailed(last)
	if list := p.tailed(); len(list) != 1 {
		t.Errorf("after a stop %d events are printed, want the new one", len(list))
	}
}

// TestTailFrom: where a tail starts, which types it prints, and that a consumer is moved on
// over those that it does not print.
func TestTailFrom(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn)
	db.addEvents(2, "retrieved")
	at := query(db, pgx.RowTo[time.Time], `SELECT to_timestamp((max(event_id) + 1) / 1e6) FROM jumio.events`)[0]
	last := db.addEvents(2, "expired", "overdue", "retrieved")
	from := at.Format(time.RFC3339Nano)
	for args, want := range map[string]int{
		"--from beginning":                            8,
		"--from " + from:                              6,
		"--consumer new":                              8,
		"--consumer later --from " + from:             6,
		"--consumer some --type retrieved":            4,
		"--from beginning --type expired,overdue":     4,
		"--from beginning --type overdue":             2,
		"--consumer two --type expired --type=erased": 2,
	} {
		p := tailOf(t, dsn, append(strings.Fields(args), "--json")...)
		eventually(t, patience, func() error {
			if n := len(p.tailed()); n < want {
				return fmt.Errorf("%s: %d events are printed, want %d", args, n, want)
			}
			return nil
		})
		if name, found := strings.CutPrefix(args, "--consumer "); found {
			name, _, _ = strings.Cut(name, " ")
			eventually(t, patience, func() error {
				if place := db.place(name); place != last {
					return fmt.Errorf("consumer %s stands at %d, want %d", name, place, last)
				}
				return nil
			})
		}
		p.stop(os.Interrupt)
		if n := len(p.tailed()); n != want {
			t.Errorf("%s: %d events are printed, want %d", args, n, want)
		}
	}
}

// TestTailFollows: without flags it prints what happens from now on, a line each.
func TestTailFollows(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn)
	db.addEvents(1, "retrieved")
	p := startCallbackd(t, []string{"DATABASE_URL=" + dsn}, "events", "tail")
	eventually(t, patience, func() error {
		if db.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query = 'LISTEN jumio_events'`) == 0 {
			return fmt.Errorf("it does not listen")
		}
		return nil
	})
	last := db.addEvents(1, "expired")
	eventually(t, patience, func() error {
		if len(p.stdout.lines()) == 0 {
			return fmt.Errorf("nothing is printed")
		}
		return nil
	})
	p.stop(syscall.SIGTERM)
	lines := p.stdout.lines()
	if want := fmt.Sprintf("Z  %d  expired  w1  -  -  -  -", last); len(lines) != 1 || !strings.HasSuffix(lines[0], want) || p.stderr.String() != "" {
		t.Errorf("got %q and on stderr %q, want one line that ends with %q", lines, p.stderr.String(), want)
	}
}

// TestTailOutage: an outage is one line on stderr, and so is its end. No event is printed
// twice.
func TestTailOutage(t *testing.T) {
	t.Parallel()
	postgres := ownPostgres(t)
	db := open(t, postgres.dsn)
	p := tailOf(t, postgres.dsn, "--consumer", "c", "--json")
	p.awaitTailed(db.addEvents(10, "retrieved"))

	postgres.begin()
	awaitLines := func(n int) {
		t.Helper()
		eventually(t, patience, func() error {
			if lines := p.stderr.lines(); len(lines) < n {
				return fmt.Errorf("stderr has %q, want %d lines", lines, n)
			}
			return nil
		})
	}
	awaitLines(1)
	postgres.end()
	awaitLines(2)
	p.awaitTailed(open(t, postgres.dsn).addEvents(10, "retrieved"))
	p.stop(os.Interrupt)
	if n := len(p.tailed()); n != 20 {
		t.Errorf("%d events are printed, want 20", n)
	}
	lines := p.stderr.lines()
	if len(lines) != 2 || !strings.HasSuffix(lines[0], "; trying again") || lines[1] != "callbackd: the database is back" {
		t.Errorf("stderr: %q", lines)
	}
}

// TestTailHead: a reader of stdout that has had enough ends the tail without a word, whether
// it writes or waits.
func TestTailHead(t *testing.T) {
	t.Parallel()
	dsn := migrated(t)
	db := open(t, dsn)
	for name, events := range map[string]int{"waits": 1, "writes": 5000} {
		db.addEvents(events, "retrieved")
		path, err := program()
		if err != nil {
			t.Fatal(err)
		}
		var stderr output
		cmd := exec.Command(path, "events", "tail", "--consumer", name)
		cmd.Env = []string{"DATABASE_URL=" + dsn}
		cmd.Stderr = &stderr
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
			t.Errorf("%s: the first line is %q, %v", name, line, err)
		}
		stdout.Close()
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err = <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			err = <-ended
		}
		if err != nil || stderr.String() != "" {
			t.Errorf("%s: it ends with %v, stderr %q, want 0 and nothing", name, err, stderr.String())
		}
	}
}
