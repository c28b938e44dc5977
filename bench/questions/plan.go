package questions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Plan is how Postgres answers a question.
type Plan struct {
	root node
}

// node is a step of a plan, as EXPLAIN (FORMAT JSON) prints it.
type node struct {
	Type     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Index    string `json:"Index Name"`
	Plans    []node `json:"Plans"`
}

// Explain returns the plan for these arguments; generic is the one for any arguments, which
// Postgres may choose after it has seen a prepared statement five times.
func Explain(ctx context.Context, conn *pgx.Conn, q Question, args []any, generic bool) (p Plan, err error) {
	mode := "force_custom_plan"
	if generic {
		mode = "force_generic_plan"
	}
	const statement = "question_to_explain"
	if _, err := conn.Exec(ctx, "SET plan_cache_mode = "+mode); err != nil {
		return p, err
	}
	defer func() {
		_, resetErr := conn.Exec(ctx, "RESET plan_cache_mode")
		err = errors.Join(err, conn.Deallocate(ctx, statement), resetErr)
	}()
	if _, err := conn.Prepare(ctx, statement, q.SQL); err != nil {
		return p, fmt.Errorf("explain %s: %w", q.Name, err)
	}
	placeholders := make([]string, len(args))
	for i := range args {
		placeholders[i] = fmt.Sprintf("$%d", i+1)
	}
	// EXECUTE takes no parameters of the protocol, so the driver writes them into the text.
	var out []byte
	err = conn.QueryRow(ctx, "EXPLAIN (FORMAT JSON) EXECUTE "+statement+" ("+strings.Join(placeholders, ", ")+")",
		append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...).Scan(&out)
	var plans []struct{ Plan node }
	if err == nil {
		err = json.Unmarshal(out, &plans)
	}
	if err != nil {
		return p, fmt.Errorf("explain %s: %w", q.Name, err)
	}
	return Plan{plans[0].Plan}, nil
}

// String names the steps from the outermost on, with the indexes they use. Equal steps, as
// of a table's partitions, are counted.
func (p Plan) String() string { return p.root.String() }

// partition is the part of a name that partitions differ in.
var partition = regexp.MustCompile(`_(1|\d{6}|later)(_|$)`)

func (n node) String() string {
	text := n.Type
	for _, of := range []string{n.Index, n.Relation} {
		if of != "" {
			text += " " + partition.ReplaceAllString(of, "_*$2")
			break
		}
	}
	var children []string
	count := map[string]int{}
	for _, child := range n.Plans {
		c := child.String()
		if count[c]++; count[c] == 1 {
			children = append(children, c)
		}
	}
	for i, c := range children {
		if count[c] > 1 {
			children[i] = fmt.Sprintf("%d × %s", count[c], c)
		}
	}
	if len(children) > 0 {
		text += " (" + strings.Join(children, ", ") + ")"
	}
	return text
}

// Scanned returns the tables that the plan reads from one end to the other.
func (p Plan) Scanned() []string {
	list := p.root.scanned()
	slices.Sort(list)
	return slices.Compact(list)
}

func (n node) scanned() (list []string) {
	if n.Type == "Seq Scan" {
		list = append(list, n.Relation)
	}
	for _, child := range n.Plans {
		list = append(list, child.scanned()...)
	}
	return list
}

// Growing returns the tables that grow with callbacks and have more than 1,000 rows already.
// Of one with fewer, as that of a month which has just begun, all is read sooner than an index.
func Growing(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	rows, _ := conn.Query(ctx, `SELECT relname FROM pg_class WHERE relnamespace = 'callbackd'::regnamespace AND relkind = 'r'
		AND (relispartition OR relname IN ('workflow_executions', 'extracted_documents', 'expectations')) AND reltuples > 1000`) // its error is that of reading the rows
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list the growing tables: %w", err)
	}
	return list, nil
}

// Check returns an error if a plan reads one of these tables from one end to the other.
func (p Plan) Check(growing []string) error {
	for _, relation := range p.Scanned() {
		if slices.Contains(growing, relation) {
			return fmt.Errorf("it reads all of %s: %s", relation, p)
		}
	}
	return nil
}
