package results_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// previousVersion is the schema before partitions and typed tables.
const previousVersion = 9

// filesUpTo are the migrations up to a version.
func filesUpTo(t *testing.T, version int) fs.FS {
	t.Helper()
	files := fstest.MapFS{}
	for name, file := range storetest.Migrations(t) {
		if n, err := strconv.Atoi(name[:6]); err == nil && n <= version {
			files[name] = file
		}
	}
	return files
}

// seed is what the previous version has stored of a workflow execution.
type seed struct {
	// body is what Jumio sent, details is it as jsonb if that differs; "NULL" for none.
	body, details string
	// account, reference and definition are the columns'.
	account, reference, definition string
	// arrived is last_callback_at; by default a time with details.
	arrived string
}

func seeds() map[string]seed {
	const ordinary = `{"workflow":{"id":"ordinary","status":"PROCESSED","definitionKey":"10013","userReference":"jane","customerInternalReference":"order-1"},
		"account":{"id":"acc-1"},"createdAt":"2021-03-12T15:47:17.234Z","startedAt":"2021-03-12T15:47:18Z","completedAt":"2021-03-12T17:48:00+02:00",
		"credentials":[{"id":"c1","category":"ID","parts":[{"classifier":"FRONT","href":"https://x/y"},{"classifier":"BACK"}]},{"id":"c2","category":"SELFIE","parts":[]}],
		"decision":{"type":"PASSED","details":{"label":"OK"},"risk":{"score":12.5}},
		"capabilities":{"usability":[{"id":"u1","credentials":[{"id":"c1","category":"ID"}],"decision":{"type":"PASSED","details":{"label":"OK"}}},
				{"id":"u2","credentials":[{"id":"c2","category":"SELFIE"},{"id":"c1","category":"ID"}],"decision":{"type":"WARNING","details":{"label":"BAD_QUALITY"}}}],
			"extraction":[{"id":"e1","credentials":[{"id":"c1"}],"decision":{"type":"PASSED"},"data":{"type":"PASSPORT","subType":"E_PASSPORT","issuingCountry":"AUT",
				"firstName":"JANE","lastName":"DOE","dateOfBirth":"1990-02-28","expiryDate":"2030-12-31","issuingDate":"2020-02-29","documentNumber":"P123","gender":"F",
				"nationality":"AUT","address":{"line1":"1 Main St","country":"AUT"},"dlCategories":["B"]}}],
			"similarity":[{"data":{"similarity":"MATCH"},"decision":{"type":"PASSED","details":{"label":"MATCH"}}}]}}`
	list := map[string]seed{
		"ordinary":     {body: ordinary, account: "acc-1", reference: "jane", definition: "10013"},
		"contradicts":  {body: ordinary, account: "forged", reference: "carol", definition: "9"},
		"only-columns": {body: `{}`, account: "acc-2", reference: "joe", definition: "8"},
		"null-details": {body: `not JSON`, details: "NULL", account: "acc-3"},
		"no-object":    {body: `[{"account":{"id":"acc-4"}}]`},
		"scalar":       {body: `5`},
		"null":         {body: `null`, reference: "nobody"},
		"types": {body: `{"createdAt": 5, "startedAt": "yesterday", "completedAt": {"a":1}, "account": "odd", "credentials": {"id": "c1", "parts": {"classifier": 7}},
			"workflow": {"customerInternalReference": true, "definitionKey": 2.50, "userReference": ["odd"]},
			"capabilities": {
				"extraction": [
					{"credentials": [{"id": "c1"}, {"noid": 1}, {"id": 2}, null, "odd"], "decision": {"type": 1, "details": {"label": false}},
					 "data": {"type": 1.50, "subType": [], "issuingCountry": null, "firstName": 1e3, "lastName": true, "dateOfBirth": "2023-02-31",
					 "expiryDate": "9999-12-31", "issuingDate": "today", "documentNumber": 123, "gender": {"odd": 1}, "address": "a street", "later": [1]}},
					{"data": {}}, {"data": []}, {"data": null}, {"decision": {"type": "NOT_EXECUTED"}}, {"data": {"address": null}}
				],
				"usability": {"decision": {"type": "WARNING"}},
				"liveness": ["odd", {"decision": "odd", "credentials": {"id": "c3"}}, null, {"data": {"type": "JUMIO_STANDARD"}}],
				"watchlistScreening": null, "docProof": 5, "": [{"decision": {"type": "PASSED"}}], "Ünïcode \" name": [{}]
			}}`},
		"duplicates": {body: `{"account":{"id":"first"},"capabilities":{"usability":[{}]},"capabilities":{"liveness":[{"decision":{"type":"PASSED"}}],
			"liveness":[{},{}]},"account":{"id":"acc-5"}}`, account: "acc-5"},
		"lists": {body: `{"capabilities":[{"usability":1}],"credentials":5}`},
		"nul": {
			body:    `{"workflow":{"userReference":"a\u0000b"},"capabilities":{"extraction":[{"data":{"firstName":"x\ud800y","lastName":"a\\u0000b"}}]}}`,
			details: `{"workflow":{"userReference":"a�b"},"capabilities":{"extraction":[{"data":{"firstName":"x�y","lastName":"a\\u0000b"}}]}}`,
		},
		"huge":        {body: `{"padding":"` + strings.Repeat("x", 1<<20) + `","capabilities":{"extraction":[{"data":{"firstName":"` + strings.Repeat("é", 4000) + `"}}]}}`},
		"many":        {body: `{"capabilities":{"usability":[` + strings.TrimSuffix(strings.Repeat(`{"decision":{"type":"PASSED"}},`, 100), ",") + `]}}`},
		"before-time": {body: `{}`, arrived: "'1960-01-01T00:00:00Z'"},
		"no-time":     {body: `{}`, arrived: "'infinity'"},
		"future":      {body: `{}`, arrived: "'2150-01-01T00:00:00Z'"},
		// The only difference that the views may show: an account's id that is none.
		"odd-account": {body: `{"account":{"id":5}}`, account: "acc-6"},
	}
	for i, at := range []string{
		"2021-03-12T15:46:60Z", "2021-03-12T17:47:17+0200", "2021-03-12T15:47Z", "2021-02-29T15:47:17Z", "9999-12-31T23:59:60-15:59",
		"2021-03-12T15:47:17.234567891Z", "2021-03-12T15:47:17.9999999Z", "2021-03-12T24:00:00Z", "2021-03-12 15:47:17Z", "",
	} {
		list[fmt.Sprint("date-", i)] = seed{body: `{"createdAt":"` + at + `","capabilities":{"extraction":{"data":{"dateOfBirth":"` + at[:min(10, len(at))] + `","expiryDate":"` + at + `"}}}}`}
	}
	for i := range 230 {
		list[fmt.Sprintf("bulk-%03d", i)] = seed{body: fmt.Sprintf(`{"account":{"id":"acc-%d"},"capabilities":{"liveness":[{"decision":{"type":"PASSED"}}]}}`, i), account: fmt.Sprint("acc-", i)}
	}
	return list
}

// fillPrevious fills a database of the previous version as that does.
func fillPrevious(t *testing.T, s *storetest.Store) {
	t.Helper()
	orNull := func(text string) string {
		if text == "" {
			return "NULL"
		}
		return "'" + text + "'"
	}
	for id, d := range seeds() {
		times := "now(), now(), now()"
		if d.arrived != "" {
			times = d.arrived + ", NULL, NULL"
		}
		storetest.Query(t, s, `INSERT INTO callbackd.workflow_executions (workflow_execution_id, account_id, user_reference, definition_key, status,
				callback_count, retrieval_state, retrieval_generation, last_callback_at, retrieved_at, details_retrieved_at)
			VALUES ($1, `+orNull(d.account)+`, `+orNull(d.reference)+`, `+orNull(d.definition)+`, 'PROCESSED', 1, 'retrieved', 1, `+times+`)`, id)
		var details *string
		switch d.details {
		case "":
			details = &d.body
		case "NULL":
		default:
			details = &d.details
		}
		storetest.Query(t, s, `INSERT INTO callbackd.workflow_details (workflow_execution_id, generation, details, body) VALUES ($1, 1, $2::text::jsonb, $3)`, id, details, []byte(d.body))
	}
	for _, sql := range []string{
		`INSERT INTO callbackd.workflow_executions (workflow_execution_id, user_reference, retrieval_state) VALUES ('without', 'max', 'awaiting'), ('nothing', NULL, 'not_required')`,
		`INSERT INTO callbackd.images (image_id, workflow_execution_id, account_id, credential_id, category, classifier, content_type, size_bytes, sha256, width, height,
			retrieved_at, generation, published, data)
			SELECT ('0190' || substr(replace(gen_random_uuid()::text, '-', ''), 5))::uuid, 'ordinary', 'acc-1', 'c1', 'ID', c, 'image/png', 3, sha256('abc'), 8, NULL, now(), 1, c <> 'STAGED', 'abc'
			FROM unnest(ARRAY['FRONT', 'BACK', 'STAGED']) AS c`,
		`SELECT callbackd.add_events('{callback_received,retrieved,retrieval_failed,expired}', '{ordinary,ordinary,without,nothing}')`,
		`INSERT INTO callbackd.rejected_callbacks (rejected_id, received_at, source_ip, reason, content_type, body, replayed_at)
			VALUES (gen_random_uuid(), now(), '192.0.2.1', 'malformed', 'text/plain', 'x', NULL), ('ffffffff-ffff-ffff-ffff-fffffffffffe', now(), NULL, 'r', '', '', now())`,
		`INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, body)
			VALUES (gen_random_uuid(), now(), 'application/json', 'ordinary', '{}'), ('ffffffff-ffff-ffff-ffff-ffffffffffff', now(), '', 'without', '\x00ff')`,
	} {
		storetest.Query(t, s, sql)
	}
}

// answers are what the views tell, in the columns of the previous version: for each view
// its rows, in any order.
type answers map[string][]string

// columnsOf returns the columns of the views.
func columnsOf(t *testing.T, s *storetest.Store) map[string]string {
	t.Helper()
	columns := map[string]string{}
	for _, row := range storetest.Query(t, s, `SELECT table_name::text, string_agg(
			CASE WHEN column_name = 'account_id' AND table_name = 'workflow_executions'
				THEN 'CASE WHEN workflow_execution_id <> ''odd-account'' THEN account_id END' ELSE column_name::text END, ', ' ORDER BY ordinal_position)
		FROM information_schema.columns WHERE table_schema = 'jumio' GROUP BY 1`) {
		columns[row[0].(string)] = row[1].(string)
	}
	if len(columns) != 7 {
		t.Fatalf("the views are %v", columns)
	}
	return columns
}

// read returns the views' answers. Events of the types that the previous version does not
// know are left out.
func read(t *testing.T, s *storetest.Store, columns map[string]string) answers {
	t.Helper()
	a := answers{}
	for view, list := range columns {
		where := ""
		if view == "events" {
			where = ` WHERE type <> 'details_retrieved'`
		}
		for _, row := range storetest.Query(t, s, `SELECT left(r, 600) || md5(r) FROM (SELECT ROW(`+list+`)::text AS r FROM jumio.`+view+where+` OFFSET 0) AS v ORDER BY 1`) {
			a[view] = append(a[view], row[0].(string))
		}
	}
	return a
}

func (a answers) check(t *testing.T, step string, got answers) {
	t.Helper()
	for _, view := range slices.Sorted(maps.Keys(a)) {
		if d := cmp.Diff(a[view], got[view]); d != "" {
			t.Errorf("%s: jumio.%s (-want +got):\n%.4000s", step, view, d)
		}
	}
}

func up(t *testing.T, o store.MigratorOptions) error {
	t.Helper()
	m, err := store.NewMigrator(t.Context(), o)
	if err != nil {
		t.Fatalf("prepare the migrations: %v", err)
	}
	defer m.Close()
	return m.Up(t.Context())
}

// previous creates a database of the previous version with data, and returns its views'
// answers, too.
func previous(t *testing.T) (dsn string, s *storetest.Store, columns map[string]string, want answers) {
	t.Helper()
	dsn = storetest.NewDatabase(t)
	if err := up(t, store.MigratorOptions{DSN: dsn, Files: filesUpTo(t, previousVersion)}); err != nil {
		t.Fatalf("up to %d: %v", previousVersion, err)
	}
	s = storetest.Open(t, dsn)
	fillPrevious(t, s)
	columns = columnsOf(t, s)
	return dsn, s, columns, read(t, s, columns)
}

const (
	unread = `SELECT count(*) FROM callbackd.workflow_details`
	moved  = `SELECT count(*) FROM callbackd.details`
)

func TestMoveDetails(t *testing.T) {
	t.Parallel()
	dsn, s, columns, want := previous(t)
	all := storetest.Scalar[int](t, s, unread)
	if got := storetest.Scalar[string](t, s, `SELECT account_id FROM jumio.workflow_executions WHERE workflow_execution_id = 'odd-account'`); got != "5" {
		t.Errorf("before, an odd account is %q", got)
	}

	// The first mover is interrupted after its first batch.
	ctx, interrupt := context.WithCancel(t.Context())
	mover := results.Mover(dsn, "key", zap.NewNop(), func(p results.Progress) {
		if p.Total != int64(all) || p.Done == 0 || p.Done >= p.Total {
			t.Errorf("progress %+v of %d", p, all)
		}
		interrupt()
	})
	err := up(t, store.MigratorOptions{DSN: dsn, MoveDetails: func(context.Context) error {
		want.check(t, "right after migration 14", read(t, s, columns))
		return mover(ctx)
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupted move: %v", err)
	}
	if version, _, err := s.SchemaVersion(t.Context()); err != nil || version != store.MovedVersion-1 {
		t.Errorf("the schema's version is %d, %v", version, err)
	}
	if left, done := storetest.Scalar[int](t, s, unread), storetest.Scalar[int](t, s, moved); left == 0 || done == 0 || left+done != all {
		t.Errorf("of %d, %d are moved and %d are left", all, done, left)
	}
	want.check(t, "in the middle", read(t, s, columns))

	var last results.Progress
	mover = results.Mover(dsn, "key", zap.NewNop(), func(p results.Progress) { last = p })
	if err := up(t, store.MigratorOptions{DSN: dsn, MoveDetails: mover}); err != nil {
		t.Fatalf("up: %v", err)
	}
	if last.Failed != 0 || last.Done != last.Total || last.Unreadable["createdAt"] == 0 {
		t.Errorf("at last %+v", last)
	}
	if left, done := storetest.Scalar[int](t, s, unread), storetest.Scalar[int](t, s, moved); left != 0 || done != all {
		t.Errorf("of %d, %d are moved and %d are left", all, done, left)
	}
	want.check(t, "after all", read(t, s, columns))

	got := storetest.Query(t, s, `SELECT workflow_execution_id, account_id, user_reference_unsigned, stage, decision_type, decision_source, reason_capability, document_number, image_count
		FROM jumio.verifications WHERE workflow_execution_id IN ('contradicts', 'odd-account', 'ordinary', 'without') ORDER BY 1`)
	if d := cmp.Diff([][]any{
		{"contradicts", "acc-1", "jane", "decided", "PASSED", "jumio", "usability", "P123", int32(0)},
		{"odd-account", "acc-6", nil, "decided", nil, nil, nil, nil, int32(0)},
		{"ordinary", "acc-1", "jane", "decided", "PASSED", "jumio", "usability", "P123", int32(2)},
		{"without", nil, "max", "created", nil, nil, nil, nil, int32(0)},
	}, got); d != "" {
		t.Errorf("verifications (-want +got):\n%s", d)
	}
	// Nothing is before 1970 or in the future, so that it keeps no partition open.
	ensure(t, s, time.Now())
	for _, table := range []string{"details", "credentials", "capabilities"} {
		if d := cmp.Diff(layout(time.Now(), 2, 5), partitionsOf(t, s, table)); d != "" {
			t.Errorf("partitions of %s (-want +got):\n%s", table, d)
		}
	}
	want.check(t, "with partitions", withoutIDs(read(t, s, columns), want))
}

// withoutIDs undoes, in callbacks and rejected callbacks, that stray ids were pulled back.
func withoutIDs(got, want answers) answers {
	id := regexp.MustCompile(`^\([0-9a-f-]{36}|[0-9a-f]{32}$`)
	for _, view := range []string{"callbacks", "rejected_callbacks"} {
		for _, a := range []answers{got, want} {
			for i := range a[view] {
				a[view][i] = id.ReplaceAllString(a[view][i], "")
			}
			slices.Sort(a[view])
		}
	}
	return got
}

// The statements with which the previous version ends an attempt that got details.
const (
	previousClaim = `
	WITH claimed AS (
		UPDATE callbackd.workflow_executions
		SET lease_token = $3, lease_job_id = NULL, lease_until = clock_timestamp() + $4::interval,
			retrieval_attempts = retrieval_attempts + 1
		WHERE workflow_execution_id = $1 AND retrieval_generation = $2 AND retrieval_state = 'pending'
			AND (lease_until IS NULL OR lease_until < clock_timestamp())
		RETURNING *
	), stale AS (
		DELETE FROM callbackd.images AS i USING claimed AS c
		WHERE i.workflow_execution_id = c.workflow_execution_id AND NOT i.published AND i.generation <> $2
	)
	SELECT c.account_id, d.body, i.credentials, i.classifiers
	FROM claimed AS c
	LEFT JOIN callbackd.workflow_details AS d ON d.workflow_execution_id = c.workflow_execution_id AND d.generation = $2
	LEFT JOIN LATERAL (
		SELECT array_agg(credential_id) AS credentials, array_agg(classifier) AS classifiers
		FROM callbackd.images WHERE workflow_execution_id = c.workflow_execution_id AND generation = $2
	) AS i ON true`
	previousStage = `INSERT INTO callbackd.images (credential_id, classifier, account_id, category, content_type, width, height, image_id,
		workflow_execution_id, size_bytes, sha256, retrieved_at, generation, published, data)
		VALUES ('c1', $3, 'a', 'ID', 'image/jpeg', 8, 5, $4, $1, 3, sha256($5), now(), $2, false, $5)`
	previousFinish = `
	UPDATE callbackd.workflow_executions AS w SET
		retrieval_state = $4, result_state = CASE WHEN $4 = 'pending' THEN result_state END,
		retrieval_error = nullif($5, ''), status = coalesce(nullif($6, ''), status), retrieval_attempts = $7,
		retrieval_asks_status = retrieval_asks_status AND $6 <> 'PROCESSED',
		lease_token = NULL, lease_until = NULL,
		retrieved_at = CASE WHEN $8 THEN clock_timestamp() ELSE retrieved_at END,
		details_retrieved_at = CASE WHEN $9 THEN coalesce(details_retrieved_at, clock_timestamp()) ELSE details_retrieved_at END,
		account_id = coalesce($10, account_id), definition_key = coalesce($11, definition_key),
		user_reference = coalesce($12, user_reference), data_center = coalesce($13, data_center)
	WHERE workflow_execution_id = $1 AND retrieval_generation = $2 AND lease_token = $3 AND lease_job_id IS NULL
		AND retrieval_state = 'pending'`
	previousDetails = `
	INSERT INTO callbackd.workflow_details (workflow_execution_id, generation, details, body)
	VALUES ($1, $2, $3::text::jsonb, $4)
	ON CONFLICT (workflow_execution_id) DO UPDATE
	SET generation = excluded.generation, details = excluded.details, body = excluded.body
	WHERE workflow_details.generation <= excluded.generation`
	previousUpdateImages = `
		UPDATE callbackd.images AS p SET
			generation = s.generation, account_id = s.account_id, category = s.category, content_type = s.content_type,
			size_bytes = s.size_bytes, sha256 = s.sha256, width = s.width, height = s.height,
			retrieved_at = CASE WHEN p.sha256 = s.sha256 THEN p.retrieved_at ELSE s.retrieved_at END,
			data = CASE WHEN p.sha256 = s.sha256 THEN p.data ELSE s.data END
		FROM callbackd.images AS s
		WHERE p.workflow_execution_id = $1 AND p.published AND s.workflow_execution_id = $1 AND NOT s.published
			AND s.credential_id = p.credential_id AND s.classifier = p.classifier`
	previousDeleteImages = `
		DELETE FROM callbackd.images AS s USING callbackd.images AS p
		WHERE p.workflow_execution_id = $1 AND p.published AND s.workflow_execution_id = $1 AND NOT s.published
			AND s.credential_id = p.credential_id AND s.classifier = p.classifier`
	previousPublish = `UPDATE callbackd.images SET published = true WHERE workflow_execution_id = $1 AND NOT published`
)

// previousAttempt is an attempt of a worker of the previous version: it stages an image
// and ends in state, with details unless they are empty.
func previousAttempt(t *testing.T, s *storetest.Store, id string, generation int, state workflow.RetrievalState, details, classifier string) {
	t.Helper()
	token := uuid.New()
	if n := len(storetest.Query(t, s, previousClaim, id, generation, token, time.Minute)); n != 1 {
		t.Fatalf("the previous version claims %d rows", n)
	}
	storetest.Query(t, s, previousStage, id, generation, classifier, uuid.Must(uuid.NewV7()), []byte("new"))
	err := pgx.BeginFunc(t.Context(), s.Pool(), func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(previousFinish, id, generation, token, string(state), "", "", 1, state == workflow.Retrieved, true, "acc-new", nil, nil, nil)
		batch.Queue(`SELECT FROM callbackd.images WHERE workflow_execution_id = $1 AND generation = $2`, id, generation)
		if details != "" {
			batch.Queue(previousDetails, id, generation, details, []byte(details))
		}
		for _, sql := range []string{previousUpdateImages, previousDeleteImages, previousPublish} {
			batch.Queue(sql, id)
		}
		if err := tx.SendBatch(t.Context(), batch).Close(); err != nil {
			return err
		}
		_, err := tx.Exec(t.Context(), `SELECT callbackd.add_events($1, $2)`, []string{"retrieved"}, []string{id})
		return err
	})
	if err != nil {
		t.Fatalf("the previous version finishes an attempt: %v", err)
	}
}

const typedRows = `SELECT (SELECT count(*) FROM callbackd.details WHERE workflow_execution_id = $1)
	+ (SELECT count(*) FROM callbackd.extracted_documents WHERE workflow_execution_id = $1)
	+ (SELECT count(*) FROM callbackd.capabilities) + (SELECT count(*) FROM callbackd.credentials)`

// A worker of the previous version goes on while instances are replaced.
func TestPreviousVersionStoresDetails(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	const first = `{"account":{"id":"acc-old"},"workflow":{"customerInternalReference":"old"},"decision":{"type":"REJECTED"},"credentials":[{"id":"c1"}],
		"createdAt":"2020-01-01T00:00:00Z","capabilities":{"usability":[{"decision":{"type":"REJECTED"}}],"extraction":[{"data":{"documentNumber":"OLD"}},{"data":{"documentNumber":"OLD2"}}]}}`
	const second = `{"account":{"id":"acc-new"},"workflow":{"customerInternalReference":"new"},"createdAt":"2021-01-01T00:00:00Z","credentials":[{"id":"c1"}],
		"capabilities":{"liveness":[{"decision":{"type":"PASSED"}}],"extraction":[{"data":{"documentNumber":"NEW"}}]}}`
	l := storetest.Claim(t, s, "w")
	storetest.Stage(t, s, l, "FRONT", "front")
	storetest.Finish(t, s, l, storetest.Outcome(workflow.Retrieved, first))
	if n := storetest.Scalar[int](t, s, typedRows, "w"); n != 7 {
		t.Fatalf("%d typed rows, want 7", n)
	}
	l = storetest.Claimable(t, s, "w")
	previousAttempt(t, s, "w", l.Generation, workflow.Pending, second, "FRONT")

	check := func(step string, images int) {
		t.Helper()
		for sql, want := range map[string][][]any{
			`SELECT account_id, customer_internal_reference, created_at::date::text, details -> 'account' ->> 'id' FROM jumio.workflow_executions`: {{"acc-new", "new", "2021-01-01", "acc-new"}},
			`SELECT capability, decision_type, data -> 'decision' ->> 'type' FROM jumio.capabilities ORDER BY 1`:                                   {{"extraction", nil, nil}, {"liveness", "PASSED", "PASSED"}},
			`SELECT position, document_number, data ->> 'documentNumber' FROM jumio.extracted_documents`:                                           {{int32(1), "NEW", "NEW"}},
			`SELECT image_count::int, (SELECT count(*)::int FROM jumio.images) FROM jumio.verifications`:                                           {{int32(images), int32(images)}},
		} {
			if d := cmp.Diff(want, storetest.Query(t, s, sql)); d != "" {
				t.Errorf("%s: %s (-want +got):\n%s", step, sql, d)
			}
		}
	}
	check("stored by the previous version", 2)
	if n := storetest.Scalar[int](t, s, typedRows, "w"); n != 0 {
		t.Errorf("%d typed rows of the earlier details are left", n)
	}
	got := storetest.Query(t, s, `SELECT stage, decision_type, reason_capability, document_number FROM jumio.verifications`)
	if d := cmp.Diff([][]any{{"in_review", nil, nil, nil}}, got); d != "" {
		t.Errorf("verifications (-want +got):\n%s", d)
	}
	got = storetest.Query(t, s, `SELECT type, account_id, retrieval_state, changed FROM jumio.events ORDER BY event_id DESC LIMIT 1`)
	if d := cmp.Diff([][]any{{"retrieved", "acc-new", "pending", true}}, got); d != "" {
		t.Errorf("its event (-want +got):\n%s", d)
	}

	for range 2 {
		if err := s.MoveDetails(t.Context(), "", nil); err != nil {
			t.Fatal(err)
		}
		check("moved", 2)
		if n := storetest.Scalar[int](t, s, typedRows, "w"); n != 5 {
			t.Errorf("%d typed rows, want 5", n)
		}
	}
	// Its next attempt adds an image, and no details.
	previousAttempt(t, s, "w", l.Generation, workflow.Retrieved, "", "BACK")
	check("retrieved by the previous version", 3)
	got = storetest.Query(t, s, `SELECT stage, decision_type, document_number FROM jumio.verifications`)
	if d := cmp.Diff([][]any{{"decided", "PASSED", "NEW"}}, got); d != "" {
		t.Errorf("verifications (-want +got):\n%s", d)
	}
}

// Details that the previous version has stored are moved while a worker of this version
// retrieves others.
func TestDetailsMovedDuringAnAttempt(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*storetest.Store, *results.Lease, results.Outcome) error{
		"finished": func(s *storetest.Store, l *results.Lease, o results.Outcome) error {
			return s.FinishAttempt(t.Context(), l, o, storetest.Complete)
		},
		"released": func(s *storetest.Store, l *results.Lease, o results.Outcome) error {
			return s.ReleaseRetrieval(t.Context(), l, o.Read, o.Identity)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := storetest.New(t)
			storetest.Query(t, s, `INSERT INTO callbackd.workflow_executions (workflow_execution_id) VALUES ('w')`)
			const same = `{"capabilities":{"extraction":[{"data":{"documentNumber":"SAME"}}]}}`
			storetest.Query(t, s, previousDetails, "w", 1, same, []byte(same))
			l := storetest.Claim(t, s, "w")
			if err := s.MoveDetails(t.Context(), "", nil); err != nil {
				t.Fatal(err)
			}
			if err := end(s, l, storetest.Outcome(workflow.Retrieved, same)); err != nil {
				t.Fatal(err)
			}
			got := storetest.Query(t, s, `SELECT (SELECT count(*) FROM callbackd.details), (SELECT count(*) FROM callbackd.workflow_details),
				(SELECT count(*) FROM jumio.extracted_documents), (SELECT changed FROM jumio.events WHERE type = 'details_retrieved')`)
			if d := cmp.Diff([][]any{{int64(1), int64(0), int64(1), false}}, got); d != "" {
				t.Errorf("details, unread ones, documents, changed (-want +got):\n%s", d)
			}
		})
	}
}

// Down to the previous version, step by step, with data of this one, and up again.
func TestDownKeepsAnswers(t *testing.T) {
	t.Parallel()
	dsn, s, columns, _ := previous(t)
	mover := results.Mover(dsn, "key", zap.NewNop(), nil)
	if err := up(t, store.MigratorOptions{DSN: dsn, MoveDetails: mover}); err != nil {
		t.Fatalf("up: %v", err)
	}
	now := time.Now()
	ensure(t, s, now)
	var list []uuid.UUID
	for m := range 7 {
		list = append(list, idAt(monthOf(now, m), 1), idAt(monthOf(now, m), 2))
	}
	for _, table := range []string{"callbacks", "rejected_callbacks", "events"} {
		storetest.Query(t, s, insertIDs[table], list)
	}
	storetest.Query(t, s, `SELECT setval('callbackd.event_ids', (SELECT max(event_id) FROM callbackd.events))`)
	l := storetest.Claim(t, s, "ordinary")
	storetest.Stage(t, s, l, "FRONT", "new")
	o := storetest.Outcome(workflow.Retrieved, `{"account":{"id":"acc-9"},"createdAt":"2021-03-12T15:47:17Z","capabilities":{"extraction":[{"data":{"documentNumber":"NEW"}}]}}`)
	o.Event = workflow.EventRetrieved
	storetest.Finish(t, s, l, o)
	// Two runs have staged the same part, in two partitions; one for what is deleted.
	l = storetest.Claim(t, s, "bulk-001")
	storetest.Stage(t, s, l, "FRONT", "staged")
	storetest.Query(t, s, `INSERT INTO callbackd.images SELECT (jsonb_populate_record(i, jsonb_build_object('image_id', n.id, 'workflow_execution_id', n.w))).*
		FROM callbackd.images AS i, (VALUES ($1::uuid, 'bulk-001'), ($2::uuid, 'deleted')) AS n (id, w) WHERE i.workflow_execution_id = 'bulk-001'`,
		idAt(monthOf(now, 3), 1), idAt(monthOf(now, 3), 2))
	want := read(t, s, columns)
	if n := storetest.Scalar[int](t, s, `SELECT count(DISTINCT tableoid) FROM callbackd.callbacks`); n < 4 {
		t.Fatalf("the callbacks are in %d partitions", n)
	}

	m, err := store.NewMigrator(t.Context(), store.MigratorOptions{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for version := store.RequiredVersion - 1; version >= previousVersion; version-- {
		if err := m.Down(t.Context(), 1); err != nil {
			t.Fatalf("down to %d: %v", version, err)
		}
		want.check(t, fmt.Sprint("down to ", version), read(t, s, columns))
	}
	if d := cmp.Diff(columns, columnsOf(t, s)); d != "" {
		t.Errorf("the views' columns (-want +got):\n%s", d)
	}
	storetest.Query(t, s, `SELECT callbackd.add_events('{expired}', '{ordinary}')`)
	if !storetest.Scalar[bool](t, s, `SELECT (SELECT type = 'expired' AND workflow_execution_id = 'ordinary' FROM callbackd.events ORDER BY event_id DESC LIMIT 1)`) {
		t.Error("an event of the previous version does not get the greatest id")
	}
	storetest.Insert(t, s, storetest.Callback("w"))
	want = read(t, s, columns)
	m.Close()

	if err := up(t, store.MigratorOptions{DSN: dsn, MoveDetails: mover}); err != nil {
		t.Fatalf("up again: %v", err)
	}
	want.check(t, "up again", read(t, s, columns))
	ensure(t, s, now)
	if n := storetest.Scalar[int](t, s, unread); n != 0 {
		t.Errorf("%d details are unread", n)
	}
}

// What an interrupted change of the partitions has left does not outlive them.
func TestDownBetweenTheSteps(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	now := time.Now()
	for _, table := range results.PartitionedTables() {
		storetest.Query(t, s, `CREATE TABLE callbackd.`+table+monthOf(now, 2).Format("_200601")+` ()`)
	}
	if err := s.EnsurePartitions(t.Context(), now); err == nil {
		t.Error("no error although tables are in the way")
	}
	const left = `SELECT (SELECT count(*) FROM pg_constraint WHERE conname = 'range_check') + (SELECT count(*) FROM pg_proc WHERE proname LIKE 'pull_back%')
		+ (SELECT count(*) FROM pg_trigger WHERE tgname = 'pull_back')`
	if n := storetest.Scalar[int](t, s, left); n != 11 {
		t.Fatalf("%d things are left between the steps, want 11", n)
	}
	m, err := store.NewMigrator(t.Context(), store.MigratorOptions{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Down(t.Context(), store.RequiredVersion-previousVersion); err != nil {
		t.Fatal(err)
	}
	if n := storetest.Scalar[int](t, s, left); n != 0 {
		t.Errorf("%d things are left in the end", n)
	}
	storetest.Query(t, s, `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, body) VALUES ($1, now(), '', 'w', '')`, idAt(now.AddDate(1, 0, 0), 1))
}
