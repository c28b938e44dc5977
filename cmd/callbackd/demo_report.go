package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/pgserver"
	"callbackd/internal/sandbox"
)

// Everything that the demo shows is read from the views, as a consumer would.

// demoProgressQuery counts this run alone: an earlier one with the same seed had
// the same ids.
const demoProgressQuery = `
SELECT (SELECT count(DISTINCT workflow_execution_id) FROM jumio.callbacks
        WHERE workflow_execution_id = ANY($1::text[]) AND received_at >= $2),
       (SELECT count(*) FROM jumio.workflow_executions
        WHERE workflow_execution_id = ANY($1::text[]) AND last_callback_at >= $2
          AND retrieval_state IN ('retrieved', 'partial', 'failed', 'not_required')),
       (SELECT count(*) FROM jumio.images WHERE workflow_execution_id = ANY($1::text[]))`

// demoReportQuery: a journey's decision is the worst of its capabilities'; what
// was not executed for another one's sake comes after that one.
const demoReportQuery = `
SELECT w.workflow_execution_id,
       coalesce(concat_ws(' ', document.type, document.issuing_country), ''),
       coalesce(w.status, ''),
       coalesce(CASE worst.decision_type WHEN 'PASSED' THEN 'PASSED'
                ELSE concat_ws(' ', worst.decision_type, worst.capability, worst.decision_label) END, ''),
       w.retrieval_state, coalesce(w.retrieval_error, ''), w.retrieval_attempts,
       ARRAY(SELECT credential_id || ' ' || classifier || ' ' || encode(sha256, 'hex')
             FROM jumio.images AS i WHERE i.workflow_execution_id = w.workflow_execution_id),
       (extract(epoch FROM result.at - callback.at) * 1000)::bigint
FROM jumio.workflow_executions AS w
LEFT JOIN jumio.extracted_documents AS document
       ON document.workflow_execution_id = w.workflow_execution_id AND document.position = 1
LEFT JOIN LATERAL (
    SELECT c.capability, c.decision_type, c.decision_label
    FROM jumio.capabilities AS c WHERE c.workflow_execution_id = w.workflow_execution_id
    ORDER BY c.decision_label = 'PRECONDITION_NOT_FULFILLED',
             array_position(ARRAY['REJECTED', 'NOT_EXECUTED', 'WARNING'], c.decision_type), c.capability
    LIMIT 1) AS worst ON true
LEFT JOIN LATERAL (
    SELECT min(b.received_at) AS at
    FROM jumio.callbacks AS b WHERE b.workflow_execution_id = w.workflow_execution_id
      AND b.received_at >= $2 AND b.workflow_status NOT IN ('ACQUISITION_STARTED', 'ACQUIRED')) AS callback ON true
LEFT JOIN LATERAL (
    SELECT max(e.occurred_at) AS at
    FROM jumio.events AS e WHERE e.workflow_execution_id = w.workflow_execution_id
      AND e.type <> 'callback_received') AS result ON true
WHERE w.workflow_execution_id = ANY($1::text[]) AND w.last_callback_at >= $2
ORDER BY array_position($1::text[], w.workflow_execution_id)`

const demoRefusedQuery = `SELECT host(source_ip), reason FROM jumio.rejected_callbacks WHERE rejected_id = $1`

// demoRow is one journey, in the order of demoReportQuery's columns.
type demoRow struct {
	ID, Document, Status, Decision, State, Error string
	Attempts                                     int
	Images                                       []string // credential, classifier and SHA-256 of each
	Milliseconds                                 *int64   // nil without a result
}

// demoRefused is what is kept of a refused callback.
type demoRefused struct{ Address, Reason string }

// demoReport is what the database holds of this run, and what it should hold.
type demoReport struct {
	journeys []demoJourney
	expected []sandbox.Entry // of the same journeys
	rows     []demoRow
	forged   forgery
	refused  demoRefused // empty if it was not kept
}

// count says how far the journeys have come since began.
func (d *demo) count(ctx context.Context, ids []string, began time.Time) (now demoCounts, err error) {
	err = d.pool.QueryRow(ctx, demoProgressQuery, ids, began).Scan(&now.received, &now.finished, &now.images)
	if err != nil {
		return now, fmt.Errorf("count what has arrived: %w", err)
	}
	return now, nil
}

func (d *demo) readReport(ctx context.Context, ids []string, began time.Time, forged forgery) (*demoReport, error) {
	r := &demoReport{journeys: d.journeys, expected: d.sandbox.Ledger().Journeys, forged: forged}
	rows, err := d.pool.Query(ctx, demoReportQuery, ids, began)
	if err == nil {
		r.rows, err = pgx.CollectRows(rows, pgx.RowToStructByPos[demoRow])
	}
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	err = d.pool.QueryRow(ctx, demoRefusedQuery, forged.requestID).Scan(&r.refused.Address, &r.refused.Reason)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read the refused callback: %w", err)
	}
	return r, nil
}

// short is the beginning of a workflow execution's id, as long as it takes to
// tell it from the others.
func (r *demoReport) short(id string) string {
	for n := 8; n < len(id); n++ {
		if !slices.ContainsFunc(r.expected, func(e sandbox.Entry) bool {
			return e.WorkflowExecutionID != id && strings.HasPrefix(e.WorkflowExecutionID, id[:n])
		}) {
			return id[:n]
		}
	}
	return id
}

// print writes the table, what became of the difficult ones, and the refused
// callback.
func (r *demoReport) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nWORKFLOW\tDOCUMENT\tSTATUS\tDECISION\tRETRIEVAL\tIMAGES\tATTEMPTS\t    MS")
	for _, row := range r.rows {
		milliseconds := "-"
		if row.Milliseconds != nil {
			milliseconds = strconv.FormatInt(*row.Milliseconds, 10)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%6d\t%8d\t%6s\n", r.short(row.ID), cmp.Or(row.Document, "-"), row.Status,
			cmp.Or(row.Decision, "-"), row.State, len(row.Images), row.Attempts, milliseconds)
	}
	_ = w.Flush() // as with other output: nobody is left to tell
	fmt.Fprint(out, "WORKFLOW is how the id begins, MS the milliseconds from callback to result.\n\nMade difficult:\n")
	for i, j := range r.journeys {
		if j.note != "" {
			fmt.Fprintf(w, "  %s\t%s\t%s\n", r.short(r.expected[i].WorkflowExecutionID), j.note, r.outcome(r.expected[i].WorkflowExecutionID))
		}
	}
	_ = w.Flush()
	fmt.Fprintf(out, "\nRefused:\n  %s  %d, %s: a forged TOKEN_EXPIRED for %s,\n                said to come from Jumio's %s\n",
		cmp.Or(r.refused.Address, "-"), r.forged.status, cmp.Or(r.refused.Reason, "not kept"), r.short(r.expected[0].WorkflowExecutionID), demoJumioAddress)
}

// outcome is what became of a journey.
func (r *demoReport) outcome(id string) string {
	for _, row := range r.rows {
		switch {
		case row.ID != id:
		case row.Error != "":
			return row.State + ", " + row.Error
		default:
			return row.State
		}
	}
	return "not received"
}

// printFurther tells how to look inside while everything is up.
func (d *demo) printFurther() {
	dsn, end := `"$DATABASE_URL"`, "Ctrl-C ends it; the rows stay in the database."
	switch {
	case d.private != nil:
		dsn, end = "'"+d.dsn+"'", "Ctrl-C ends it and removes the database."
	case !slices.ContainsFunc(d.environ, func(v string) bool { return strings.HasPrefix(v, "DATABASE_URL=") && v != "DATABASE_URL=" }):
		dsn = `"$(cat "$DATABASE_URL_FILE")"`
	}
	fmt.Fprintf(d.out, `
Look further:
  database   %[1]s %[2]s
             SELECT capability, decision_type, decision_label, count(*) FROM jumio.capabilities GROUP BY 1, 2, 3;
             SELECT type, issuing_country, first_name, last_name, expiry_date FROM jumio.extracted_documents;
  metrics    curl -s %[3]s | grep ^callbackd_
  Jumio      %[4]s/_sandbox/ in a browser shows people, documents and what was asked for
  one more   curl -d '{"callback_url":"%[5]s"}' %[4]s/_sandbox/journeys
  log        %[6]s

%[7]s
`, psqlProgram(), dsn, d.metricsURL(), d.sandbox.URL(), d.callbackURL(), d.logPath, end)
}

// psqlProgram is psql, or where it is when it is not in PATH.
func psqlProgram() string {
	if _, err := exec.LookPath("psql"); err == nil {
		return "psql"
	}
	if dir, err := pgserver.Find(); err == nil {
		path := filepath.Join(dir, "psql")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return "psql"
}
