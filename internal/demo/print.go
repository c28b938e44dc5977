package demo

import (
	"cmp"
	"fmt"
	"maps"
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
	fmt.Fprint(out, "From jumio.verifications. IMG: images, TRY: attempts, MS: callback to result.\n\nWhy not passed (jumio.labels says what it means):\n")
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	meaning := make(map[string]string)
	for _, row := range r.rows {
		if row.Reason != "" {
			fmt.Fprintf(w, "  %s\t%s\n", row.UserReference, row.Reason)
			meaning[row.Reason] = row.Meaning
		}
	}
	_ = w.Flush() // as with other output: nobody is left to tell
	for _, reason := range slices.Sorted(maps.Keys(meaning)) {
		fmt.Fprint(out, wrap("  "+reason+": ", meaning[reason], 80))
	}
	d.printRecovered(r)
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

// printRecovered shows what became of the journeys whose callbacks are lost.
func (d *demo) printRecovered(r *report) {
	if !slices.ContainsFunc(r.journeys, Journey.isLost) {
		return
	}
	fmt.Fprint(d.Out, "\nCallbacks lost, Jumio asked instead (jumio.expectations):\n")
	for i, j := range r.journeys {
		if row := r.row(r.expected[i].WorkflowExecutionID); row != nil && j.isLost() {
			fmt.Fprintf(d.Out, "  %s  %-9s  %.1f s after its start, asked %d x: %s\n", row.UserReference, row.Expectation, row.Seconds, row.Asked, row.Status)
		}
	}
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
    SELECT stage, decision_type, reason_capability, reason_label
      FROM jumio.verifications WHERE user_reference = '%[8]s';
    SELECT user_reference, reason_label FROM jumio.verifications
      WHERE decision_type = 'REJECTED' ORDER BY details_retrieved_at DESC LIMIT 100;
    SELECT event_id, type, user_reference, decision_type
      FROM jumio.events ORDER BY event_id DESC LIMIT 20;
    SELECT * FROM jumio.expectations WHERE state = 'recovered';
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
`, psqlProgram(), dsn, "http://"+d.instance.AdminListener().Addr().String()+"/metrics", d.sandbox.URL(), d.callbackURL, d.logPath(), end, userReference(0))
}

// wrap breaks a text into indented lines of at most width columns, after a prefix.
func wrap(prefix, text string, width int) string {
	var b strings.Builder
	line := prefix
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > width {
			b.WriteString(strings.TrimRight(line, " ") + "\n")
			line = "    "
		}
		line += word + " "
	}
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	return b.String()
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
