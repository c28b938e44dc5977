package results

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"callbackd/internal/store"
)

// RetentionRule says for how long the rows of a class are kept after their clock: for
// months of the calendar, then days, then a duration.
type RetentionRule struct {
	// Class is images, biometrics, results, callbacks, rejected or events.
	Class string
	// DefinitionKey is the workflow definition that the rule is for; empty for all that
	// have no rule of their own.
	DefinitionKey string
	Months, Days  int
	Duration      time.Duration
}

// until returns a time after which no clock is due at now.
func (r RetentionRule) until(now time.Time) time.Time {
	at := now.UTC().AddDate(0, -r.Months, -r.Days).Add(-r.Duration)
	if r.Months > 0 { // the last days of a month are due together a shorter month later
		const differ = 3
		at = at.AddDate(0, 0, differ)
	}
	return at
}

// Retention is carried out by rules at a time.
type Retention struct {
	Rules []RetentionRule
	Now   time.Time
}

// args are the first parameters of every statement that is made of due.
func (r Retention) args(more ...any) []any {
	keys, intervals := make([]string, len(r.Rules)), make([]pgtype.Interval, len(r.Rules))
	for i, rule := range r.Rules {
		keys[i] = rule.Class
		if rule.DefinitionKey != "" {
			keys[i] += "@" + rule.DefinitionKey
		}
		intervals[i] = pgtype.Interval{
			Months: int32(rule.Months), Days: int32(rule.Days), Microseconds: rule.Duration.Microseconds(), Valid: true, //nolint:gosec // bounded by internal/config
		}
	}
	return append([]any{keys, intervals}, more...)
}

// of returns the rules of classes.
func (r Retention) of(classes []string) (rules []RetentionRule) {
	for _, rule := range r.Rules {
		if slices.Contains(classes, rule.Class) {
			rules = append(rules, rule)
		}
	}
	return rules
}

// retainedTable is a partitioned table whose rows, t, are of classes. They belong to a
// workflow execution, w, if there is one.
type retainedTable struct {
	partitionedTable
	classes []string
	// with are the tables whose rows go with a row, by the same key.
	with []string
	// class and clock are SQL: a row's class, and what its time counts from. needed is a
	// condition of rows that must stay for now.
	class, clock, needed string
}

// retainedTables are looked through in this order: those with the most to do last.
var retainedTables = []retainedTable{
	{
		partitionedTable: tableNamed("rejected_callbacks"), classes: []string{"rejected"},
		class: `'rejected'`, clock: `t.received_at`, needed: `false`,
	},
	{
		partitionedTable: tableNamed("events"), classes: []string{"events"},
		class: `'events'`, clock: `t.occurred_at`, needed: `t.event_id > (SELECT min(u.last_event_id) FROM callbackd.consumers AS u)`,
	},
	{
		partitionedTable: tableNamed("callbacks"), classes: []string{"callbacks"},
		class: `'callbacks'`, clock: `coalesce(w.last_callback_at, t.received_at)`,
		needed: `EXISTS (SELECT FROM callbackd.inbox AS b WHERE b.callback_id = t.callback_id)`,
	},
	{
		partitionedTable: tableNamed("details"), classes: []string{"results"}, with: []string{"credentials", "capabilities"},
		class: `'results'`, clock: `coalesce(w.retrieved_at, w.details_retrieved_at)`, needed: `false`,
	},
	{
		partitionedTable: tableNamed("images"), classes: []string{"images", "biometrics"},
		class:  `CASE WHEN t.category IN ('SELFIE', 'FACEMAP') THEN 'biometrics' ELSE 'images' END`,
		clock:  `CASE WHEN t.published THEN coalesce(w.retrieved_at, t.retrieved_at) ELSE t.retrieved_at END`,
		needed: `false`,
	},
}

func tableNamed(name string) partitionedTable {
	return partitioned[slices.IndexFunc(partitioned, func(t partitionedTable) bool { return t.name == name })]
}

// due returns a SELECT of rows with their class, when they are due (NULL for never), and
// whether they are free to go. The rows are a table's, or a subquery's. $1 and $2 are the
// rules' classes, with their definitions, and intervals.
//
// Spared are, in spared, what is held and what belongs to an account whose relationship
// lasts; in busy, what is being retrieved, and what is still needed.
func (t retainedTable) due(rows string) string {
	return fmt.Sprintf(`
		SELECT t.%[1]s AS id, t.workflow_execution_id, c.class, w.definition_key, c.clock,
			(c.clock AT TIME ZONE 'UTC' + ($2::interval[])[coalesce(array_position($1::text[], c.class || '@' || w.definition_key),
				array_position($1::text[], c.class))]) AT TIME ZONE 'UTC' AS due_at,
			r.account_id IS NOT NULL AND r.ended_at IS NULL
				OR EXISTS (SELECT FROM callbackd.holds AS h WHERE h.workflow_execution_id = t.workflow_execution_id) AS spared,
			coalesce(w.retrieval_state = 'pending' OR w.lease_until > clock_timestamp(), false) OR (%[4]s) IS TRUE AS busy
		FROM %[5]s AS t
		LEFT JOIN callbackd.workflow_executions AS w ON w.workflow_execution_id = t.workflow_execution_id
		LEFT JOIN callbackd.relationships AS r ON r.account_id = w.account_id
		CROSS JOIN LATERAL (SELECT %[2]s AS class, CASE WHEN (%[3]s) IS NOT NULL
			THEN least(greatest(%[3]s, r.ended_at, '1970-01-01T00:00:00Z'), '9999-01-01T00:00:00Z') END AS clock) AS c`,
		t.key, t.class, t.clock, t.needed, rows)
}

// Until returns a time after which no row's clock is due, in a partition.
func (r Retention) Until(p *RetainedPartition) (until time.Time) {
	for _, rule := range r.of(p.table.classes) {
		if at := rule.until(r.Now); at.After(until) {
			until = at
		}
	}
	return until
}

// RetainedPartition is a partition of a table that is looked through.
type RetainedPartition struct {
	table retainedTable
	// Name is that of its table.
	Name string
	// From and To bound the times of its ids; zero for no bound.
	From, To     time.Time
	lower, upper string // as SQL
}

// Month names the partition for people: a month, or the time before or after one.
func (p *RetainedPartition) Month() string {
	switch {
	case p.From.IsZero() && p.To.IsZero():
		return "all"
	case p.From.IsZero():
		return "before " + p.To.Format("2006-01")
	case p.To.IsZero():
		return "from " + p.From.Format("2006-01")
	}
	return p.From.Format("2006-01")
}

// RetainedPartitions returns the partitions of the tables that the rules are about, each
// table's in the order of time.
func (s *Store) RetainedPartitions(ctx context.Context, r Retention) (list []*RetainedPartition, err error) {
	for _, t := range retainedTables {
		if len(r.of(t.classes)) == 0 {
			continue
		}
		partitions, err := s.partitions(ctx, t.partitionedTable)
		if err != nil {
			return nil, err
		}
		for _, p := range partitions {
			p.table = t
			list = append(list, p)
		}
	}
	return list, nil
}

// partitions returns a table's partitions, in the order of time.
func (s *Store) partitions(ctx context.Context, t partitionedTable) ([]*RetainedPartition, error) {
	const doing = "read the partitions"
	rows, err := s.db.Pool().Query(ctx, `
		SELECT p.name, p.bounds[1], p.bounds[2] FROM (
			SELECT c.relname AS name, regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \((.*?)\) TO \((.*?)\)') AS bounds
			FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
			WHERE i.inhparent = ('callbackd.' || $1)::regclass) AS p`, t.name)
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*RetainedPartition, error) {
		p := &RetainedPartition{}
		if err := row.Scan(&p.Name, &p.lower, &p.upper); err != nil {
			return nil, err
		}
		for _, b := range []struct {
			literal string
			at      *time.Time
		}{{p.lower, &p.From}, {p.upper, &p.To}} {
			if b.literal == "MINVALUE" || b.literal == "MAXVALUE" {
				continue
			}
			at, err := t.timeOf(b.literal)
			if err != nil {
				return nil, err
			}
			*b.at = at
		}
		return p, nil
	})
	slices.SortFunc(list, func(a, b *RetainedPartition) int { return a.From.Compare(b.From) })
	return list, store.Translate(doing, err)
}

// Scan is a part of a partition's rows: after an id, and of ids of a time. The zero Scan is
// the whole partition.
type Scan struct {
	After        string
	From, Before time.Time
}

// Due are rows that are due.
type Due struct {
	IDs []string
	// Oldest is, by class, since when the oldest of them is due.
	Oldest map[string]time.Time
	// Last is the id up to which rows have been looked at; empty if all have.
	Last string
	// All reports whether all that have been looked at are due.
	All bool
}

// scanned bounds the rows that one statement looks at.
const scanned = 10_000

// FindDue looks for rows of a partition that are due, among the next 10,000.
func (s *Store) FindDue(ctx context.Context, r Retention, p *RetainedPartition, scan Scan) (*Due, error) {
	doing := "look for what is due in " + p.Name
	where := fmt.Sprintf(`($3 = '' OR t.%s > nullif($3, '')::%s)`, p.table.key, p.table.idType())
	if !scan.Before.IsZero() {
		where += fmt.Sprintf(` AND t.%[1]s >= %[2]s AND t.%[1]s < %[3]s`, p.table.key, p.table.bound(scan.From), p.table.bound(scan.Before))
	}
	rows, err := s.db.Pool().Query(ctx, fmt.Sprintf(`
		WITH part AS MATERIALIZED (SELECT * FROM (%s) AS d ORDER BY d.id)
		SELECT id::text, class, due_at, due_at <= $4 AND NOT spared AND NOT busy FROM part`,
		p.table.due(fmt.Sprintf(`(SELECT * FROM callbackd.%s AS t WHERE %s ORDER BY t.%s LIMIT %d)`, p.Name, where, p.table.key, scanned))),
		r.args(scan.After, r.Now)...)
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	due := &Due{Oldest: map[string]time.Time{}}
	var id, class string
	var at time.Time
	var free *bool
	n := 0
	_, err = pgx.ForEachRow(rows, []any{&id, &class, (*zeronull.Timestamptz)(&at), &free}, func() error {
		n++
		due.Last = id
		if free != nil && *free {
			due.IDs = append(due.IDs, id)
			due.Oldest[class] = earlier(due.Oldest[class], at)
		}
		return nil
	})
	due.All = n == len(due.IDs)
	if n < scanned {
		due.Last = ""
	}
	return due, store.Translate(doing, err)
}

// earlier returns the earlier of two times; zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (t partitionedTable) idType() string {
	if t.bigint {
		return "bigint"
	}
	return "uuid"
}

// TakeDue deletes those of the rows that are still due, in one transaction, with what goes
// with them, and returns how many they were by class. It passes over those whose workflow
// execution another transaction has locked. Objects of the image store are queued for
// deletion.
func (s *Store) TakeDue(ctx context.Context, r Retention, p *RetainedPartition, ids []string) (taken map[string]int64, err error) {
	return s.handleDue(ctx, "delete what is due in "+p.Name, r, p, ids, p.take())
}

// handleDue does with rows that are due what SQL says; that names, as gone, what is counted.
func (s *Store) handleDue(ctx context.Context, doing string, r Retention, p *RetainedPartition, ids []string, sql string) (handled map[string]int64, err error) {
	err = s.InTx(ctx, doing, func(tx *Tx) error {
		if err := tx.keepHolds(ctx); err != nil {
			return err
		}
		// A statement of its own, so that the next one sees what others have committed.
		rows, err := tx.Query(ctx, fmt.Sprintf(`
			SELECT w.workflow_execution_id FROM callbackd.workflow_executions AS w WHERE w.workflow_execution_id = ANY (
				ARRAY(SELECT t.workflow_execution_id FROM callbackd.%s AS t WHERE t.%s = ANY ($1::text[]::%s[])))
			ORDER BY w.workflow_execution_id FOR UPDATE SKIP LOCKED`, p.Name, p.table.key, p.table.idType()), ids)
		if err != nil {
			return err
		}
		locked, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		rows, err = tx.Query(ctx, p.which()+sql+` SELECT class, count(*) FROM gone GROUP BY class`, r.args(ids, r.Now, locked)...)
		if err != nil {
			return err
		}
		handled, err = collectCounts(rows)
		return err
	})
	return handled, err
}

// keepHolds waits for holds and ends of relationships under way, and lets no other begin
// until the transaction ends: what is held from now on is held.
func (tx *Tx) keepHolds(ctx context.Context) error {
	_, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '`+partitionLockTimeout+`'; LOCK TABLE callbackd.holds, callbackd.relationships IN SHARE MODE`)
	return err
}

// which selects, as due, those of the rows with the ids that are free to go, whose workflow
// execution is locked, or that are of none. $3 to $5 are the ids, the time, and what is
// locked.
func (p *RetainedPartition) which() string {
	return fmt.Sprintf(`
		WITH due AS MATERIALIZED (
			SELECT d.id, d.class, d.workflow_execution_id FROM (%s) AS d
			WHERE d.due_at <= $4 AND NOT d.spared AND NOT d.busy AND (d.workflow_execution_id = ANY ($5)
				OR NOT EXISTS (SELECT FROM callbackd.workflow_executions AS w WHERE w.workflow_execution_id = d.workflow_execution_id))
		)`, p.table.due(fmt.Sprintf(`(SELECT * FROM callbackd.%s AS t WHERE t.%s = ANY ($3::text[]::%s[]))`, p.Name, p.table.key, p.table.idType())))
}

// take returns SQL that deletes what which selects, as gone, with the classes.
func (p *RetainedPartition) take() string {
	switch p.table.name {
	case "details":
		return `, gone AS (SELECT d.class FROM due AS d, callbackd.remove_details(ARRAY[d.id]))`
	case "images":
		return fmt.Sprintf(`, gone AS (
			DELETE FROM callbackd.%s AS t USING due WHERE t.image_id = due.id
			RETURNING due.class, t.workflow_execution_id, t.published, t.stored_in, t.object_key
		), objects AS (
			INSERT INTO callbackd.object_deletions (object_key, stored_in)
			SELECT object_key, stored_in FROM gone WHERE stored_in <> 'database' AND object_key IS NOT NULL ON CONFLICT DO NOTHING
		), counted AS (
			UPDATE callbackd.workflow_executions AS w SET image_count = w.image_count - n.images
			FROM (SELECT workflow_execution_id, count(*) AS images FROM gone WHERE published GROUP BY workflow_execution_id) AS n
			WHERE w.workflow_execution_id = n.workflow_execution_id AND w.image_count IS NOT NULL
		)`, p.Name)
	}
	return fmt.Sprintf(`, gone AS (DELETE FROM callbackd.%s AS t USING due WHERE t.%s = due.id RETURNING due.class)`, p.Name, p.table.key)
}

func collectCounts(rows pgx.Rows) (map[string]int64, error) {
	counts := map[string]int64{}
	var class string
	var n int64
	_, err := pgx.ForEachRow(rows, []any{&class, &n}, func() error {
		counts[class] = n
		return nil
	})
	return counts, err
}

// RetentionLease is one worker's right to carry out the retention.
type RetentionLease struct{ token uuid.UUID }

// retentionLease is how long a worker that has died keeps others from it.
const retentionLease = `interval '30 seconds'`

// ClaimRetention returns the lease, or nil if another worker has it, or if one has looked
// through all less than pause ago.
func (s *Store) ClaimRetention(ctx context.Context, pause time.Duration) (*RetentionLease, error) {
	l := &RetentionLease{uuid.New()}
	tag, err := s.db.Pool().Exec(ctx, `
		UPDATE callbackd.retention SET lease_token = $1, lease_until = clock_timestamp() + `+retentionLease+`
		WHERE (lease_until IS NULL OR lease_until < clock_timestamp()) AND (looked_at IS NULL OR looked_at <= clock_timestamp() - $2::interval)`,
		l.token, pause)
	if err != nil || tag.RowsAffected() == 0 {
		return nil, store.Translate("claim the retention", err)
	}
	return l, nil
}

// ErrLeaseLost means that another worker has the lease.
const ErrLeaseLost store.Error = "another worker carries it out"

// RenewRetention keeps the lease for another 30 seconds, and stores, by class, since when
// the oldest row that should be gone is due. It returns ErrLeaseLost if the lease is no
// longer held.
func (s *Store) RenewRetention(ctx context.Context, l *RetentionLease, oldest map[string]time.Time) error {
	return s.updateRetention(ctx, l, oldest, `lease_until = clock_timestamp() + `+retentionLease)
}

// EndRetention gives the lease back; complete says that all has been looked through.
func (s *Store) EndRetention(ctx context.Context, l *RetentionLease, oldest map[string]time.Time, complete bool) error {
	set := `lease_token = NULL, lease_until = NULL`
	if complete {
		set += `, looked_at = clock_timestamp()`
	}
	return s.updateRetention(ctx, l, oldest, set)
}

func (s *Store) updateRetention(ctx context.Context, l *RetentionLease, oldest map[string]time.Time, set string) error {
	const doing = "keep the retention's lease"
	behind, err := json.Marshal(oldest)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	tag, err := s.db.Pool().Exec(ctx, `UPDATE callbackd.retention SET oldest_due = $2, `+set+` WHERE lease_token = $1`, l.token, behind)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrLeaseLost
	}
	return store.Translate(doing, err)
}

// unlooked is how long nobody may have looked before all is taken to be behind since.
const unlooked = 15 * time.Minute

// RetentionBehind returns, by class, since when the oldest row that should be gone is due.
// If no worker has looked for 15 minutes, that is when one last looked.
func (s *Store) RetentionBehind(ctx context.Context, classes []string) (map[string]time.Time, error) {
	const doing = "read how far the retention is"
	var behind map[string]time.Time
	var looked time.Time
	err := s.db.Pool().QueryRow(ctx, `
		SELECT oldest_due, CASE WHEN looked_at < clock_timestamp() - $1::interval AND coalesce(lease_until < clock_timestamp(), true) THEN looked_at END
		FROM callbackd.retention`, unlooked).Scan(&behind, (*zeronull.Timestamptz)(&looked))
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	since := make(map[string]time.Time, len(classes))
	for _, class := range classes {
		since[class] = earlier(behind[class], looked)
	}
	return since, nil
}

// PlannedRetention are rows of a class and a workflow definition whose clock is in one
// month.
type PlannedRetention struct {
	Class string `json:"class"`
	// DefinitionKey is nil where no definition is known.
	DefinitionKey *string `json:"definition_key"`
	// Month is that of their clock, in UTC: 2026-05.
	Month string `json:"month"`
	Rows  int64  `json:"rows"`
	// DueFrom and DueUntil are when the first and the last of them go.
	DueFrom  time.Time `json:"due_from"`
	DueUntil time.Time `json:"due_until"`
}

// PlanRetention counts what would go by the rules, and when. What is held, and what
// belongs to an account whose relationship lasts, would not.
func (s *Store) PlanRetention(ctx context.Context, r Retention) ([]PlannedRetention, error) {
	plan := []PlannedRetention{}
	for _, t := range retainedTables {
		if len(r.of(t.classes)) == 0 {
			continue
		}
		doing := "count what is to go from " + t.name
		rows, err := s.db.Pool().Query(ctx, fmt.Sprintf(`
			SELECT d.class, d.definition_key, to_char(d.clock AT TIME ZONE 'UTC', 'YYYY-MM') AS month, count(*), min(d.due_at), max(d.due_at)
			FROM (%s) AS d WHERE d.due_at IS NOT NULL AND NOT d.spared
			GROUP BY 1, 2, 3`, t.due("callbackd."+t.name)), r.args()...)
		if err != nil {
			return nil, store.Translate(doing, err)
		}
		list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[PlannedRetention])
		if err != nil {
			return nil, store.Translate(doing, err)
		}
		plan = append(plan, list...)
	}
	for i := range plan {
		plan[i].DueFrom, plan[i].DueUntil = plan[i].DueFrom.UTC(), plan[i].DueUntil.UTC()
	}
	slices.SortFunc(plan, func(a, b PlannedRetention) int {
		return cmp.Or(cmp.Compare(a.Class, b.Class), cmp.Compare(a.Month, b.Month), cmp.Compare(definition(a), definition(b)))
	})
	return plan, nil
}

func definition(p PlannedRetention) string {
	if p.DefinitionKey == nil {
		return ""
	}
	return *p.DefinitionKey
}
