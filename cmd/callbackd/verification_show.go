package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"callbackd/internal/store"
	"callbackd/internal/store/results"
)

const showHelp = `Shows all that is known of one verification, or of all of an account or of a
person, in the order of time, and in plain words what it waits for now. A user
reference is found with our signature and without.

Exits 1 if nothing is known, and says what that can mean.

Needs DATABASE_URL.`

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
			by, value, err := storyKey(args, account, reference)
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
				write := writeStory
				if asJSON {
					write = writeStoryJSON
				}
				for _, story := range stories {
					if err := write(p.stdout, story, time.Now()); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	show.Flags().StringVar(&account, "account-id", "", "all verifications of this account")
	show.Flags().StringVar(&reference, "user-reference", "", "all verifications of this person")
	show.Flags().BoolVar(&asJSON, "json", false, "one JSON object for each verification, one a line")
	return show
}

// storyKey wants one of the three.
func storyKey(args []string, account, reference string) (by results.StoryKey, value string, err error) {
	named := 0
	for _, k := range []struct {
		by    results.StoryKey
		value string
	}{{results.ByWorkflowExecution, strings.Join(args, "")}, {results.ByAccount, account}, {results.ByUserReference, reference}} {
		if k.value != "" {
			by, value = k.by, k.value
			named++
		}
	}
	if named != 1 {
		return "", "", errors.New("name either a WORKFLOW_EXECUTION_ID, or --account-id, or --user-reference")
	}
	return by, value, nil
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

// writeStory writes one line for each entry, and one for what is now.
func writeStory(w io.Writer, s *results.Story, now time.Time) error {
	for _, e := range s.Entries {
		if err := writeEntry(w, e.At, s, describeEntry(e)); err != nil {
			return err
		}
	}
	return writeEntry(w, now, s, "now "+s.Stage+": "+waitsFor(s))
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
	"asked":                     "Jumio asked",
	"images":                    "images stored, the last of",
	"missed_callback_recovered": "no callback had come; Jumio was asked, and it has ended",
	"details_retrieved":         "details and decision readable",
	"retrieved":                 "retrieval done",
	"retrieval_failed":          "retrieval failed",
	"expired":                   "expired",
	"overdue":                   "overdue: no final callback, and Jumio knows of no end",
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

// waitsFor says in plain words what a verification waits for, and since when.
func waitsFor(s *results.Story) string {
	since := func(at time.Time) string {
		if at.IsZero() {
			return ""
		}
		return " since " + at.UTC().Format(time.RFC3339)
	}
	asks := ""
	if !s.NextAskAt.IsZero() {
		asks = "; Jumio is asked at " + s.NextAskAt.UTC().Format(time.RFC3339)
	}
	failure := ""
	if s.RetrievalError != "" {
		failure = ", " + s.RetrievalError
	}
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
			return fmt.Sprintf("waits for its details%s: %d attempts%s", since(s.PendingSince), s.RetrievalAttempts, failure)
		}
		return "waits for Jumio's decision" + since(begun) + asks
	case "decided":
		text := s.DecisionType
		if text == "" {
			text = "without a decision"
		}
		if s.ReasonCapability != "" {
			text += " because of " + s.ReasonCapability + " " + s.ReasonLabel
		}
		switch s.RetrievalState {
		case "pending":
			text += fmt.Sprintf("; waits for images%s: %d attempts%s", since(s.PendingSince), s.RetrievalAttempts, failure)
		case "partial":
			text += "; an image is unavailable" + failure
		}
		return text
	case "failed":
		return "its details could not be retrieved" + failure + "; `callbackd refetch` tries again"
	case "expired":
		return "the person did not finish in time; start another one"
	case "overdue":
		return "waits for nothing: ask the person, and look at Jumio's portal; a callback that comes after all is taken in"
	}
	return "nothing is kept"
}

// writeStoryJSON writes one line.
func writeStoryJSON(w io.Writer, s *results.Story, _ time.Time) error {
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
		RetrievalState      string  `json:"retrieval_state"`
		RetrievalAttempts   int64   `json:"retrieval_attempts"`
		RetrievalError      string  `json:"retrieval_error,omitempty"`
		DecisionType        string  `json:"decision_type,omitempty"`
		ReasonCapability    string  `json:"reason_capability,omitempty"`
		ReasonLabel         string  `json:"reason_label,omitempty"`
		WaitsFor            string  `json:"waits_for"`
		Story               []entry `json:"story"`
	}{
		s.WorkflowExecutionID, s.AccountID, s.UserReference, s.DefinitionKey, s.Stage, s.Status, s.RetrievalState, s.RetrievalAttempts,
		s.RetrievalError, s.DecisionType, s.ReasonCapability, s.ReasonLabel, waitsFor(s), entries,
	})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", line)
	return err
}
