package deploytest

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/store/storetest"
)

// personal are the columns of the views that hold something of a person.
var personal = regexp.MustCompile(`\b(body|data|details|user_reference|customer_internal_reference|first_name|last_name|date_of_birth|document_number|address|\*)\b`)

// TestMonitoringRunbookQueries: the runbook's SQL is understood by a database of
// this version, and shows nothing of a person.
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
