package processtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"callbackd/internal/callback"
	"callbackd/internal/imagestore/imagestoretest"
	"callbackd/internal/tracing/tracetest"
)

const erasureKey = "CALLBACKD_ERASURE_KEY=marked-erasure-key-Rw4Nz8"

// TestErasureLeavesNothing: forty verifications of twenty persons, in every state that a
// verification can be in, with a mark in every field, image, header, reference and body.
// Ten persons are erased. Then nothing of them is found in the files of the database's
// cluster, in the tables, the image store, the spool, logs, metrics, traces and what the
// commands say; what belongs to the others is all there. What arrives for the erased later
// does nothing.
//
// Before the erasure the same search finds every mark: columns that Postgres may compress
// are stored EXTERNAL for this. The WAL is out of reach, and so are the planner's
// statistics, until the next ANALYZE. Without -chaos.full, with images in a directory only.
func TestErasureLeavesNothing(t *testing.T) {
	t.Parallel()
	if *chaosFull {
		t.Run("images in the database", func(t *testing.T) {
			t.Parallel()
			testErasureLeavesNothing(newErasureRig(t, "", "", nil))
		})
		t.Run("images in S3", func(t *testing.T) {
			t.Parallel()
			s3 := imagestoretest.NewServer(t)
			testErasureLeavesNothing(newErasureRig(t, filepath.Join(s3.Directory, "of-callbackd"), "", []string{
				"CALLBACKD_IMAGE_STORE=" + s3.URL(),
				"CALLBACKD_IMAGE_STORE_ACCESS_KEY=" + imagestoretest.AccessKey, "CALLBACKD_IMAGE_STORE_SECRET_KEY=" + imagestoretest.SecretKey,
			}))
		})
	}
	t.Run("images in a directory, signed references", func(t *testing.T) {
		t.Parallel()
		images := t.TempDir()
		testErasureLeavesNothing(newErasureRig(t, images, "marked-reference-key-Vb6Kq2", []string{"CALLBACKD_IMAGE_STORE=file://" + images}))
	})
}

func testErasureLeavesNothing(rig *erasureRig) {
	t := rig.t
	t.Helper()
	rig.prepare()
	before := rig.search()
	rig.wantAllFound(before)

	orders := rig.order()
	worker := rig.startWorker()
	rig.awaitSpools(orders)
	rig.db.exec(`DROP TRIGGER away ON callbackd.callbacks`)
	rig.awaitDone(orders)
	rig.awaitKept()
	rig.sendLate()
	rig.awaitQuiet(worker)
	metrics := worker.metrics(t)["callbackd_tombstoned_callbacks_total"]
	if metrics == 0 {
		t.Error("callbackd_tombstoned_callbacks_total is 0")
	}
	rig.outputs["metrics of the worker"] = worker.metricsText(t)
	rig.outputs["metrics of the receiver"] = rig.receiver.metricsText(t)
	rig.outputs["erasure export"] = succeed(t, rig.commands, "erasure", "export")
	rig.outputs["erasure show --json"] = succeed(t, rig.commands, "erasure", "show", orders[0], "--json")
	rig.outputs["erasure list"] = succeed(t, rig.commands, "erasure", "list")
	for _, order := range orders {
		rig.outputs["erasure show"] += succeed(t, rig.commands, "erasure", "show", order)
		rig.verify(order)
	}
	rig.stopAll()

	after := rig.search()
	rig.wantGone(after)
	rig.wantKept(before, after)
	rig.wantObjects(after)
	rig.wantIDsOnlyWhereTheyMay()
}

// erasureRig is a database of its own with persons in it.
type erasureRig struct {
	t         *testing.T
	postgres  *outage
	db        *database
	marks     *marks
	jumio     *markedJumio
	collector *tracetest.Collector
	environ   []string // of a worker
	commands  []string
	spool     string
	images    string // where the image store has its files; empty for images in the database
	signing   string // the key of signed references; empty for none
	receiver  *instance
	instances []*instance
	outputs   map[string]string // what has been said, by whom
	people    [20]*person
	cases     [20][2]*erasureCase
	late      []*erasureCase // of the erased, after they were
	newcomers map[string]*markedVerification
}

// erasureCase is a verification in a state.
type erasureCase struct {
	*markedVerification
	state string
	// erased: it is to be erased.
	erased bool
}

// The ways of erasing a person, and the states of the two verifications: of person n, and
// of person n+10, who is not erased.
var erasureCases = [10]struct {
	by     string
	states [2]string
}{
	{"account", [2]string{"refetched", "expected"}},
	{"user_reference", [2]string{"partial", "spooled"}},
	{"workflow_executions", [2]string{"failed", "staged"}},
	{"account", [2]string{"forbidden", "malformed"}},
	{"user_reference", [2]string{"replayed", "overdue"}},
	{"workflow_executions", [2]string{"retrieved", "inbox"}},
	{"account", [2]string{"inbox", "spooled"}},
	{"user_reference", [2]string{"recovered", "awaiting"}},
	{"first_workflow_execution", [2]string{"expired", "retrieved"}},
	{"account", [2]string{"contradicted", "dead letter"}},
}

// newErasureRig has workers with the settings of the image store.
func newErasureRig(t *testing.T, images, signing string, imageStore []string) *erasureRig {
	t.Helper()
	rig := &erasureRig{
		t: t, postgres: ownPostgres(t), marks: newMarks(), collector: tracetest.Start(t), spool: filepath.Join(t.TempDir(), "spool"),
		images: images, signing: signing, outputs: map[string]string{}, newcomers: map[string]*markedVerification{},
	}
	rig.db = open(t, rig.postgres.dsn)
	rig.jumio = startMarkedJumio(t, rig.marks)
	rig.environ = traced(append(retrieving(rig.postgres.dsn, &jumioSandbox{url: rig.jumio.url}), erasureKey,
		"JUMIO_ACCOUNT_URL="+rig.jumio.url, "JUMIO_API_URL="+rig.jumio.url,
		"CALLBACKD_RETRIEVAL_DELAYS=0s,200ms", "CALLBACKD_LOG_LEVEL=debug",
		"CALLBACKD_SESSION_TIMEOUT=1s", "CALLBACKD_RECONCILE_GRACE=0s", "CALLBACKD_RECONCILE_DELAYS=0s"), rig.collector.URL)
	rig.commands = []string{
		"DATABASE_URL=" + rig.postgres.dsn, erasureKey,
		"JUMIO_CLIENT_ID=" + sandboxClient, "JUMIO_CLIENT_SECRET=" + sandboxSecret, "JUMIO_USER_AGENT=Example Processtest/v1.0",
		"JUMIO_TOKEN_URL=" + rig.jumio.url, "JUMIO_RETRIEVAL_URL=" + rig.jumio.url, "JUMIO_ACCOUNT_URL=" + rig.jumio.url, "JUMIO_API_URL=" + rig.jumio.url,
	}
	rig.environ = append(rig.environ, imageStore...)
	if signing != "" {
		rig.environ = append(rig.environ, rig.signingKey())
		rig.commands = append(rig.commands, rig.signingKey())
	}
	// What is compressed cannot be found in the files.
	rig.db.exec(`DO $$ DECLARE c record; BEGIN
		FOR c IN SELECT a.attrelid::regclass AS relation, a.attname FROM pg_attribute AS a JOIN pg_class AS r ON r.oid = a.attrelid
			WHERE r.relnamespace = 'callbackd'::regnamespace AND r.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped AND a.attstorage = 'x'
		LOOP EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STORAGE EXTERNAL', c.relation, c.attname); END LOOP; END $$`)
	for n := range rig.people {
		c := erasureCases[n%10]
		rig.people[n] = rig.marks.newPerson(fmt.Sprintf("person %02d", n))
		rig.people[n].reference = rig.signed(rig.people[n].reference)
		for i, state := range c.states {
			v := rig.jumio.verify(rig.people[n], func(v *markedVerification) {
				switch state {
				case "partial":
					v.imageCode = http.StatusNotFound
				case "staged":
					v.hangs = true
				case "failed":
					v.detailsCode = http.StatusInternalServerError
				case "expired":
					v.status = "SESSION_EXPIRED"
				case "overdue", "awaiting", "expected":
					v.status = "ACQUIRED"
				}
			})
			rig.cases[n][i] = &erasureCase{v, state, n < 10 && (c.by != "first_workflow_execution" || i == 0)}
		}
	}
	return rig
}

// signingKey is the setting of the key of signed references.
func (rig *erasureRig) signingKey() string { return "CALLBACKD_USER_REFERENCE_KEY=" + rig.signing }

// signed is a reference as Jumio is given it.
func (rig *erasureRig) signed(reference string) string {
	rig.t.Helper()
	if rig.signing == "" {
		return reference
	}
	signed, err := callback.SignUserReference(rig.signing, strings.ReplaceAll(reference, "/", "-")) // which may not have one
	if err != nil {
		rig.t.Fatal(err)
	}
	return signed
}

func (rig *erasureRig) serve(environ []string) *instance {
	rig.t.Helper()
	i := serve(rig.t, environ)
	rig.instances = append(rig.instances, i)
	return i
}

func (rig *erasureRig) startWorker() *instance {
	rig.t.Helper()
	return rig.serve(append(rig.environ, "CALLBACKD_RECEIVE=false"))
}

// each calls f for every verification in one of the states.
func (rig *erasureRig) each(f func(c *erasureCase), states ...string) {
	rig.t.Helper()
	for _, of := range rig.cases {
		for _, c := range of {
			if slices.Contains(states, c.state) {
				f(c)
			}
		}
	}
}

// command runs a command that must succeed and keeps what it says.
func (rig *erasureRig) command(args ...string) string {
	rig.t.Helper()
	out := succeed(rig.t, rig.commands, args...)
	rig.outputs["callbackd "+args[0]+" "+args[1]] += out
	return out
}

func (rig *erasureRig) post(i *instance, from string, c *erasureCase, status string) *answer {
	rig.t.Helper()
	return i.post(rig.t, from, c.contentType(rig.marks), c.callback(rig.marks, status))
}

// prepare brings every verification into its state.
func (rig *erasureRig) prepare() {
	t := rig.t
	t.Helper()
	all := rig.serve(rig.environ)
	post := func(status string) func(*erasureCase) {
		return func(c *erasureCase) { rig.post(all, jumioAddress, c, status).wantCode(t, http.StatusOK) }
	}
	rig.each(post("PROCESSED"), "refetched", "partial", "failed", "retrieved", "contradicted")
	rig.each(post("SESSION_EXPIRED"), "expired")
	rig.each(post("ACQUIRED"), "awaiting")
	rig.each(func(c *erasureCase) {
		lifetime := "1 second"
		if c.state == "expected" {
			lifetime = "1 hour"
		}
		rig.db.exec(`SELECT jumio.expect($1, $2, NULL, $3, $4, $5::text::interval)`, c.id, c.account, c.reference, c.definitionKey, lifetime)
	}, "expected", "overdue", "recovered")
	rig.each(func(c *erasureCase) {
		rejected := rig.post(all, foreignAddress, c, "PROCESSED").wantCode(t, http.StatusForbidden).header.Get("X-Request-Id")
		rig.command("rejected", "replay", rejected)
	}, "replayed")
	await := func(state string) func(*erasureCase) {
		return func(c *erasureCase) { rig.db.awaitState(c.id, state) }
	}
	rig.each(await("retrieved"), "refetched", "retrieved", "contradicted", "replayed", "recovered")
	rig.each(await("partial"), "partial")
	rig.each(await("failed"), "failed")
	rig.each(await("not_required"), "expired")
	rig.each(func(c *erasureCase) { rig.command("refetch", c.id) }, "refetched")
	rig.each(func(c *erasureCase) {
		rig.await("two retrievals", func() bool {
			return rig.db.count(`SELECT count(*) FROM jumio.events WHERE workflow_execution_id = $1 AND type = 'retrieved'`, c.id) == 2
		})
	}, "refetched")
	rig.each(func(c *erasureCase) {
		rig.await("an overdue verification", func() bool {
			return rig.db.count(`SELECT count(*) FROM jumio.expectations WHERE workflow_execution_id = $1 AND state = 'overdue'`, c.id) == 1
		})
	}, "overdue")
	// A callback that names somebody else: kept with the one, it is of both.
	for n, of := range rig.cases {
		if of[0].state == "contradicted" {
			c, other := of[0], rig.people[(n+10)%20]
			owner := c.id
			if n >= 10 {
				owner = other.name
			}
			all.post(t, jumioAddress, "application/json", c.callbackAs(rig.marks, c.id, other.account, other.reference, owner, "ACQUIRED")).wantCode(t, http.StatusOK)
			rig.await("the contradicting callback", func() bool {
				return rig.db.count(`SELECT count(*) FROM jumio.workflow_executions WHERE workflow_execution_id = $1 AND callback_count = 2`, c.id) == 1
			})
		}
	}
	// What would be stored of it is refused for its values.
	rig.db.exec(`CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '23514'; END $$`)
	rig.each(func(c *erasureCase) {
		rig.db.exec(`CREATE TRIGGER refuse BEFORE INSERT ON callbackd.workflow_executions FOR EACH ROW
			WHEN (NEW.workflow_execution_id = '` + c.id + `') EXECUTE FUNCTION public.refuse()`)
		post("PROCESSED")(c)
		rig.await("a dead letter", func() bool {
			return rig.db.count(`SELECT count(*) FROM jumio.rejected_callbacks WHERE workflow_execution_id = $1 AND reason = 'not_storable: SQLSTATE 23514'`, c.id) == 1
		})
		rig.db.exec(`DROP TRIGGER refuse ON callbackd.workflow_executions`)
	}, "dead letter")
	rig.outputs["metrics before"] = all.metricsText(t)
	// In the middle of an attempt the process dies, and of no upload: the object of one is
	// deleted minutes later.
	rig.each(post("PROCESSED"), "staged")
	rig.each(func(c *erasureCase) {
		rig.await("staged images", func() bool {
			return rig.jumio.hung(c.markedVerification) &&
				rig.db.count(`SELECT count(*) FROM callbackd.images WHERE workflow_execution_id = $1 AND NOT published`, c.id) > 0
		})
	}, "staged")
	all.kill()
	rig.each(func(c *erasureCase) { rig.jumio.answer(c.markedVerification) }, "staged")

	// From here on nothing is promoted.
	environ := append(spooling(rig.postgres.dsn, rig.spool), "CALLBACKD_LOG_LEVEL=debug")
	if rig.signing != "" {
		environ = append(environ, rig.signingKey())
	}
	rig.receiver = rig.serve(traced(environ, rig.collector.URL))
	rig.each(func(c *erasureCase) { rig.post(rig.receiver, jumioAddress, c, "PROCESSED").wantCode(t, http.StatusOK) }, "inbox")
	rig.each(func(c *erasureCase) {
		rig.post(rig.receiver, foreignAddress, c, "PROCESSED").wantCode(t, http.StatusForbidden)
	}, "forbidden")
	rig.each(func(c *erasureCase) {
		body, err := json.Marshal(map[string]any{
			"workflowExecution": map[string]string{"id": "/no/id"}, "account": map[string]string{"id": c.account},
			"userReference": c.reference, "unknown": rig.marks.plant(c.id, "malformed body"),
		})
		if err != nil {
			t.Fatal(err)
		}
		rig.receiver.post(t, jumioAddress, c.contentType(rig.marks), string(body)).wantCode(t, http.StatusBadRequest)
	}, "malformed")
	// The table takes no callbacks, as if the database were away for receivers alone.
	rig.db.exec(`CREATE FUNCTION public.away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '57P03'; END $$`)
	rig.db.exec(`CREATE TRIGGER away BEFORE INSERT ON callbackd.callbacks FOR EACH ROW EXECUTE FUNCTION public.away()`)
	rig.each(func(c *erasureCase) { rig.post(rig.receiver, jumioAddress, c, "PROCESSED").wantCode(t, http.StatusOK) }, "spooled")
	rig.await("the spool's report", func() bool { return rig.db.count(`SELECT count(*) FROM callbackd.spools`) == 1 })
	rig.db.exec(`ANALYZE`)
}

func (rig *erasureRig) await(what string, holds func() bool) {
	rig.t.Helper()
	eventually(rig.t, patience, func() error {
		if !holds() {
			return errors.New("not yet: " + what)
		}
		return nil
	})
}

// searched is what a search has found: in the tables, in the files of the cluster, in the
// spool, in the image store, and in what has been said.
type searched struct{ tables, files, spool, objects, said finds }

func (s searched) all() finds {
	all := finds{}
	for _, found := range []finds{s.tables, s.files, s.spool, s.objects, s.said} {
		for m, places := range found {
			for _, place := range places {
				all.add(m, place)
			}
		}
	}
	return all
}

func (rig *erasureRig) search() searched {
	rig.t.Helper()
	// Twice, because VACUUM FULL moves the old statistics of what it comes to later.
	for _, statement := range []string{"ANALYZE", "VACUUM FULL", "ANALYZE", "VACUUM FULL pg_catalog.pg_statistic", "CHECKPOINT"} {
		rig.db.exec(statement)
	}
	s := searched{tables: rig.marks.searchTables(rig.db), said: finds{}}
	s.files = rig.marks.searchFiles(rig.t, rig.postgres.server.Dir(), "pg_wal")
	s.spool = rig.marks.searchFiles(rig.t, rig.spool)
	if rig.images != "" {
		s.objects = rig.marks.searchFiles(rig.t, rig.images)
	}
	for who, text := range rig.outputs {
		rig.marks.look(s.said, who, []byte(text))
	}
	for _, i := range rig.instances {
		rig.marks.look(s.said, "log of "+strings.Join(i.cmd.Args[1:], " "), []byte(i.stderr.String()+i.stdout.String()))
	}
	rig.marks.look(s.said, "traces", []byte(rig.collector.Raw()))
	return s
}

// wantAllFound: the search can find. Each verification is where its state says, and what
// the tables show, the files show, too.
func (rig *erasureRig) wantAllFound(s searched) {
	t := rig.t
	t.Helper()
	least := map[string]int{"refetched": 55, "retrieved": 55, "contradicted": 55, "replayed": 55, "recovered": 55, "partial": 55, "staged": 3, "expected": 1, "overdue": 1, "spooled": 3, "inbox": 3, "dead letter": 3}
	for n, of := range rig.cases {
		for _, c := range of {
			found := slices.Concat(s.tables.of(c.id), s.spool.of(c.id), s.objects.of(c.id))
			if len(found) < max(least[c.state], 1) {
				t.Errorf("person %d, %s: only %d marks are found before the erasure", n, c.state, len(found))
			}
		}
		if len(s.all().of(rig.people[n].name)) < 2 {
			t.Errorf("person %d: the account or the reference is not found before the erasure", n)
		}
	}
	missing := 0
	for m := range s.tables {
		if len(s.files[m]) == 0 {
			missing++
		}
	}
	// A mark may lie across two of the pieces in which large values are stored.
	if missing*20 > len(s.tables) {
		t.Errorf("%d of %d marks in the tables are not found in the files", missing, len(s.tables))
	}
	t.Logf("before: %d marks in the tables, %d of them not in the files, %d in the spool", len(s.tables), missing, len(s.spool))
	rig.wantObjects(s)
	rig.wantNotSaid(s)
}

// wantObjects: with an image store, each image is in it and nowhere else, and each of its
// files is that of an image, or is to be deleted.
func (rig *erasureRig) wantObjects(s searched) {
	t := rig.t
	t.Helper()
	if rig.images == "" {
		return
	}
	inFiles := map[string]bool{}
	for m, places := range s.objects {
		if !strings.HasPrefix(m.what, "image ") {
			t.Errorf("%s of %s is in the objects %q", m.what, m.owner, places)
		}
		for _, place := range places {
			inFiles[strings.TrimPrefix(place, "file ")] = true
		}
	}
	for _, found := range []finds{s.tables, s.files} {
		for m, places := range found {
			if strings.HasPrefix(m.what, "image ") {
				t.Errorf("%s of %s is in %q, though images are in the image store", m.what, m.owner, places)
			}
		}
	}
	keys := rig.db.texts(`SELECT object_key FROM callbackd.images`)
	// Of what waits for a worker, as what a refetch has replaced, the killed one may have
	// deleted the object already.
	for _, key := range rig.db.texts(`SELECT object_key FROM callbackd.object_deletions`) {
		if inFiles[key] {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	if diff := cmp.Diff(keys, slices.Sorted(maps.Keys(inFiles))); len(keys) < 20 || diff != "" {
		t.Errorf("%d images (-rows +files that have an image's mark):\n%s", len(keys), diff)
	}
	if n := len(rig.objects()); n != len(keys) {
		t.Errorf("%d files are in the image store, want those of %d images", n, len(keys))
	}
}

// objects are the files of the image store.
func (rig *erasureRig) objects() (names []string) {
	rig.t.Helper()
	err := filepath.WalkDir(rig.images, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		rig.t.Fatal(err)
	}
	return names
}

// wantNotSaid: no mark is in a log, a metric, a trace or what a command says.
func (rig *erasureRig) wantNotSaid(s searched) {
	rig.t.Helper()
	for m, places := range s.said {
		rig.t.Errorf("%s of %s is in %q", m.what, m.owner, places)
	}
}

// order orders the erasures.
func (rig *erasureRig) order() (orders []string) {
	rig.t.Helper()
	order := func(kind, subject string) {
		orders = append(orders, rig.db.texts(`SELECT jumio.request_erasure($1, $2, 'asked for by letter')::text`, kind, subject)...)
	}
	for n, c := range erasureCases {
		switch c.by {
		case "account":
			order("account", rig.people[n].account)
		case "user_reference":
			order("user_reference", callback.UnsignedReference(rig.signing, rig.people[n].reference))
		case "workflow_executions":
			order("workflow_execution", rig.cases[n][0].id)
			order("workflow_execution", rig.cases[n][1].id)
		default:
			order("workflow_execution", rig.cases[n][0].id)
		}
	}
	return orders
}

// awaitSpools waits until all orders wait for the spool, which was not empty before them.
func (rig *erasureRig) awaitSpools(orders []string) {
	rig.t.Helper()
	eventually(rig.t, 2*patience, func() error {
		steps := rig.db.texts(`SELECT step || ' ' || state FROM callbackd.erasures WHERE order_id::text = ANY($1) AND step <> 'spools'`, orders)
		if len(steps) > 0 {
			return fmt.Errorf("not waiting for the spool: %q", steps)
		}
		return nil
	})
}

func (rig *erasureRig) awaitDone(orders []string) {
	rig.t.Helper()
	eventually(rig.t, 2*patience, func() error {
		open := rig.db.texts(`SELECT concat_ws(' ', order_id, state, error) FROM jumio.erasures WHERE state <> 'done'`)
		done := rig.db.count(`SELECT count(*) FROM jumio.erasures WHERE state = 'done' AND order_id::text = ANY($1)`, orders)
		if len(open) > 0 || done != len(orders) {
			return fmt.Errorf("%d of %d are done: %q", done, len(orders), open)
		}
		return nil
	})
}

// awaitKept waits until what was spooled or in the inbox of the others is retrieved.
func (rig *erasureRig) awaitKept() {
	rig.t.Helper()
	rig.each(func(c *erasureCase) {
		if !c.erased {
			rig.db.awaitState(c.id, "retrieved")
		}
	}, "spooled", "inbox")
}

// sendLate sends, and does, for the erased whatever could bring them back; and begins a
// new relationship under a reference that was erased.
func (rig *erasureRig) sendLate() {
	t := rig.t
	t.Helper()
	for n, of := range rig.cases {
		for i, c := range of {
			if !c.erased {
				continue
			}
			rig.post(rig.receiver, jumioAddress, c, "PROCESSED").wantCode(t, http.StatusOK)
			rig.post(rig.receiver, foreignAddress, c, "PROCESSED").wantCode(t, http.StatusForbidden)
			if i == 0 {
				rig.outputs["refetch"] += fails(t, rig.commands, "refetch", c.id)
			} else {
				rig.outputs["verification fetch"] += fails(t, rig.commands, "verification", "fetch", c.id)
			}
			rig.db.exec(`SELECT jumio.expect($1, $2, NULL, $3, NULL, '1 second')`, c.id, c.account, c.reference)
		}
		switch {
		case n >= 10:
		case erasureCases[n].by == "account":
			// Another verification of an account that is barred.
			another := &erasureCase{rig.jumio.verify(rig.people[n], nil), "late", true}
			rig.post(rig.receiver, jumioAddress, another, "PROCESSED").wantCode(t, http.StatusOK)
			// One whose account callbackd learns only from Jumio.
			unnamed := &erasureCase{rig.jumio.verify(rig.people[n], nil), "late", true}
			body := processed(unnamed.id)
			if rig.signing != "" { // it must name the reference
				body = fmt.Sprintf(`{"workflowExecution":{"id":%q,"status":"PROCESSED"},"userReference":%q}`, unnamed.id, unnamed.reference)
			}
			rig.receiver.post(t, jumioAddress, "application/json", body).wantCode(t, http.StatusOK)
			rig.late = append(rig.late, another, unnamed)
		case erasureCases[n].by == "user_reference":
			newcomer := &person{fmt.Sprintf("newcomer %02d", n), "acct-" + rig.marks.plant(fmt.Sprintf("newcomer %02d", n), "account"), rig.people[n].reference}
			v := &erasureCase{rig.jumio.verify(newcomer, nil), "newcomer", false}
			rig.post(rig.receiver, jumioAddress, v, "PROCESSED").wantCode(t, http.StatusOK)
			rig.newcomers[newcomer.name] = v.markedVerification
		}
	}
	for _, v := range rig.newcomers {
		rig.db.awaitState(v.id, "retrieved")
	}
}

// awaitQuiet waits until nothing is left to be promoted, retrieved or looked through.
func (rig *erasureRig) awaitQuiet(worker *instance) {
	rig.t.Helper()
	eventually(rig.t, patience, func() error {
		for _, table := range []string{"inbox", "unscreened"} {
			if n := rig.db.count(`SELECT count(*) FROM callbackd.` + table); n > 0 {
				return fmt.Errorf("%d rows in %s", n, table)
			}
		}
		if jobs := rig.db.texts(`SELECT kind FROM callbackd.river_job WHERE args ->> 'workflow_execution_id' = ANY ($1)`, rig.erasedIDs()); len(jobs) > 0 {
			return fmt.Errorf("jobs for the erased: %q", jobs)
		}
		return nil
	})
}

func (rig *erasureRig) stopAll() {
	rig.t.Helper()
	for _, i := range rig.instances {
		if i.running() {
			i.stop(terminate)
		}
	}
}

// verify looks for what is left of an order by the command.
func (rig *erasureRig) verify(order string) {
	rig.t.Helper()
	r := callbackd(rig.t, rig.commands, "erasure", "verify", order)
	rig.outputs["erasure verify"] += r.Stdout + r.Stderr
	if r.Code != 0 || r.Stdout != "nothing is left of order "+order+"\n" {
		rig.t.Errorf("erasure verify: exit code %d, %q, %q", r.Code, r.Stdout, r.Stderr)
	}
}

// gone are the owners of whom nothing may be left.
func (rig *erasureRig) gone() map[string]string {
	owners := map[string]string{}
	for _, v := range rig.late {
		owners[v.id] = "a late verification of " + v.person
	}
	for n, c := range erasureCases {
		for _, v := range rig.cases[n] {
			if v.erased {
				owners[v.id] = fmt.Sprintf("person %d (%s), %s", n, c.by, v.state)
			}
		}
		if c.by == "account" || c.by == "workflow_executions" {
			owners[rig.people[n].name] = fmt.Sprintf("person %d (%s)", n, c.by)
		}
	}
	return owners
}

// accountOfReference: the mark is the account of somebody who was erased by the reference,
// which itself has come again.
func (rig *erasureRig) accountOfReference(m mark) bool {
	for n, c := range erasureCases {
		if c.by == "user_reference" && m == (mark{rig.people[n].name, "account"}) {
			return true
		}
	}
	return false
}

func (rig *erasureRig) wantGone(s searched) {
	t := rig.t
	t.Helper()
	owners := rig.gone()
	for m, places := range s.all() {
		if whose, erased := owners[m.owner]; erased {
			t.Errorf("%s: %s is left in %q", whose, m.what, places)
		}
		if rig.accountOfReference(m) {
			t.Errorf("%s of %s is left in %q", m.what, m.owner, places)
		}
	}
	rig.wantNotSaid(s)
}

// wantKept: of the others everything is there that was, and what has come since.
func (rig *erasureRig) wantKept(before, after searched) {
	t := rig.t
	t.Helper()
	owners, was, is := rig.gone(), before.all(), after.all()
	for _, m := range slices.SortedFunc(maps.Keys(was), func(a, b mark) int { return strings.Compare(a.owner+a.what, b.owner+b.what) }) {
		_, erased := owners[m.owner]
		if !erased && !rig.accountOfReference(m) && len(is[m]) == 0 {
			t.Errorf("%s of %s is lost; it was in %q", m.what, m.owner, was[m])
		}
	}
	for name, v := range rig.newcomers {
		if len(after.tables.of(v.id))+len(after.objects.of(v.id)) < 55 {
			t.Errorf("%s: only %d marks are there", name, len(after.tables.of(v.id))+len(after.objects.of(v.id)))
		}
	}
}

// erasedIDs are the workflow executions of which nothing may be left.
func (rig *erasureRig) erasedIDs() (ids []string) {
	for _, c := range rig.late {
		ids = append(ids, c.id)
	}
	for _, of := range rig.cases[:10] {
		for _, c := range of {
			if c.erased {
				ids = append(ids, c.id)
			}
		}
	}
	return ids
}

// wantIDsOnlyWhereTheyMay: the id of an erased workflow execution stands in its row and in
// its event, and nowhere else in the database.
func (rig *erasureRig) wantIDsOnlyWhereTheyMay() {
	t := rig.t
	t.Helper()
	ids := rig.erasedIDs()
	for _, table := range rig.db.texts(`SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'm') AND n.nspname IN ('callbackd', 'jumio')
			AND c.relname NOT LIKE 'events\_%' AND c.relname <> 'workflow_executions'`) {
		if n := rig.db.count(`SELECT count(*) FROM ONLY `+table+` AS t WHERE EXISTS (SELECT FROM unnest($1::text[]) AS id WHERE position(id IN t::text) > 0)`, ids); n > 0 {
			t.Errorf("ids of what is erased are in %d rows of %s", n, table)
		}
	}
	if got := rig.db.texts(`SELECT DISTINCT concat_ws(' ', type, account_id, user_reference, retrieval_state, decision_type) FROM jumio.events
		WHERE workflow_execution_id = ANY($1)`, ids); !slices.Equal(got, []string{"erased"}) {
		t.Errorf("the events of what is erased are %q", got)
	}
}
