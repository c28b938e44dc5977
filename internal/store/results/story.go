package results

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype/zeronull"

	"callbackd/internal/store"
)

// Story is what is known of a verification.
type Story struct {
	WorkflowExecutionID string `db:"workflow_execution_id"`
	AccountID           string `db:"account_id"`
	UserReference       string `db:"user_reference"` // without our signature
	DefinitionKey       string `db:"definition_key"`
	// Stage is that of jumio.verifications, or StageUnknown.
	Stage             string    `db:"stage"`
	Status            string    `db:"status"`
	RetrievalState    string    `db:"retrieval_state"`
	RetrievalError    string    `db:"retrieval_error"`
	RetrievalAttempts int64     `db:"retrieval_attempts"`
	DecisionType      string    `db:"decision_type"`
	ReasonCapability  string    `db:"reason_capability"`
	ReasonLabel       string    `db:"reason_label"`
	LastCallbackAt    time.Time `db:"last_callback_at"`
	PendingSince      time.Time `db:"pending_since"`
	ExpectedAt        time.Time `db:"expected_at"`
	NextAskAt         time.Time `db:"next_ask_at"`
	// Entries are in the order of time.
	Entries []StoryEntry
}

// StoryEntry is one thing that has happened.
type StoryEntry struct {
	At time.Time `db:"at"`
	// What is expected, callback, callback_rejected, asked, retrieval_begun, images, or the
	// type of an event other than callback_received.
	What   string `db:"what"`
	Detail string `db:"detail"` // empty for none
}

var (
	storyRow      = store.RowOf[Story]()
	storyEntryRow = store.RowOf[StoryEntry]()
)

// StageUnknown is the stage of a verification of which there are only callbacks: rejected
// ones, which anybody may have sent, or some that no worker has taken in yet.
const StageUnknown = "unknown"

// StoryKey is what stories are looked up by.
type StoryKey string

// The keys of stories. A user reference is found with our signature and without.
const (
	ByWorkflowExecution StoryKey = "workflow_execution_id"
	ByAccount           StoryKey = "account_id"
	ByUserReference     StoryKey = "user_reference"
)

const (
	// mostStories bounds what Stories returns, mostEntries the callbacks of each.
	mostStories, mostEntries = 100, 1000

	selectStories = `
		SELECT i.workflow_execution_id, w.account_id, w.user_reference_unsigned, w.definition_key,
			CASE WHEN w.workflow_execution_id IS NULL THEN '` + StageUnknown + `' ELSE callbackd.stage(w.erased_at, w.details_id, w.retrieval_state, w.overdue_at, w.status) END,
			w.status, w.retrieval_state, w.retrieval_error, coalesce(w.retrieval_attempts, 0), w.decision_type, w.reason_capability, w.reason_label,
			w.last_callback_at, CASE WHEN w.retrieval_state = 'pending' THEN w.retrieval_received_at END, w.expected_at, e.next_ask_at
		FROM (%s) AS i (workflow_execution_id)
		LEFT JOIN callbackd.workflow_executions AS w USING (workflow_execution_id) LEFT JOIN callbackd.expectations AS e USING (workflow_execution_id)
		ORDER BY coalesce(w.expected_at, w.first_callback_at), i.workflow_execution_id LIMIT $2`

	// selectStory's rank orders what has the same time. All attempts of the latest retrieval
	// are one entry, since only their number is kept.
	selectStory = `
		SELECT at, what, detail FROM (
			SELECT 1 AS rank, expected_at AS at, 'expected' AS what, concat_ws(', ', 'in ' || data_center, 'definition ' || definition_key,
				'deadline ' || to_char(deadline_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')) AS detail
			FROM callbackd.expectations WHERE workflow_execution_id = $1 AND expected_at IS NOT NULL
			UNION ALL
			(SELECT 2, received_at, 'callback_rejected', left(reason, 64) FROM callbackd.rejected_callbacks WHERE workflow_execution_id = $1 ORDER BY rejected_id DESC LIMIT $2)
			UNION ALL
			(SELECT 3, received_at, 'callback', left(workflow_status, 64) FROM callbackd.callbacks WHERE workflow_execution_id = $1 ORDER BY callback_id DESC LIMIT $2)
			UNION ALL
			SELECT 4, last_asked_at, 'asked', asked_count || ' in all' FROM callbackd.expectations
			WHERE workflow_execution_id = $1 AND last_asked_at IS NOT NULL
			UNION ALL
			SELECT 5, retrieval_received_at, 'retrieval_begun', concat_ws(', ', 'attempts: ' || retrieval_attempts, 'the last failed: ' || retrieval_error)
			FROM callbackd.workflow_executions WHERE workflow_execution_id = $1 AND retrieval_received_at IS NOT NULL
			UNION ALL
			SELECT 6, max(retrieved_at), 'images', count(*)::text FROM callbackd.images WHERE workflow_execution_id = $1 AND published HAVING count(*) > 0
			UNION ALL
			(SELECT 6 + event_id, occurred_at, type, CASE WHEN type = 'details_retrieved' THEN decision_type WHEN type = 'retrieved' THEN nullif(retrieval_state, 'retrieved') END
			FROM callbackd.events WHERE workflow_execution_id = $1 AND type <> 'callback_received' ORDER BY event_id DESC LIMIT $2)
		) AS entries ORDER BY at, rank`
)

// A rejected callback may be a stranger's, so whichStories lets it say of no known
// verification whose it is.
var whichStories = map[StoryKey]string{
	ByWorkflowExecution: `SELECT $1`,
	ByAccount:           `SELECT workflow_execution_id FROM callbackd.workflow_executions WHERE account_id = $1`,
	ByUserReference: `SELECT workflow_execution_id FROM callbackd.workflow_executions WHERE user_reference = $1
		UNION SELECT workflow_execution_id FROM callbackd.workflow_executions WHERE user_reference_unsigned = $1
		UNION SELECT workflow_execution_id FROM callbackd.rejected_callbacks AS r WHERE user_reference = $1 AND workflow_execution_id IS NOT NULL
			AND NOT EXISTS (SELECT FROM callbackd.workflow_executions AS w WHERE w.workflow_execution_id = r.workflow_execution_id)`,
}

// Stories returns what is known of one verification, or of all of an account or of a
// person: at most 100, the oldest first, those of StageUnknown last. It is empty if nothing
// is known.
func (s *Store) Stories(ctx context.Context, by StoryKey, value string) ([]*Story, error) {
	const doing = "read what is known of verifications"
	rows, err := s.db.Pool().Query(ctx, fmt.Sprintf(selectStories, whichStories[by]), value, mostStories)
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Story, error) {
		story, err := storyRow.Scan(row)
		return &story, err
	})
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	for _, story := range list {
		if err := s.readEntries(ctx, story); err != nil {
			return nil, store.Translate(doing, err)
		}
	}
	return slices.DeleteFunc(list, func(story *Story) bool { return story.Stage == StageUnknown && len(story.Entries) == 0 }), nil
}

func (s *Store) readEntries(ctx context.Context, story *Story) error {
	rows, err := s.db.Pool().Query(ctx, selectStory, story.WorkflowExecutionID, mostEntries)
	if err != nil {
		return err
	}
	story.Entries, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (StoryEntry, error) { return storyEntryRow.Scan(row) })
	return err
}

// Place is where a workflow execution is said to be.
type Place struct {
	Address
	DataCenter string
	// State is that of the retrieval.
	State string
}

// Place returns where a workflow execution is said to be; the zero Place if it is unknown.
func (s *Store) Place(ctx context.Context, workflowExecutionID string) (p Place, err error) {
	into := append(addressRow.Into(&p.Address), (*zeronull.Text)(&p.DataCenter), (*zeronull.Text)(&p.State))
	err = s.db.Pool().QueryRow(ctx, `
		SELECT `+addressRow.Columns("w.")+`, w.data_center, w.retrieval_state
		FROM (VALUES (1)) AS one LEFT JOIN callbackd.workflow_executions AS w ON w.workflow_execution_id = $1`, workflowExecutionID).Scan(into...)
	return p, store.Translate("look for a workflow execution", err)
}
