package questions

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const header = "-- What this file is.\n\n"

func TestParse(t *testing.T) {
	got, err := Parse(header + `-- name: newest
-- question: What came lately?
-- kind: page
-- parameters: at, id
SELECT *
FROM a
WHERE (at, id) < ($1, $2);

-- name: one
-- question: Which one: this?
-- kind: key
-- parameters: id
SELECT 1;
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []Question{
		{"newest", "What came lately?", Page, []string{"at", "id"}, "SELECT *\nFROM a\nWHERE (at, id) < ($1, $2)"},
		{"one", "Which one: this?", Key, []string{"id"}, "SELECT 1"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseRejects(t *testing.T) {
	const good = "-- name: one\n-- question: Which?\n-- kind: key\n-- parameters: id\nSELECT 1;\n"
	for name, block := range map[string]string{
		"no name":         strings.Replace(good, "-- name: one\n", "", 1),
		"no parameters":   strings.Replace(good, "-- parameters: id\n", "", 1),
		"no statement":    strings.Replace(good, "SELECT 1;\n", "", 1),
		"unknown kind":    strings.Replace(good, "key", "table", 1),
		"unknown comment": strings.Replace(good, "kind", "sort", 1),
	} {
		if got, err := Parse(header + block); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
	if _, err := Parse(header + good); err != nil {
		t.Error(err)
	}
}

// TestDocumentedQuestions: names are unique, and each $n has its name.
func TestDocumentedQuestions(t *testing.T) {
	text, err := os.ReadFile("../../docs/questions.sql")
	if err != nil {
		t.Fatal(err)
	}
	list, err := Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, q := range list {
		if names[q.Name] {
			t.Errorf("%s twice", q.Name)
		}
		names[q.Name] = true
		for i := range 9 {
			used, named := strings.Contains(q.SQL, "$"+string(rune('1'+i))), i < len(q.Parameters)
			if used != named {
				t.Errorf("%s: $%d is used: %v, has a name: %v", q.Name, i+1, used, named)
			}
		}
		if q.Kind == Page && !strings.HasSuffix(q.SQL, "LIMIT 100") {
			t.Errorf("%s has no page of 100 rows", q.Name)
		}
	}
}

const explained = `{"Node Type": "Limit", "Plans": [{"Node Type": "Append", "Plans": [
	{"Node Type": "Seq Scan", "Relation Name": "events_1"},
	{"Node Type": "Seq Scan", "Relation Name": "events_202601"},
	{"Node Type": "Index Scan", "Relation Name": "events_later", "Index Name": "events_later_workflow_execution_id_idx"},
	{"Node Type": "Bitmap Heap Scan", "Relation Name": "events_202602", "Plans": [{"Node Type": "Bitmap Index Scan", "Index Name": "events_202602_pkey"}]}]}]}`

func TestPlan(t *testing.T) {
	var p Plan
	if err := json.Unmarshal([]byte(explained), &p.root); err != nil {
		t.Fatal(err)
	}
	want := "Limit (Append (2 × Seq Scan events_*, Index Scan events_*_workflow_execution_id_idx, Bitmap Heap Scan events_* (Bitmap Index Scan events_*_pkey)))"
	if got := p.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := p.Scanned(); !slices.Equal(got, []string{"events_1", "events_202601"}) {
		t.Errorf("scanned: %v", got)
	}
	if err := p.Check([]string{"events_202601"}); err == nil || !strings.Contains(err.Error(), "all of events_202601") {
		t.Errorf("a scan of a growing table: %v", err)
	}
	if err := p.Check([]string{"events_later"}); err != nil {
		t.Errorf("a scan of other tables: %v", err)
	}
}

func TestPopulation(t *testing.T) {
	p := Population{Executions: 10_000, Months: 3, Now: time.Date(2026, 2, 28, 12, 0, 0, 0, time.UTC)}
	if got, want := p.firstMonth(), time.Date(2025, 12, 1, 0, 0, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("first month %s, want %s", got, want)
	}
	decisions, expectations, months, persons := map[any]int{}, map[string]int{}, map[time.Month]int{}, map[string]int{}
	last := int64(0)
	for n := 1; n <= p.Executions; n++ {
		e := p.execution(n)
		decisions[e.decision]++
		expectations[e.expectation]++
		months[e.at.Month()]++
		persons[e.reference]++
		if us := e.at.UnixMicro(); us < last+8 {
			t.Fatalf("the events of number %d could have the ids of others", n)
		} else {
			last = us
		}
		if e.at.After(p.Now) || e.expectation == "expected" && e.deadlineAt.After(p.Now) {
			t.Fatalf("number %d comes at %s", n, e.at)
		}
	}
	if diff := cmp.Diff(map[any]int{"PASSED": 7000, "REJECTED": 1500, "WARNING": 1000, nil: 500}, decisions); diff != "" {
		t.Error(diff)
	}
	// Jumio is asked about the same one for nearly two days, of three months.
	if diff := cmp.Diff(map[string]int{"answered": 9800, "recovered": 100, "expected": 1, "overdue": 99}, expectations); diff != "" {
		t.Error(diff)
	}
	if len(months) != 4 || months[time.November] < 2000 || months[time.February] < 2000 {
		t.Errorf("in each month: %v", months)
	}
	if len(persons) > 9000 {
		t.Errorf("%d persons", len(persons))
	}
}
