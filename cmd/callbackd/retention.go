package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"callbackd/internal/app"
	"callbackd/internal/config"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

const retentionPlanHelp = `Counts what CALLBACKD_RETENTION would delete, and says when: by class, workflow
definition and month, that of the time from which it counts (UTC). It deletes nothing. What is
past due goes when a worker looks next, within five minutes.

Not counted is what is spared: workflow executions under a legal hold, and accounts whose
relationship lasts. Events that a named consumer has not handled are counted, but stay until
it has.

It reads all rows of the classes that have a rule: about 10 s of Postgres' processor time for
a million rows, of which a verification with three images has about nine.

Needs DATABASE_URL, and CALLBACKD_RETENTION as the workers have it: without it nothing goes.`

func newRetentionCommand(p *process) *cobra.Command {
	retention := &cobra.Command{Use: "retention", Short: "Shows for how long data is kept"}
	var asJSON bool
	plan := &cobra.Command{
		Use:   "plan",
		Short: "Prints what is to be deleted, and when",
		Long:  retentionPlanHelp,
		Example: `  CALLBACKD_RETENTION=images=6mo,biometrics=30d,results=5y callbackd retention plan
  callbackd retention plan --json`,
		RunE: func(c *cobra.Command, _ []string) error {
			rules, err := config.Retention(p.environ)
			if err != nil {
				return err
			}
			return withSchema(c, p, func(db *store.DB) error {
				now := time.Now()
				plan, err := results.New(db).PlanRetention(c.Context(), results.Retention{Rules: app.RetentionRules(rules), Now: now})
				if err != nil {
					return err
				}
				if asJSON {
					return writePlanJSON(p.stdout, plan)
				}
				value, err := config.Lookup(p.environ, "CALLBACKD_RETENTION")
				if err != nil {
					return err
				}
				return writePlan(p.stdout, plan, value, now)
			})
		},
	}
	plan.Flags().BoolVar(&asJSON, "json", false, "one JSON array")
	retention.AddCommand(plan)
	return retention
}

func writePlanJSON(out io.Writer, plan []results.PlannedRetention) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(plan)
}

// writePlan prints the plan as a table for an auditor.
func writePlan(out io.Writer, plan []results.PlannedRetention, setting string, now time.Time) error {
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	if _, err := fmt.Fprintf(out, "Retention plan of %s\nCALLBACKD_RETENTION=%s\n\n", at(now), setting); err != nil {
		return err
	}
	if len(plan) == 0 {
		_, err := fmt.Fprintln(out, "Nothing that is stored is to be deleted.")
		return err
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CLASS\tDEFINITION\tMONTH\tROWS\tDUE FROM\tDUE UNTIL\t")
	for _, row := range plan {
		definition := "-"
		if row.DefinitionKey != nil {
			definition = strconv.QuoteToGraphic(*row.DefinitionKey)
			definition = definition[1 : len(definition)-1]
		}
		note := ""
		switch {
		case !row.DueUntil.After(now):
			note = "due"
		case !row.DueFrom.After(now):
			note = "partly due"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", row.Class, definition, row.Month, row.Rows, at(row.DueFrom), at(row.DueUntil), note)
	}
	return table.Flush()
}
