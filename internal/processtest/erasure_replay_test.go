package processtest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestErasureAfterARestore: a database restored from a backup that is older than an erasure
// erases again what it has forgotten, by the exported ledger, without asking Jumio. verify
// finds nothing afterwards, and whatever is there before.
func TestErasureAfterARestore(t *testing.T) {
	t.Parallel()
	rig := newKillRig(t)
	first := rig.copy(t)
	worker := first.startWorker()
	first.awaitErased()
	ledger := succeed(t, first.environ, "erasure", "export")
	if strings.Count(ledger, "\n") != 1 || !strings.Contains(ledger, first.order) {
		t.Errorf("the ledger is %q", ledger)
	}
	found := finds{}
	rig.marks.look(found, "the ledger", []byte(ledger))
	if len(found) > 0 {
		t.Errorf("the ledger names somebody: %v", found)
	}
	nothing := "nothing is left of order " + first.order + "\n"
	if got := first.verify(); got != (result{0, nothing, ""}) {
		t.Errorf("verify: %+v", got)
	}
	// With the subject given again, Jumio is asked, which has deleted it.
	if got := first.verify("--account-id", rig.person.account); got != (result{0, nothing, ""}) {
		t.Errorf("verify with the account: %+v", got)
	}
	first.jumio.forgetDeletions()
	if got := first.verify("--account-id", rig.person.account); got.Code != 1 || got.Stdout != "left  at Jumio  workflow executions  4\n" {
		t.Errorf("verify with what Jumio has not deleted: %+v", got)
	}
	if got := first.verify("--account-id", rig.other.account); got.Code != 1 || !strings.Contains(got.Stderr, "has not erased what is given") {
		t.Errorf("verify with another account: %+v", got)
	}
	worker.stop(terminate)

	restored := rig.restore(t)
	restored.order = first.order
	restored.jumio.onDeletion(func(path string) { t.Errorf("Jumio is asked to delete %s", path) })
	file := filepath.Join(t.TempDir(), "ledger.jsonl")
	if err := os.WriteFile(file, []byte(ledger), 0o600); err != nil {
		t.Fatal(err)
	}
	otherKey := slices.Concat(restored.environ, []string{"CALLBACKD_ERASURE_KEY=another-key-of-erasures"})
	if got := fails(t, otherKey, "erasure", "replay", file); !strings.Contains(got, "another CALLBACKD_ERASURE_KEY") {
		t.Errorf("replay with another key: %q", got)
	}
	for _, want := range []string{"ordered again", "known"} {
		if got := succeed(t, restored.environ, "erasure", "replay", file); got != first.order+"  "+want+"\n" {
			t.Errorf("replay: %q, want %q", got, want)
		}
	}
	if got := restored.verify(); got.Code != 1 || !strings.Contains(got.Stderr, "is ordered, not done") {
		t.Errorf("verify before a worker has begun: %+v", got)
	}
	worker = restored.startWorker()
	restored.awaitErased()
	if got := restored.verify(); got != (result{0, nothing, ""}) {
		t.Errorf("verify after the replay: %+v", got)
	}
	worker.stop(terminate)

	// What a defect may leave is found, and told without personal data.
	restored.db.exec(`INSERT INTO callbackd.mentions (subject, workflow_execution_id) VALUES ($1, 'x')`, rig.person.account)
	restored.db.exec(`INSERT INTO callbackd.relationships (account_id) VALUES ($1)`, rig.person.account)
	restored.db.exec(`INSERT INTO callbackd.rejected_callbacks (rejected_id, received_at, reason, content_type, body)
		VALUES (gen_random_uuid(), now(), 'malformed', '', convert_to('of ' || $1, 'UTF8'))`, rig.person.account)
	restored.db.exec(`UPDATE callbackd.workflow_executions SET customer_internal_reference = 'somebody' WHERE workflow_execution_id =
		(SELECT min(workflow_execution_id) FROM callbackd.workflow_executions WHERE erased_at IS NOT NULL)`)
	want := "left  mentions  account  1\nleft  rejected_callbacks  account  1\nleft  relationships  account  1\n" +
		"left  workflow_executions  columns of what is erased  1\n"
	if got := restored.verify(); got.Code != 1 || got.Stdout != want {
		t.Errorf("verify with something left: %+v, want %q", got, want)
	}
}

// verify runs the command, without its progress.
func (c *killCase) verify(flags ...string) result {
	c.t.Helper()
	r := callbackd(c.t, c.environ, append([]string{"erasure", "verify", c.order}, flags...)...)
	if lines := strings.SplitAfter(r.Stderr, "\n"); len(lines) > 1 {
		r.Stderr = lines[len(lines)-2]
		if strings.Contains(r.Stderr, "looking through the tables") {
			r.Stderr = ""
		}
	}
	return r
}
