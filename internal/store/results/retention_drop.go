package results

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/store"
)

// dropLockTimeout bounds how long callbacks wait behind a partition that is to be dropped.
// It is shorter than Postgres waits before it looks for a deadlock, so that no other
// transaction has to give way.
const dropLockTimeout = "800ms"

// errNotAllDue means that a partition has rows that stay.
const errNotAllDue store.Error = "not all is due"

// DropDue removes a partition, with all of its rows, in one short step, if its time is over
// and each of them is due; then it returns how many they were by class, else nil. Earlier
// ids then belong to the table's first partition. That one itself, and one that cannot be
// joined to it, is emptied instead.
//
// First it does, in transactions of at most 500 rows, what cannot be done in a short step;
// it calls between after each.
func (s *Store) DropDue(ctx context.Context, r Retention, p *RetainedPartition, between func() error) (map[string]int64, error) {
	if p.To.IsZero() || p.To.After(r.Now) {
		return nil, nil
	}
	groups, err := s.droppable(ctx, p)
	if err != nil || groups == nil {
		return nil, err
	}
	all, err := s.prepareDrop(ctx, r, p, between)
	if err != nil || !all {
		return nil, err
	}
	var counts map[string]int64
	err = s.InTx(ctx, "drop "+p.Name, func(tx *Tx) (err error) {
		counts, err = tx.dropDue(ctx, r, p, groups)
		return err
	})
	if errors.Is(err, errNotAllDue) {
		return nil, nil
	}
	return counts, err
}

// group is the partition of one table, and its first one; that is nil if the partition is
// to be emptied.
type group struct {
	table    string
	p, first *RetainedPartition
}

// droppable returns the partitions that go together: the partition's, and those of the
// tables whose rows go with its rows. It returns nil if they do not have the same bounds.
func (s *Store) droppable(ctx context.Context, p *RetainedPartition) ([]group, error) {
	var groups []group
	join := true
	for _, name := range append([]string{p.table.name}, p.table.with...) {
		t := tableNamed(name)
		list, err := s.partitions(ctx, t)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(list, func(o *RetainedPartition) bool { return o.lower == p.lower && o.upper == p.upper })
		if i < 0 {
			return nil, nil
		}
		g := group{table: name, p: list[i], first: list[0]}
		many, err := s.hasMany(ctx, g.first.Name, cmp.Or(t.few, fewRows))
		if err != nil {
			return nil, err
		}
		join = join && i == 1 && !many
		groups = append(groups, g)
	}
	if !join {
		for i := range groups {
			groups[i].first = nil
		}
	}
	return groups, nil
}

// prepareDrop does what goes before the drop: documents, which are in no partition, are
// deleted, and numbers of images that will not be true are taken back. It returns false at
// the first row that is not due.
func (s *Store) prepareDrop(ctx context.Context, r Retention, p *RetainedPartition, between func() error) (bool, error) {
	var prepare string
	switch p.table.name {
	case "details":
		prepare = `, gone AS (DELETE FROM callbackd.extracted_documents AS x USING due
			WHERE x.workflow_execution_id = due.workflow_execution_id AND x.details_id = due.id RETURNING due.class)`
	case "images":
		prepare = `, listed AS (
			INSERT INTO callbackd.uncounted (workflow_execution_id) SELECT DISTINCT workflow_execution_id FROM due ON CONFLICT DO NOTHING
		), gone AS (
			UPDATE callbackd.workflow_executions AS w SET image_count = NULL FROM due
			WHERE w.workflow_execution_id = due.workflow_execution_id AND w.image_count IS NOT NULL RETURNING due.class
		)`
	default:
		return true, nil
	}
	for scan := (Scan{}); ; {
		due, err := s.FindDue(ctx, r, p, scan)
		if err != nil || !due.All {
			return false, err
		}
		for ids := range slices.Chunk(due.IDs, RetentionBatch) {
			if _, err := s.handleDue(ctx, "prepare the drop of "+p.Name, r, p, ids, prepare); err != nil {
				return false, err
			}
			if err := between(); err != nil {
				return false, err
			}
		}
		if scan.After = due.Last; scan.After == "" {
			return true, nil
		}
	}
}

// RetentionBatch bounds the rows that one transaction deletes.
const RetentionBatch = 500

// dropDue checks that all is due while others use the tables, and only then takes the lock
// that keeps them out. What could have changed in between is looked up by an index.
func (tx *Tx) dropDue(ctx context.Context, r Retention, p *RetainedPartition, groups []group) (map[string]int64, error) {
	if err := tx.keepHolds(ctx); err != nil {
		return nil, err
	}
	// Inserts have other ids than a month's that is over, but for what was spooled then,
	// moved, or read anew. Retrievals lock all partitions of images, and must not wait.
	if p.table.name != "images" {
		for _, g := range groups {
			if _, err := tx.Exec(ctx, `LOCK TABLE ONLY callbackd.`+g.p.Name+` IN SHARE MODE`); err != nil {
				return nil, err
			}
		}
	}
	var lastEvent int64
	if err := tx.QueryRow(ctx, `SELECT coalesce(max(event_id), 0) FROM callbackd.events`).Scan(&lastEvent); err != nil {
		return nil, err
	}
	counts, err := tx.countDue(ctx, r, p)
	if err != nil || len(counts) == 0 && groups[0].first == nil {
		return nil, err // or empty already
	}
	if err := tx.checkPrepared(ctx, p); err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '`+dropLockTimeout+`';`+lockGroups(groups)); err != nil {
		return nil, err
	}
	var changed bool
	if err := tx.QueryRow(ctx, p.changed(), lastEvent).Scan(&changed); err != nil {
		return nil, err
	}
	if changed {
		return nil, errNotAllDue
	}
	_, err = tx.Exec(ctx, dropGroups(groups))
	return counts, err
}

// countDue counts a partition's rows by class. It returns errNotAllDue if one is not due.
func (tx *Tx) countDue(ctx context.Context, r Retention, p *RetainedPartition) (map[string]int64, error) {
	rows, err := tx.Query(ctx, fmt.Sprintf(`
		SELECT d.class, count(*), count(*) FILTER (WHERE d.due_at <= $3 AND NOT d.spared AND NOT d.busy)
		FROM (%s) AS d GROUP BY d.class`, p.table.due("callbackd."+p.Name)), r.args(r.Now)...)
	if err != nil {
		return nil, err
	}
	counts := map[string]int64{}
	all := true
	var class string
	var n, due int64
	_, err = pgx.ForEachRow(rows, []any{&class, &n, &due}, func() error {
		counts[class] = n
		all = all && n == due
		return nil
	})
	if err == nil && !all {
		err = errNotAllDue
	}
	return counts, err
}

// checkPrepared returns errNotAllDue if something has come between prepareDrop and the
// drop. Objects of the image store are queued for deletion.
func (tx *Tx) checkPrepared(ctx context.Context, p *RetainedPartition) error {
	var open string
	switch p.table.name {
	case "details":
		open = `SELECT EXISTS (SELECT FROM callbackd.%s AS t JOIN callbackd.extracted_documents AS x
			ON x.workflow_execution_id = t.workflow_execution_id AND x.details_id = t.details_id)`
	case "images":
		open = `SELECT EXISTS (SELECT FROM callbackd.%s AS t JOIN callbackd.workflow_executions AS w USING (workflow_execution_id)
			WHERE t.published AND w.image_count IS NOT NULL)`
	default:
		return nil
	}
	var unprepared bool
	if err := tx.QueryRow(ctx, fmt.Sprintf(open, p.Name)).Scan(&unprepared); err != nil {
		return err
	}
	if unprepared {
		return errNotAllDue
	}
	if p.table.name != "images" {
		return nil
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO callbackd.object_deletions (object_key, stored_in)
		SELECT t.object_key, t.stored_in FROM callbackd.`+p.Name+` AS t WHERE t.stored_in <> 'database' AND t.object_key IS NOT NULL
		ON CONFLICT DO NOTHING`)
	return err
}

// changed returns a query for whether rows have become due later since countDue: something
// has happened to their workflow execution, which has left an event after $1, or a consumer
// needs them.
func (p *RetainedPartition) changed() string {
	switch p.table.name {
	case "images", "callbacks":
		return fmt.Sprintf(`SELECT EXISTS (SELECT FROM callbackd.events AS e WHERE e.event_id > $1
			AND EXISTS (SELECT FROM callbackd.%s AS t WHERE t.workflow_execution_id = e.workflow_execution_id))`, p.Name)
	case "events":
		return fmt.Sprintf(`SELECT $1::bigint IS NULL OR coalesce((SELECT min(u.last_event_id) FROM callbackd.consumers AS u)
			< (SELECT max(t.event_id) FROM callbackd.%s AS t), false)`, p.Name)
	}
	return `SELECT $1::bigint IS NULL`
}

// lockGroups keeps everybody out of what is to be changed, as the tables' owner, and makes
// sure that nobody has changed the partitions meanwhile.
func lockGroups(groups []group) string {
	sql := asOwner(groups[0].table)
	for _, g := range groups {
		if g.first == nil {
			sql += fmt.Sprintf(`LOCK TABLE ONLY callbackd.%s IN ACCESS EXCLUSIVE MODE;`, g.p.Name)
			continue
		}
		sql += fmt.Sprintf(`LOCK TABLE callbackd.%s IN ACCESS EXCLUSIVE MODE;`, g.table)
	}
	for _, g := range groups {
		sql += mustHaveBounds(g.p.Name, g.p.lower, g.p.upper)
		if g.first != nil {
			sql += mustHaveBounds(g.first.Name, g.first.lower, g.first.upper)
		}
	}
	return sql
}

// dropGroups drops the partitions, and gives their ids to the first ones, so that no id has
// no partition; or it empties them.
func dropGroups(groups []group) string {
	var sql strings.Builder
	for _, g := range groups {
		if g.first == nil {
			fmt.Fprintf(&sql, `TRUNCATE ONLY callbackd.%s;`, g.p.Name)
			continue
		}
		fmt.Fprintf(&sql, `
			ALTER TABLE callbackd.%[1]s DETACH PARTITION callbackd.%[2]s;
			DROP TABLE callbackd.%[2]s;
			ALTER TABLE callbackd.%[1]s DETACH PARTITION callbackd.%[3]s;
			ALTER TABLE callbackd.%[1]s ATTACH PARTITION callbackd.%[3]s FOR VALUES FROM (%[4]s) TO (%[5]s);`,
			g.table, g.p.Name, g.first.Name, g.first.lower, g.p.upper)
	}
	return sql.String()
}

// CountImages stores the number of images of at most 500 workflow executions that have lost
// some with a partition, and returns how many they were. Those that others have locked it
// leaves for later.
func (s *Store) CountImages(ctx context.Context) (counted int64, err error) {
	err = s.InTx(ctx, "count the images that are left", func(tx *Tx) error {
		rows, err := tx.Query(ctx, `
			SELECT u.workflow_execution_id FROM callbackd.uncounted AS u
			JOIN callbackd.workflow_executions AS w ON w.workflow_execution_id = u.workflow_execution_id
			ORDER BY u.workflow_execution_id LIMIT $1 FOR UPDATE SKIP LOCKED`, RetentionBatch)
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		// While a retrieval is pending, there is no count; its end stores one.
		if _, err := tx.Exec(ctx, `
			UPDATE callbackd.workflow_executions AS w SET image_count = callbackd.count_images(w.workflow_execution_id)
			WHERE w.workflow_execution_id = ANY ($1) AND w.retrieval_state <> 'pending'`, ids); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM callbackd.uncounted AS u WHERE u.workflow_execution_id = ANY ($1)
			OR NOT EXISTS (SELECT FROM callbackd.workflow_executions AS w WHERE w.workflow_execution_id = u.workflow_execution_id)`, ids)
		counted = tag.RowsAffected()
		return err
	})
	return counted, err
}
