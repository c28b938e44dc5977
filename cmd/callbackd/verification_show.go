package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"callbackd/internal/callback"
	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

const showHelp = `Shows all that is known of one verification, or of all of an account or of a
person: a line for each thing that happened, in the order of time, and at the end in
plain words what each waits for now. A user reference is found with our signature and
without.

Exits 1 if nothing is known, and says what that can mean.

Needs DATABASE_URL with a worker's role.`

// nothingKnown is what it can mean that callbackd knows nothing.
const nothingKnown = `callbackd knows nothing of %s. That can mean one of five things:
  1. It was never started: the service that starts verifications has no record of a link or token either.
  2. It was started without telling callbackd, and the person has not begun or is not done: Jumio's portal shows it; ` + "`callbackd verification fetch WORKFLOW_EXECUTION_ID`" + ` asks Jumio.
  3. Its callbacks go elsewhere: Jumio's portal, or the callbackUrl of the request, names another address.
  4. Its callbacks were refused: look at ` + "`callbackd rejected list`" + ` and callbackd_callbacks_total{outcome="forbidden"}.
  5. Its callbacks are on their way: a receiver holds them in its spool while Postgres is away (callbackd_spool_bytes), or they wait to be promoted (no worker runs).
`

func newShowCommand(p *process) *cobra.Command {
	var account, reference string
	var asJSON bool
	show := &cobra.Command{
		Use:   "show [WORKFLOW_EXECUTION_ID]",
		Short: "Tells the whole story of one verification, or of all of a person",
		Long:  showHelp,
		Example: `  callbackd verification show 22222222-aaaa-bbbb-cccc-dddddddddddd
  callbackd verification show --user-reference customer-4711
  callbackd verification show --account-id 11111111-aaaa-bbbb-cccc-dddddddddddd --json`,
		RunE: func(c *cobra.Command, args []string) error {
			by, value, err := storyKey(c, args, account, reference)
			if err != nil {
				return wrongUsage(c, err)
			}
			return withSchema(c, p, func(db *store.DB) error {
				stories, err := results.New(db).Stories(c.Context(), by, value)
				if err != nil {
					return err
				}
				if len(stories) == 0 {
					_, _ = fmt.Fprintf(p.stderr, nothingKnown, describeKey(by))
					return errors.New("nothing is known")
				}
				if asJSON {
					return writeStoriesJSON(p.stdout, stories)
				}
				return writeStories(p.stdout, stories, time.Now())
			})
		},
	}
	show.Flags().StringVar(&account, "account-id", "", "all verifications of this account")
	show.Flags().StringVar(&reference, "user-reference", "", "all verifications of this person")
	show.Flags().BoolVar(&asJSON, "json", false, "one JSON object for each verification, one a line")
	return show
}

// storyKey wants one of the three.
func storyKey(c *cobra.Command, args []string, account, reference string) (by results.StoryKey, value string, err error) {
	named := len(args)
	if named > 0 {
		by, value = results.ByWorkflowExecution, args[0]
	}
	for _, f := range []struct {
		flag, value string
		by          results.StoryKey
	}{{"account-id", account, results.ByAccount}, {"user-reference", reference, results.ByUserReference}} {
		if c.Flags().Changed(f.flag) {
			by, value = f.by, f.value
			named++
		}
	}
	switch {
	case named != 1:
		err = errors.New("want one of WORKFLOW_EXECUTION_ID, --account-id and --user-reference")
	case by == results.ByWorkflowExecution && !callback.ValidID(value):
		err = fmt.Errorf("%q is not a workflow execution's id", value)
	case by == results.ByAccount && !callback.ValidID(value):
		err = fmt.Errorf("--account-id: %q is not an account id", value)
	case value == "":
		err = errors.New("--user-reference: it is empty")
	}
	return by, value, err
}

func describeKey(by results.StoryKey) string {
	switch by {
	case results.ByAccount:
		return "a verification of this account"
	case results.ByUserReference:
		return "a verification of this person"
	}
	return "this verification"
}

// writeStories writes one line for each entry of all stories, in the order of time, and
// one for what each is now.
func writeStories(w io.Writer, stories []*results.Story, now time.Time) error {
	type line struct {
		results.StoryEntry
		of *results.Story
	}
	var lines []line
	for _, s := range stories {
		for _, e := range s.Entries {
			lines = append(lines, line{e, s})
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.At.Compare(b.At) })
	for _, l := range lines {
		if err := writeEntry(w, l.At, l.of, describeEntry(l.StoryEntry)); err != nil {
			return err
		}
	}
	for _, s := range stories {
		if err := writeEntry(w, now, s, "now "+s.Stage+": "+standing(s)); err != nil {
			return err
		}
	}
	return nil
}

func writeEntry(w io.Writer, at time.Time, s *results.Story, text string) error {
	quoted := strconv.Quote(text) // a status may be a stranger's text
	_, err := fmt.Fprintf(w, "%s  %s  %s\n", at.UTC().Format(time.RFC3339), s.WorkflowExecutionID, quoted[1:len(quoted)-1])
	return err
}

var entryTexts = map[string]string{
	"expected":                  "started, and expected",
	"callback":                  "callback",
	"callback_rejected":         "callback rejected",
	"asked":                     "Jumio last asked",
	"retrieval_begun":           "retrieval begun",
	"images":                    "images stored",
	"missed_callback_recovered": "recovered: Jumio was asked, and says that it has ended; no callback had said so",
	"details_retrieved":         "details and decision stored",
	"retrieved":                 "retrieval done",
	"retrieval_failed":          "retrieval failed",
	"expired":                   "expired",
	"overdue":                   "overdue: no final callback has come, and Jumio knows of no end",
	"erased":                    "erased",
}

func describeEntry(e results.StoryEntry) string {
	text := e.What
	if known := entryTexts[e.What]; known != "" {
		text = known
	}
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	return text
}

// standing says in plain words how a verification stands: what it waits for, and since
// when, or how it has ended.
func standing(s *results.Story) string {
	asks := ""
	if !s.NextAskAt.IsZero() {
		asks = "; Jumio is asked at " + s.NextAskAt.UTC().Format(time.RFC3339)
	}
	asks += rejections(s)
	begun := s.LastCallbackAt
	if begun.IsZero() {
		begun = s.ExpectedAt
	}
	switch s.Stage {
	case "created":
		return "waits for the person to begin" + since(begun) + asks
	case "started":
		return "waits for the person to finish" + since(begun) + asks
	case "in_review":
		if s.RetrievalState == "pending" {
			return "waits for its details" + since(s.PendingSince) + attempts(s)
		}
		return "waits for Jumio's decision" + since(begun) + asks
	case "decided":
		return decision(s)
	case "failed":
		return "its details could not be retrieved" + attempts(s) + "; `callbackd refetch` tries again"
	case "expired":
		return "the person did not finish in time; start another one"
	case "overdue":
		return "waits for nothing: ask the person, and look at Jumio's portal; a callback that comes after all is taken in" + rejections(s)
	case results.StageUnknown:
		if rejected := rejections(s); rejected != "" {
			return "nothing but rejected callbacks, which anybody may have sent" + rejected + "; `callbackd verification fetch` asks Jumio"
		}
		return "its callbacks wait for a worker to take them in"
	}
	return "nothing is kept"
}

func since(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return " since " + at.UTC().Format(time.RFC3339)
}

// rejections leads to the callbacks that were rejected, if any.
func rejections(s *results.Story) string {
	if !slices.ContainsFunc(s.Entries, func(e results.StoryEntry) bool { return e.What == "callback_rejected" }) {
		return ""
	}
	return "; callbacks were rejected, see `callbackd rejected list`"
}

// attempts says how a retrieval goes that is not done.
func attempts(s *results.Story) string {
	text := fmt.Sprintf(", attempts: %d", s.RetrievalAttempts)
	if s.RetrievalError != "" {
		text += ", the last failed: " + s.RetrievalError
	}
	return text
}

// decision says what Jumio has decided, and whether images are missing.
func decision(s *results.Story) string {
	text := cmp.Or(s.DecisionType, "without a decision")
	if s.ReasonCapability != "" {
		text += " because of " + s.ReasonCapability + " " + s.ReasonLabel
	}
	switch s.RetrievalState {
	case "pending":
		text += "; waits for images" + since(s.PendingSince) + attempts(s)
	case "partial":
		text += "; an image is unavailable"
		if s.RetrievalError != "" {
			text += ", " + s.RetrievalError
		}
	}
	return text
}

// writeStoriesJSON writes one line for each.
func writeStoriesJSON(w io.Writer, stories []*results.Story) error {
	for _, s := range stories {
		if err := writeStoryJSON(w, s); err != nil {
			return err
		}
	}
	return nil
}

func writeStoryJSON(w io.Writer, s *results.Story) error {
	type entry struct {
		At     time.Time `json:"at"`
		What   string    `json:"what"`
		Detail string    `json:"detail,omitempty"`
	}
	entries := make([]entry, len(s.Entries))
	for i, e := range s.Entries {
		entries[i] = entry{e.At.UTC(), e.What, e.Detail}
	}
	line, err := json.Marshal(struct {
		WorkflowExecutionID string  `json:"workflow_execution_id"`
		AccountID           string  `json:"account_id,omitempty"`
		UserReference       string  `json:"user_reference,omitempty"`
		DefinitionKey       string  `json:"definition_key,omitempty"`
		Stage               string  `json:"stage"`
		Status              string  `json:"status,omitempty"`
		RetrievalState      string  `json:"retrieval_state,omitempty"`
		RetrievalAttempts   int64   `json:"retrieval_attempts"`
		RetrievalError      string  `json:"retrieval_error,omitempty"`
		DecisionType        string  `json:"decision_type,omitempty"`
		ReasonCapability    string  `json:"reason_capability,omitempty"`
		ReasonLabel         string  `json:"reason_label,omitempty"`
		Now                 string  `json:"now"`
		Story               []entry `json:"story"`
	}{
		s.WorkflowExecutionID, s.AccountID, s.UserReference, s.DefinitionKey, s.Stage, s.Status, s.RetrievalState, s.RetrievalAttempts,
		s.RetrievalError, s.DecisionType, s.ReasonCapability, s.ReasonLabel, standing(s), entries,
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", line)
	return err
}
