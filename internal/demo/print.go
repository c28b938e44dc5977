package demo

import (
	"cmp"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"callbackd/internal/pgserver"
)

// decisions are Jumio's, marked so that they differ without colours too.
var decisions = map[string]struct{ mark, colour string }{
	"PASSED":   {"  ", green},
	"WARNING":  {"! ", yellow},
	"REJECTED": {"X ", red},
}

// print writes the table, the reasons of decisions, what became of difficult
// journeys, an image, and the rejected callback: 80 columns at most.
func (d *demo) print(r *report) error {
	out := d.Out
	const columns = "%-9s %-15s %-15s %s %-12s %3s %3s %5s\n"
	fmt.Fprintf(out, "\n"+columns, "USER", "DOCUMENT", "STATUS", "  DECISION", "RETRIEVAL", "IMG", "TRY", "MS")
	for _, row := range r.rows {
		milliseconds := "-"
		if row.Milliseconds != nil {
			milliseconds = strconv.FormatInt(*row.Milliseconds, 10)
		}
		fmt.Fprintf(out, columns, row.UserReference, cmp.Or(row.Document, "-"), row.Status, d.decision(row.Decision),
			row.State, strconv.Itoa(len(row.Images)), strconv.Itoa(row.Attempts), milliseconds)
	}
	fmt.Fprint(out, "DECISION is Jumio's own. IMG: images, TRY: attempts, MS: callback to result.\n\nNot passed:\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range r.rows {
		if len(row.Reasons) > 0 {
			fmt.Fprintf(w, "  %s\t%s\n", row.UserReference, strings.Join(row.Reasons, ", "))
		}
	}
	_ = w.Flush() // as with other output: nobody is left to tell
	fmt.Fprint(out, "\nMade difficult:\n")
	for i, j := range r.journeys {
		if j.Note != "" {
			state, cause := r.row(r.expected[i].WorkflowExecutionID).outcome()
			fmt.Fprintf(out, "  %s  %-45s  %s\n", userReference(i), j.Note, state)
			if cause != "" {
				fmt.Fprintf(out, "             %s\n", cause)
			}
		}
	}
	if err := d.printImage(r); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nRejected:\n  %s  %d, %s: a forged TOKEN_EXPIRED\n  for %s, said to come from Jumio's %s\n",
		cmp.Or(r.rejected.Address, "-"), r.forged.status, cmp.Or(r.rejected.Reason, "not kept"), userReference(0), jumioAddress)
	return nil
}

// decision is ten columns wide.
func (d *demo) decision(decision string) string {
	style := decisions[decision]
	text := fmt.Sprintf("%-10s", cmp.Or(style.mark, "  ")+cmp.Or(decision, "-"))
	if !d.terminal.colours || style.colour == "" {
		return text
	}
	return style.colour + text + reset
}

// outcome is what became of a journey, and why if it failed.
func (r *row) outcome() (state, cause string) {
	if r == nil {
		return "not received", ""
	}
	return r.State, r.Error
}

// printFurther tells how to look inside while everything is up.
func (d *demo) printFurther() {
	dsn, end := `"$DATABASE_URL"`, "Ctrl-C ends it; the rows stay in the database."
	switch {
	case d.private != nil:
		dsn, end = "'"+d.dsn+"'", "Ctrl-C ends it and removes everything."
	case !slices.ContainsFunc(d.Environ, func(v string) bool { return strings.HasPrefix(v, "DATABASE_URL=") && v != "DATABASE_URL=" }):
		dsn = `"$(cat "$DATABASE_URL_FILE")"`
	}
	fmt.Fprintf(d.Out, `
Look further:
  the database
    %[1]s \
      %[2]s
    SELECT capability, decision_type, decision_label, count(*)
      FROM jumio.capabilities GROUP BY 1, 2, 3;
    SELECT type, issuing_country, first_name, last_name, expiry_date
      FROM jumio.extracted_documents;
  the metrics
    curl -s %[3]s | grep ^callbackd_
  Jumio's side: people, documents and what was asked for, in a browser
    %[4]s/_sandbox/
  one journey more
    curl -d '{"callback_url":"%[5]s"}' \
      %[4]s/_sandbox/journeys
  the log
    %[6]s

%[7]s
`, psqlProgram(), dsn, "http://"+d.instance.AdminListener().Addr().String()+"/metrics", d.sandbox.URL(), d.callbackURL, d.logPath(), end)
}

// psqlProgram is psql, or where it is when it is not in PATH.
func psqlProgram() string {
	if _, err := exec.LookPath("psql"); err == nil {
		return "psql"
	}
	if dir, err := pgserver.Find(); err == nil {
		if path, err := exec.LookPath(filepath.Join(dir, "psql")); err == nil {
			return path
		}
	}
	return "psql"
}
