package results

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/callback"
	"callbackd/internal/details"
	"callbackd/internal/store"
)

// Reading is what callbackd reads from a workflow execution's details.
type Reading struct {
	// Body is the details as Jumio sent them.
	Body []byte
	// Parsed is what they say.
	Parsed *details.Details
	// Decision is what has been decided by them.
	Decision details.Decision
	// UserReferenceUnsigned is the details' userReference without our signature.
	UserReferenceUnsigned string
}

// NewReading returns a Reading of details. The key is that of signed user references; empty
// if there is none.
func NewReading(body []byte, parsed *details.Details, key string) *Reading {
	return &Reading{
		Body: body, Parsed: parsed, Decision: details.Decide(parsed),
		UserReferenceUnsigned: callback.UnsignedReference(key, parsed.UserReference),
	}
}

// Identity returns what the details say about a workflow execution, within the limits of
// a callback's fields.
func (r *Reading) Identity() *Identity {
	c := callback.Callback{AccountID: r.Parsed.AccountID, DefinitionKey: r.Parsed.DefinitionKey, UserReference: r.Parsed.UserReference}
	c.Bound()
	return &Identity{
		AccountID: c.AccountID, DefinitionKey: c.DefinitionKey, UserReference: c.UserReference,
		UserReferenceUnsigned: r.UserReferenceUnsigned,
	}
}

// document is an extracted document as it is stored.
type document struct {
	*details.Document
	WorkflowExecutionID string `db:"workflow_execution_id"`
	IsFirst             bool   `db:"is_first"`
}

var (
	credentialRow = store.RowOf[details.Credential]()
	capabilityRow = store.RowOf[details.Capability]()
	documentRow   = store.RowOf[document]()

	insertCredentials  = insertRead(credentialRow, "credentials")
	insertCapabilities = insertRead(capabilityRow, "capabilities")
	insertDocuments    = insertRead(documentRow, "extracted_documents")
)

// insertRead returns an INSERT of rows into a typed table. Its first parameter is the id of
// the details.
func insertRead[T any](r *store.Row[T], table string) string {
	return "INSERT INTO callbackd." + table + " (details_id, " + r.Written() + ")" +
		" SELECT $1::uuid, " + r.Selected("n") + " FROM " + r.Unnest("n", 1)
}

const insertDetails = `
	INSERT INTO callbackd.details (details_id, workflow_execution_id, generation, details, body) VALUES ($1, $2, $3, $4::text::jsonb, $5)`

// readColumns are what a workflow execution shows of what was read.
type readColumns struct {
	DetailsID                 uuid.UUID `db:"details_id"`
	CustomerInternalReference string    `db:"customer_internal_reference"`
	CreatedAt                 time.Time `db:"created_at"`
	StartedAt                 time.Time `db:"started_at"`
	CompletedAt               time.Time `db:"completed_at"`
	JumioDecisionType         string    `db:"jumio_decision_type"`
	JumioDecisionLabel        string    `db:"jumio_decision_label"`
	RiskScore                 string    `db:"risk_score,numeric"`
	details.Decision
}

var readRow = store.RowOf[readColumns]()

func (r *Reading) columns(id uuid.UUID) *readColumns {
	d := r.Parsed
	return &readColumns{
		DetailsID: id, CustomerInternalReference: d.CustomerInternalReference,
		CreatedAt: d.CreatedAt, StartedAt: d.StartedAt, CompletedAt: d.CompletedAt,
		JumioDecisionType: d.DecisionType, JumioDecisionLabel: d.DecisionLabel, RiskScore: d.RiskScore,
		Decision: r.Decision,
	}
}

// stored is where the details of a workflow execution are.
type stored struct {
	// ID is of the row in details; zero if there is none.
	ID uuid.UUID `db:"details_id,readonly"`
	// Unread reports whether they are in workflow_details.
	Unread bool `db:"unread,readonly"`
}

var storedRow = store.RowOf[stored]()

// queueDetails queues the statements that store details, with what was read from them, in
// place of earlier ones. The caller updates the workflow execution (readRow).
func queueDetails(batch *pgx.Batch, id uuid.UUID, workflowExecutionID string, generation int, r *Reading, jsonb *string, earlier stored) {
	queueRemove(batch, earlier.ID)
	if earlier.Unread {
		batch.Queue(`DELETE FROM callbackd.workflow_details WHERE workflow_execution_id = $1`, workflowExecutionID)
	}
	batch.Queue(insertDetails, id, workflowExecutionID, generation, jsonb, r.Body)
	queueRead(batch, id, workflowExecutionID, r)
}

// queueRemove queues the statement that removes details, if there are any, with what was
// read from them.
func queueRemove(batch *pgx.Batch, id uuid.UUID) {
	if id != uuid.Nil {
		batch.Queue(`SELECT callbackd.remove_details(ARRAY[$1::uuid])`, id)
	}
}

// queueRead queues the statements that store what was read from details.
func queueRead(batch *pgx.Batch, id uuid.UUID, workflowExecutionID string, r *Reading) {
	documents := make([]*document, len(r.Parsed.Documents))
	for i := range documents {
		documents[i] = &document{&r.Parsed.Documents[i], workflowExecutionID, i == 0}
	}
	queueRows(batch, insertCredentials, id, credentialRow, pointers(r.Parsed.Credentials))
	queueRows(batch, insertCapabilities, id, capabilityRow, pointers(r.Parsed.Capabilities))
	queueRows(batch, insertDocuments, id, documentRow, documents)
}

func queueRows[T any](batch *pgx.Batch, insert string, id uuid.UUID, row *store.Row[T], list []*T) {
	if len(list) > 0 {
		batch.Queue(insert, append([]any{id}, row.Arrays(list)...)...)
	}
}

// queueShow queues the statement that shows in a workflow execution what was read.
func queueShow(batch *pgx.Batch, id uuid.UUID, workflowExecutionID string, r *Reading, i *Identity) {
	args := append([]any{workflowExecutionID}, identityRow.Values(i)...)
	batch.Queue(showRead, append(args, readRow.Values(r.columns(id))...)...)
}

func pointers[T any](list []T) []*T {
	p := make([]*T, len(list))
	for i := range list {
		p[i] = &list[i]
	}
	return p
}

// compareDetails returns where the details of a workflow execution are, which another
// worker may have moved since the claim, and whether they say the same, whatever the order
// of their members. It locks the workflow execution if there are any.
func (tx *Tx) compareDetails(ctx context.Context, workflowExecutionID string, claimed stored, jsonb *string) (earlier stored, same bool, err error) {
	if claimed == (stored{}) {
		return stored{}, false, nil
	}
	batch := &pgx.Batch{}
	// A statement of its own, so that the next one sees what it has waited for.
	batch.Queue(`SELECT FROM callbackd.workflow_executions WHERE workflow_execution_id = $1 FOR UPDATE`, workflowExecutionID)
	batch.Queue(`
		SELECT w.details_id, o.generation IS NOT NULL, coalesce(o.details, d.details) IS NOT DISTINCT FROM $2::text::jsonb
		FROM callbackd.workflow_executions AS w
		LEFT JOIN callbackd.workflow_details AS o ON o.workflow_execution_id = w.workflow_execution_id
		LEFT JOIN callbackd.details AS d ON d.details_id = w.details_id
		WHERE w.workflow_execution_id = $1`, workflowExecutionID, jsonb).QueryRow(func(row pgx.Row) error {
		return row.Scan(append(storedRow.Into(&earlier), &same)...)
	})
	err = tx.SendBatch(ctx, batch).Close()
	if errors.Is(err, pgx.ErrNoRows) { // deleted since
		return stored{}, false, nil
	}
	return earlier, same, err
}

// withDetails calls f with the details as jsonb text, and again with nil if Postgres
// rejects that after all. f stores the original bytes, too.
func (s *Store) withDetails(r *Reading, f func(jsonb *string) error) error {
	if r == nil {
		return f(nil)
	}
	jsonb := jsonbText(r.Body)
	err := f(jsonb)
	if jsonb != nil && store.BadRow(err) {
		err = f(nil)
	}
	return err
}

// newDetailsID returns the id of details that were stored at a time: a UUIDv7.
func newDetailsID(at time.Time) (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return id, errors.New("make an id for details")
	}
	ms := uuidTime(at)
	copy(id[:], ms[:])
	return id, nil
}
