package processtest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"callbackd/internal/store/storetest"
)

// migrated makes a database, migrated by the binary, and gives its DSN.
func migrated(t testing.TB) string {
	t.Helper()
	dsn := storetest.NewDatabase(t)
	succeed(t, []string{"DATABASE_URL=" + dsn}, "migrate", "up")
	return dsn
}

// database is what a test reads a database with.
type database struct {
	t    testing.TB
	pool *pgxpool.Pool
}

func open(t testing.TB, dsn string) *database {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), dsn)
	if err != nil {
		t.Fatalf("connect to the database: %v", err)
	}
	t.Cleanup(pool.Close)
	return &database{t, pool}
}

// query returns one T for each row: a struct by the columns' names, else the
// only column's value.
func query[T any](db *database, by pgx.RowToFunc[T], sql string, args ...any) []T {
	db.t.Helper()
	rows, err := db.pool.Query(db.t.Context(), sql, args...)
	if err != nil {
		db.t.Fatalf("%s: %v", sql, err)
	}
	list, err := pgx.CollectRows(rows, by)
	if err != nil {
		db.t.Fatalf("%s: %v", sql, err)
	}
	return list
}

// texts returns the first column of a query as text.
func (db *database) texts(sql string, args ...any) []string {
	db.t.Helper()
	return query(db, pgx.RowTo[string], sql, args...)
}

func (db *database) count(sql string, args ...any) int {
	db.t.Helper()
	return query(db, pgx.RowTo[int], sql, args...)[0]
}

func (db *database) exec(sql string, args ...any) {
	db.t.Helper()
	if _, err := db.pool.Exec(db.t.Context(), sql, args...); err != nil {
		db.t.Fatalf("%s: %v", sql, err)
	}
}

// workflowRow is a row of jumio.workflow_executions.
type workflowRow struct {
	ID       string `db:"workflow_execution_id"`
	State    string `db:"retrieval_state"`
	Attempts int    `db:"retrieval_attempts"`
	Error    string `db:"retrieval_error"`
}

const selectWorkflows = `SELECT workflow_execution_id, retrieval_state, retrieval_attempts,
	coalesce(retrieval_error, '') AS retrieval_error FROM jumio.workflow_executions`

// awaitState waits until the workflow execution is in the state.
func (db *database) awaitState(id, state string) workflowRow {
	db.t.Helper()
	var w workflowRow
	eventually(db.t, patience, func() error {
		rows := query(db, pgx.RowToStructByName[workflowRow], selectWorkflows+` WHERE workflow_execution_id = $1`, id)
		if len(rows) == 0 {
			return fmt.Errorf("workflow execution %s is not there", id)
		}
		if w = rows[0]; w.State != state {
			return fmt.Errorf("want %s: %+v", state, w)
		}
		return nil
	})
	return w
}

// wantNoneTwice demands that no workflow execution stands twice in
// jumio.callbacks.
func (db *database) wantNoneTwice() {
	db.t.Helper()
	twice := db.count(`SELECT count(*) FROM (SELECT FROM jumio.callbacks GROUP BY workflow_execution_id HAVING count(*) > 1) AS twice`)
	if twice > 0 {
		db.t.Errorf("%d callbacks that were posted once are stored more than once", twice)
	}
}

// wantCallbacks demands that every one of the workflow executions stands in
// jumio.callbacks.
func (db *database) wantCallbacks(ids []string) {
	db.t.Helper()
	stored := db.texts(`SELECT workflow_execution_id FROM jumio.callbacks`)
	slices.Sort(stored)
	lost := 0
	for _, id := range ids {
		if _, found := slices.BinarySearch(stored, id); !found {
			lost++
		}
	}
	if lost > 0 {
		db.t.Errorf("%d of %d callbacks that were answered with 200 are not in jumio.callbacks", lost, len(ids))
	}
}
