package results_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/callback"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
	"callbackd/internal/store/storetest"
	"callbackd/internal/workflow"
)

// monthOf returns the first instant of the month that is some months after now's.
func monthOf(now time.Time, after int) time.Time {
	return time.Date(now.UTC().Year(), now.UTC().Month()+time.Month(after), 1, 0, 0, 0, 0, time.UTC)
}

// idAt returns an id of a time, with the lowest bits of n.
func idAt(at time.Time, n int) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:], uint64(at.UnixMilli())<<16)
	binary.BigEndian.PutUint64(id[8:], uint64(n))
	return id
}

var bounds = regexp.MustCompile(`^FROM \('?([^')]+)'?\) TO \('?([^')]+)'?\)$`)

// partitionsOf returns a table's partitions, each as its name after the table's and its
// bounds, in their order.
func partitionsOf(t *testing.T, s *storetest.Store, table string) []string {
	t.Helper()
	var list []string
	for _, row := range storetest.Query(t, s, `
		SELECT substr(c.relname, length($1) + 2), substr(pg_get_expr(c.relpartbound, c.oid), length('FOR VALUES ') + 1)
		FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid WHERE i.inhparent = ('callbackd.' || $1)::regclass`, table) {
		b := bounds.FindStringSubmatch(row[1].(string))
		if b == nil {
			t.Fatalf("bounds of a partition of %s: %v", table, row)
		}
		list = append(list, fmt.Sprintf("%s..%s %s", boundTime(t, b[1]), boundTime(t, b[2]), row[0]))
	}
	slices.Sort(list)
	return list
}

// boundTime returns the time of a bound, which must be the first id of a month.
func boundTime(t *testing.T, bound string) string {
	t.Helper()
	var at time.Time
	id, err := uuid.Parse(bound)
	us, notInt := strconv.ParseInt(bound, 10, 64)
	switch {
	case bound == "MINVALUE":
		return " MIN"
	case bound == "MAXVALUE":
		return "MAX"
	case notInt == nil:
		at = time.UnixMicro(us).UTC()
	case err == nil && id == idAt(time.UnixMilli(int64(binary.BigEndian.Uint64(id[:])>>16)), 0):
		at = time.UnixMilli(int64(binary.BigEndian.Uint64(id[:]) >> 16)).UTC()
	}
	if !at.Equal(monthOf(at, 0)) {
		t.Errorf("the bound %s is not the first id of a month", bound)
	}
	return at.Format("2006-01")
}

// layout returns what partitionsOf should: first until the first month, then a partition
// for each of the months until the last, then "later". Months count from now's.
func layout(now time.Time, firstMonth, lastMonth int) []string {
	at := func(after int) string { return monthOf(now, after).Format("2006-01") }
	list := []string{" MIN.." + at(firstMonth) + " 1"}
	for m := firstMonth; m < lastMonth; m++ {
		list = append(list, at(m)+".."+at(m+1)+" "+monthOf(now, m).Format("200601"))
	}
	return append(list, at(lastMonth)+"..MAX later")
}

func ensure(t *testing.T, s *storetest.Store, now time.Time) {
	t.Helper()
	if err := s.EnsurePartitions(t.Context(), now); err != nil {
		t.Fatalf("make partitions for %s: %v", now.Format("2006-01"), err)
	}
}

func wantLayout(t *testing.T, s *storetest.Store, step string, want []string) {
	t.Helper()
	for _, table := range results.PartitionedTables() {
		if d := cmp.Diff(want, partitionsOf(t, s, table)); d != "" {
			t.Errorf("%s: partitions of %s (-want +got):\n%s", step, table, d)
		}
	}
}

func wantAhead(t *testing.T, s *storetest.Store, now time.Time, want int) {
	t.Helper()
	ahead, err := s.PartitionsAhead(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range results.PartitionedTables() {
		if got, ok := ahead[table]; !ok || got != want {
			t.Errorf("%d months ahead in %s, want %d", got, table, want)
		}
	}
	if len(ahead) != len(results.PartitionedTables()) {
		t.Errorf("months ahead of %v", ahead)
	}
}

func TestPartitionsOfAFreshDatabase(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	// The last microsecond of a month, and of a year in UTC, in another zone.
	now := time.Date(2031, 12, 31, 23, 59, 59, 999999000, time.UTC).In(time.FixedZone("", 14*3600))
	want := []string{"callbacks", "rejected_callbacks", "events", "images", "details", "credentials", "capabilities"}
	if d := cmp.Diff(want, results.PartitionedTables()); d != "" {
		t.Errorf("tables (-want +got):\n%s", d)
	}
	wantLayout(t, s, "migrated", []string{" MIN..MAX 1"})
	wantAhead(t, s, now, 0)
	for range 2 {
		ensure(t, s, now)
		wantLayout(t, s, "made", layout(now, 2, 5))
		wantAhead(t, s, now, 4)
	}
	later := now.Add(time.Microsecond)
	wantAhead(t, s, later, 3)
	ensure(t, s, later)
	wantLayout(t, s, "a month later", layout(now, 2, 6))
	ensure(t, s, now) // a clock that is behind
	wantLayout(t, s, "an earlier month", layout(now, 2, 6))
	wantAhead(t, s, later, 4)
	if n := storetest.Scalar[int](t, s, `SELECT count(*) FROM pg_constraint WHERE conname = 'range_check'`) +
		storetest.Scalar[int](t, s, `SELECT count(*) FROM pg_proc WHERE proname LIKE 'pull_back%'`); n != 0 {
		t.Errorf("%d things are left over", n)
	}
}

// insertIDs are statements that insert rows with the ids $1 into the partitioned tables.
var insertIDs = map[string]string{
	"callbacks": `INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, body)
		SELECT id, now(), '', 'w', 'body' FROM unnest($1::uuid[]) AS n (id)`,
	"rejected_callbacks": `INSERT INTO callbackd.rejected_callbacks (rejected_id, received_at, reason, content_type, body, workflow_execution_id, user_reference)
		SELECT id, now(), 'r', '', 'body', 'w', 'u' FROM unnest($1::uuid[]) AS n (id)`,
	"events": `INSERT INTO callbackd.events (event_id, occurred_at, type, workflow_execution_id, changed)
		SELECT ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint * 1000 + ('x' || right(id::text, 2))::bit(8)::int, now(), 'retrieved', 'w', true
		FROM unnest($1::uuid[]) AS n (id) ON CONFLICT DO NOTHING`,
	"images": `INSERT INTO callbackd.images (image_id, workflow_execution_id, account_id, credential_id, category, classifier, content_type, size_bytes,
			sha256, retrieved_at, generation, published, data)
		SELECT id, 'w', 'a', id::text, 'ID', 'FRONT', 'image/png', 1, 'h', now(), 1, true, 'd' FROM unnest($1::uuid[]) AS n (id)`,
	"details": `INSERT INTO callbackd.details (details_id, workflow_execution_id, generation, details, body)
		SELECT id, 'w', 1, '{}', '{}' FROM unnest($1::uuid[]) AS n (id)`,
	"credentials": `INSERT INTO callbackd.credentials (details_id, position, credential_id, classifiers)
		SELECT id, 1, 'c', '{FRONT}' FROM unnest($1::uuid[]) AS n (id)`,
	"capabilities": `INSERT INTO callbackd.capabilities (details_id, capability, position, credential_ids, credential_categories)
		SELECT id, 'usability', 1, '{c}', '{ID}' FROM unnest($1::uuid[]) AS n (id)`,
}

// rowsOf returns all that is in the partitioned tables, and the inbox.
func rowsOf(t *testing.T, s *storetest.Store) map[string]string {
	t.Helper()
	rows := map[string]string{}
	for _, table := range append(results.PartitionedTables(), "inbox") {
		rows[table] = storetest.Scalar[string](t, s, `SELECT count(*) || ' ' || coalesce(md5(string_agg(r::text, E'\n' ORDER BY r::text)), '') FROM callbackd.`+table+` AS r`)
	}
	return rows
}

// No worker has run for months. What has come meanwhile is in "later"; few rows are moved
// to their months, many stay together.
func TestPartitionsAfterALongPause(t *testing.T) {
	t.Parallel()
	now := time.Date(2031, 1, 15, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		rows  int // in each month from the 5th on
		pause int
		want  []string
	}{
		"three months, nothing to move": {0, 3, layout(now, 2, 8)},
		"few rows":                      {3, 8, layout(now, 2, 13)},
		"many rows": {2000, 8, append(append(layout(now, 2, 5)[:4], "2031-06..2031-11 203106"),
			"2031-11..2031-12 203111", "2031-12..2032-01 203112", "2032-01..2032-02 203201", "2032-02..MAX later")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := storetest.New(t)
			ensure(t, s, now)
			for m := range tc.pause + 1 {
				var list []uuid.UUID
				for i := range tc.rows {
					at := monthOf(now, m)
					if i%2 == 1 {
						at = monthOf(now, m+1).Add(-time.Millisecond)
					}
					list = append(list, idAt(at.Add(time.Duration(i/2)*time.Millisecond*time.Duration(1-2*(i%2))), i))
				}
				for _, table := range results.PartitionedTables() {
					storetest.Query(t, s, insertIDs[table], list)
				}
			}
			before := rowsOf(t, s)
			if want := fmt.Sprint(tc.rows*(tc.pause+1), " "); !strings.HasPrefix(before["callbacks"], want) || !strings.HasPrefix(before["inbox"], want) {
				t.Fatalf("inserted %v", before)
			}
			then := monthOf(now, tc.pause).Add(20 * 24 * time.Hour)
			for range 2 {
				ensure(t, s, then)
				wantLayout(t, s, name, tc.want)
				wantAhead(t, s, then, 4)
				if d := cmp.Diff(before, rowsOf(t, s)); d != "" {
					t.Errorf("rows (-before +after):\n%s", d)
				}
			}
			wantSamePartitions(t, s)
			storetest.Query(t, s, insertIDs["callbacks"], []uuid.UUID{idAt(then, 1<<20)})
			if n := storetest.Scalar[int](t, s, `SELECT (SELECT count(*) FROM callbackd.inbox) - $1`, tc.rows*(tc.pause+1)); n != 1 {
				t.Errorf("a callback afterwards is %d times in the inbox", n)
			}
		})
	}
}

// wantSamePartitions checks that every partition has what the first one has, and is the
// owner's alone.
func wantSamePartitions(t *testing.T, s *storetest.Store) {
	t.Helper()
	for _, table := range results.PartitionedTables() {
		properties := map[string]string{}
		for _, row := range storetest.Query(t, s, `
			SELECT c.relname,
				(SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attstorage::text, a.attcompression::text,
					a.attidentity::text, pg_get_expr(d.adbin, d.adrelid)), E'\n' ORDER BY a.attname)
					FROM pg_attribute AS a LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
					WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
				(SELECT string_agg(concat_ws(' ', replace(regexp_replace(pg_get_indexdef(i.indexrelid), ' INDEX \S+ ON ', ' '), c.relname, ''), i.indisvalid,
					i.indisprimary, i.indisunique, EXISTS (SELECT FROM pg_inherits AS h WHERE h.inhrelid = i.indexrelid)), E'\n'
					ORDER BY regexp_replace(pg_get_indexdef(i.indexrelid), '^.* USING ', ''))
					FROM pg_index AS i WHERE i.indrelid = c.oid) AS indexes,
				(SELECT string_agg(pg_get_constraintdef(n.oid), E'\n' ORDER BY pg_get_constraintdef(n.oid)) FROM (
					SELECT n.oid FROM pg_constraint AS n WHERE n.conrelid = c.oid) AS n) AS constraints,
				(SELECT string_agg(g.tgname, ' ') FROM pg_trigger AS g WHERE g.tgrelid = c.oid) AS triggers,
				c.reloptions, c.relpersistence, c.relowner::regrole::text
			FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhrelid WHERE h.inhparent = ('callbackd.' || $1)::regclass`, table) {
			properties[row[0].(string)] = strings.ReplaceAll(fmt.Sprintf("%v", row[1:]), " NOT VALID", "")
		}
		first := properties[table+"_1"]
		if !strings.Contains(first, "PRIMARY KEY") || table == "callbacks" && !strings.Contains(first, "USING brin") ||
			table == "rejected_callbacks" && strings.Count(first, "CHECK") != 5 || table == "images" && !strings.Contains(first, "data bytea e") && !strings.Contains(first, "data bytea f e") {
			t.Errorf("the first partition of %s has\n%s", table, first)
		}
		for name, has := range properties {
			if d := cmp.Diff(first, has); d != "" {
				t.Errorf("%s is not like the first partition (-first +it):\n%s", name, d)
			}
			for _, role := range []string{"callbackd_receiver", "jumio_reader", "jumio_consumer"} {
				if storetest.Scalar[bool](t, s, `SELECT has_table_privilege($1, 'callbackd.' || $2, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
					OR has_any_column_privilege($1, 'callbackd.' || $2, 'SELECT, INSERT, UPDATE, REFERENCES')`, role, name) {
					t.Errorf("%s has a right on %s", role, name)
				}
			}
		}
	}
}

// strays are ids that callbackd makes with a clock far off, or not at all.
func strays(n int) []uuid.UUID {
	now := time.Now()
	return []uuid.UUID{
		idAt(now.AddDate(1, 0, 0), n), idAt(now.AddDate(-1, 0, 0), n), idAt(now.AddDate(0, 2, 0), n), idAt(time.UnixMilli(0), n+1),
		uuid.MustParse(fmt.Sprintf("ffffffff-ffff-ffff-ffff-ffffffffff%02x", n)), // these two differ in what a time replaces
		uuid.MustParse(fmt.Sprintf("fffffffe-ffff-ffff-ffff-ffffffffff%02x", n)),
	}
}

// A receiver stores any id, whatever the partitions are going through; nothing is lost or
// promoted twice.
func TestStrayIDs(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	receiver := storetest.Open(t, storetest.AsMember(t, dsn, "callbackd_receiver"))
	var want []string
	insert := func(step string, n int) {
		t.Helper()
		for i, id := range strays(n) {
			c := storetest.Callback(fmt.Sprintf("%s-%d", step, i))
			c.ID = id
			var err error
			if i%2 == 0 {
				err = receiver.InsertCallback(t.Context(), c)
			} else {
				err = receiver.InsertSpooled(t.Context(), []*callback.Callback{c, c}) // as if the first answer had been lost
			}
			if err != nil {
				t.Errorf("%s: insert a callback with the id %s: %v", step, id, err)
			}
			r := &callback.Rejected{ID: id, ReceivedAt: c.ReceivedAt, Reason: "malformed", Body: []byte(c.WorkflowExecutionID)}
			if err := receiver.InsertRejected(t.Context(), r); err != nil {
				t.Errorf("%s: insert a rejected callback with the id %s: %v", step, id, err)
			}
			want = append(want, c.WorkflowExecutionID)
		}
	}
	check := func(step string) {
		t.Helper()
		for _, sql := range []string{
			`SELECT workflow_execution_id FROM callbackd.callbacks AS c JOIN callbackd.inbox USING (callback_id) ORDER BY 1`,
			`SELECT workflow_execution_id FROM callbackd.callbacks ORDER BY 1`,
			`SELECT convert_from(body, 'UTF8') FROM callbackd.rejected_callbacks ORDER BY 1`,
		} {
			var got []string
			for _, row := range storetest.Query(t, s, sql) {
				got = append(got, row[0].(string))
			}
			if d := cmp.Diff(slices.Sorted(slices.Values(want)), got); d != "" {
				t.Errorf("%s: %s (-want +got):\n%s", step, sql, d)
			}
		}
	}
	insert("before", 1)
	check("before")

	// The last step fails, for there is such a table already.
	now := time.Now()
	next := "_" + monthOf(now, 2).Format("200601")
	for _, table := range results.PartitionedTables() {
		storetest.Query(t, s, `CREATE TABLE callbackd.`+table+next+` ()`)
	}
	if err := s.EnsurePartitions(t.Context(), now); err == nil {
		t.Error("no error although tables are in the way")
	}
	wantLayout(t, s, "between the steps", []string{" MIN..MAX 1"})
	insert("between", 2)
	check("between")
	if err := s.EnsurePartitions(t.Context(), now); err == nil {
		t.Error("no error the second time")
	}
	insert("between-again", 3)
	check("between again")
	for _, table := range results.PartitionedTables() {
		storetest.Query(t, s, `DROP TABLE callbackd.`+table+next)
	}

	ensure(t, s, now)
	wantLayout(t, s, "after", layout(now, 2, 5))
	check("after")
	insert("after", 4)
	check("inserted after")
	if n := storetest.Scalar[int](t, s, `SELECT count(*) FROM callbackd.callbacks_later`); n != 3 { // of the last four times six
		t.Errorf("%d strays are in \"later\", want 3", n)
	}
	wantSamePartitions(t, s)

	var promoted []string
	for range want {
		list, err := promote(t.Context(), s, results.Take{Limit: 5})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range list {
			promoted = append(promoted, d.WorkflowExecutionID)
		}
	}
	slices.Sort(promoted)
	if d := cmp.Diff(slices.Sorted(slices.Values(want)), promoted); d != "" {
		t.Errorf("promoted (-want +got):\n%s", d)
	}
	if n := storetest.Scalar[int](t, s, `SELECT count(*) FROM callbackd.inbox`); n != 0 {
		t.Errorf("%d are left in the inbox", n)
	}
}

// Thousands of rows of "later" that are before their time do not keep the months from
// coming.
func TestManyStrayIDs(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	now := time.Now()
	ensure(t, s, now)
	var list []uuid.UUID
	for i := range 6000 {
		list = append(list, idAt(now.AddDate(2+i%3, 0, 0), i))
	}
	storetest.Query(t, s, insertIDs["callbacks"], list)
	storetest.Query(t, s, insertIDs["images"], list)
	then := monthOf(now, 1)
	ensure(t, s, then)
	wantAhead := func(table string, least int) {
		t.Helper()
		if ahead, err := s.PartitionsAhead(t.Context(), then); err != nil || ahead[table] < least {
			t.Errorf("%d months ahead in %s, %v", ahead[table], table, err)
		}
	}
	wantAhead("callbacks", 4)
	wantAhead("images", 4)
	if n := storetest.Scalar[int](t, s, `SELECT count(*) FROM callbackd.callbacks JOIN callbackd.inbox USING (callback_id)`); n != 6000 {
		t.Errorf("%d of 6000 callbacks are still in the inbox", n)
	}
	if n := storetest.Scalar[int](t, s, `SELECT count(*) FROM callbackd.images WHERE image_id >= $1`, idAt(now.AddDate(1, 0, 0), 0)); n != 6000 {
		t.Errorf("%d of 6000 images kept their ids", n)
	}
}

// A dead letter and its callback keep the same id.
func TestStrayDeadLetter(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	c := storetest.Callback("w")
	c.ID = uuid.MustParse("ffffffff-ffff-ffff-ffff-ffffffffffff")
	storetest.Insert(t, s, c)
	if reason, err := s.DeadLetter(t.Context(), c.ID, &store.SQLError{Code: "22000"}); reason == "" || err != nil {
		t.Fatalf("dead letter: %q, %v", reason, err)
	}
	ensure(t, s, time.Now())
	id := storetest.Scalar[uuid.UUID](t, s, `SELECT rejected_id FROM callbackd.rejected_callbacks`)
	if id == c.ID {
		t.Error("the dead letter was not pulled back")
	}
	if err := s.ReplayDeadLetter(t.Context(), id); err != nil {
		t.Errorf("replay: %v", err)
	}
	if list, err := promote(t.Context(), s, results.Take{Limit: 5}); err != nil || len(list) != 1 || list[0].WorkflowExecutionID != "w" {
		t.Errorf("promoted %v, %v", list, err)
	}
}

// Several instances make the partitions at once.
func TestPartitionsMadeTwice(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	now := time.Now()
	storetest.Insert(t, s, storetest.Callback("w"))
	done := make(chan error)
	for range 3 {
		other := storetest.Open(t, dsn)
		go func() { done <- other.EnsurePartitions(context.Background(), now) }()
	}
	for range 3 {
		// One that waits for a lock for too long says so, and nothing else.
		if err := <-done; err != nil && !errors.Is(err, store.ErrUnavailable) {
			t.Errorf("one of three: %v", err)
		}
	}
	ensure(t, s, now)
	wantLayout(t, s, "made by three", layout(now, 2, 5))
	wantSamePartitions(t, s)
	if n := storetest.Scalar[int](t, s, `SELECT count(*) FROM callbackd.callbacks JOIN callbackd.inbox USING (callback_id)`); n != 1 {
		t.Errorf("%d callbacks, want 1", n)
	}
}

// Who reads for long keeps partitions from being made, and callbacks wait only as long as
// the attempt does.
func TestPartitionsGiveWay(t *testing.T) {
	t.Parallel()
	dsn := storetest.NewMigrated(t)
	s := storetest.Open(t, dsn)
	now := time.Now()
	storetest.Insert(t, s, storetest.Callback("w"))
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	reader, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Exec(t.Context(), `SELECT count(*) FROM jumio.callbacks`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.EnsurePartitions(context.Background(), now) }()
	const waits = `SELECT count(*) FROM pg_locks AS l JOIN pg_database AS d ON d.oid = l.database
		WHERE d.datname = current_database() AND relation = 'callbackd.callbacks'::regclass AND mode = 'AccessExclusiveLock' AND NOT granted`
	storetest.Eventually(t, "the change waits for its lock", func() bool { return storetest.Scalar[int](t, s, waits) > 0 })
	storetest.Insert(t, s, storetest.Callback("w")) // within the store's time-out, while the reader goes on
	if err := <-done; !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("make partitions beside a reader: %v, want ErrUnavailable", err)
	}
	if d := cmp.Diff([]string{" MIN..MAX 1"}, partitionsOf(t, s, "callbacks")); d != "" {
		t.Errorf("beside a reader (-want +got):\n%s", d)
	}
	if d := cmp.Diff(layout(now, 2, 5), partitionsOf(t, s, "rejected_callbacks")); d != "" {
		t.Errorf("another table (-want +got):\n%s", d)
	}
	if err := reader.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	ensure(t, s, now)
	wantLayout(t, s, "without the reader", layout(now, 2, 5))
}

// Events' ids ascend over every partition, also after the clock was ahead.
func TestEventIDsAscend(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	now := time.Now()
	var last int64
	add := func(step string, least, most int64) {
		t.Helper()
		err := s.InTx(t.Context(), "add events", func(tx *results.Tx) error {
			tx.AddEvents(workflow.Event{Type: workflow.EventExpired, WorkflowExecutionID: "a"}, workflow.Event{Type: workflow.EventExpired, WorkflowExecutionID: "b"})
			return nil
		})
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		storetest.Query(t, s, `SELECT callbackd.add_events('{expired,expired}', '{a,b}')`)
		list := storetest.Query(t, s, `SELECT event_id, workflow_execution_id FROM jumio.events WHERE event_id > $1 ORDER BY event_id`, last)
		if len(list) != 4 || list[0][1] != "a" || list[1][1] != "b" || list[2][1] != "a" || list[3][1] != "b" {
			t.Fatalf("%s: the events after %d are %v, want four in their order", step, last, list)
		}
		if first := list[0][0].(int64); first < least || first > most {
			t.Errorf("%s: the first id is %d, want %d to %d", step, first, least, most)
		}
		last = list[3][0].(int64)
	}
	hour := time.Hour.Microseconds()
	add("at first", now.UnixMicro()-hour, now.UnixMicro()+hour)
	ensure(t, s, now)
	add("with partitions", last+1, now.UnixMicro()+hour)
	ahead := monthOf(now, 5).UnixMicro() - 2 // the last one before "later"
	storetest.Query(t, s, `SELECT setval('callbackd.event_ids', $1)`, ahead)
	add("the clock was ahead", ahead+1, ahead+1)
	add("in \"later\"", last+1, last+1)
	ensure(t, s, monthOf(now, 1))
	add("a month later", last+1, last+1)
	ensure(t, s, monthOf(now, 8))
	add("much later", last+1, last+1)
	got := storetest.Query(t, s, `SELECT count(DISTINCT tableoid), count(DISTINCT event_id), count(*) FROM callbackd.events`)
	if d := cmp.Diff([][]any{{int64(3), int64(24), int64(24)}}, got); d != "" {
		t.Errorf("partitions, ids, events (-want +got):\n%s", d)
	}
}
