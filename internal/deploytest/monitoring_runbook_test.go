package deploytest

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/store/storetest"
)

// personal are the columns of the views with personal data.
var personal = regexp.MustCompile(`\b(body|data|details|user_reference|customer_internal_reference|first_name|last_name|date_of_birth|document_number|address|\*)\b`)

// TestMonitoringRunbookQueries: the runbook's SQL runs on this version's database,
// and shows no personal data.
func TestMonitoringRunbookQueries(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(runbookFile)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), storetest.NewMigrated(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	queries := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(queries) < 5 {
		t.Errorf("only %d queries were found", len(queries))
	}
	for _, query := range queries {
		if _, err := conn.Exec(t.Context(), query[1]); err != nil {
			t.Errorf("%s%v", query[1], err)
		}
		if column := personal.FindString(strings.ReplaceAll(query[1], "count(*)", "")); column != "" {
			t.Errorf("%sshows %s", query[1], column)
		}
	}
}

// TestMonitoringContradictions: the query in docs/database.md finds the callbacks
// that contradict the details, and no others.
func TestMonitoringContradictions(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/database.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Callbacks that contradict the details\n")
	query := regexp.MustCompile("(?s)```sql\n(.*?);\n```").FindStringSubmatch(section)
	if query == nil {
		t.Fatal("docs/database.md has no query of contradicting callbacks")
	}
	conn, err := pgx.Connect(t.Context(), storetest.NewMigrated(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range []string{
		`INSERT INTO callbackd.workflow_executions (workflow_execution_id, account_id, definition_key) VALUES ('done', 'a', '3'), ('pending', 'a', NULL)`,
		`INSERT INTO callbackd.workflow_details (workflow_execution_id, generation, details, body)
			VALUES ('done', 1, '{"account":{"id":"a"},"workflow":{"definitionKey":"3"}}', '{}')`,
		`INSERT INTO callbackd.callbacks (callback_id, received_at, content_type, workflow_execution_id, account_id, definition_key, user_reference, body)
			SELECT gen_random_uuid(), now() - age * interval '1 minute', '', id, account, definition, reference, ''
			FROM (VALUES (5, 'done', 'b', '3', NULL), (4, 'done', 'a', '4', NULL), (3, 'done', NULL, NULL, 'carol'),
				(2, 'done', 'a', '3', NULL), (2, 'done', NULL, NULL, NULL), (1, 'pending', 'b', '4', 'carol'), (2000, 'done', 'b', '3', NULL))
				AS v (age, id, account, definition, reference)`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := conn.Query(t.Context(), "SELECT coalesce(other_account, false), coalesce(other_reference, false), coalesce(other_definition, false) FROM ("+query[1]+") AS q")
	if err != nil {
		t.Fatal(err)
	}
	got, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) ([3]bool, error) {
		var differs [3]bool
		err := row.Scan(&differs[0], &differs[1], &differs[2])
		return differs, err
	})
	want := [][3]bool{{true, false, false}, {false, false, true}, {false, true, false}}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Errorf("other account, reference, definition (-want +got): %v\n%s", err, d)
	}
}
