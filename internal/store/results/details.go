package results

import (
	"context"
	"encoding/binary"
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
	// UserReferenceUnsigned is the details' userReference without our signature.
	UserReferenceUnsigned string
}

// NewReading returns a Reading of details. The key is that of signed user references; empty
// if there is none.
func NewReading(body []byte, parsed *details.Details, key string) *Reading {
	return &Reading{Body: body, Parsed: parsed, UserReferenceUnsigned: callback.UnsignedReference(key, parsed.UserReference)}
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
	IsFirst bool `db:"is_first"`
}

var (
	credentialRow = store.RowOf[details.Credential]()
	capabilityRow = store.RowOf[details.Capability]()
	documentRow   = store.RowOf[document]()

	insertCredentials  = insertRead(credentialRow, "credentials", "details_id", "$1::uuid")
	insertCapabilities = insertRead(capabilityRow, "capabilities", "details_id", "$1::uuid")
	insertDocuments    = insertRead(documentRow, "extracted_documents", "details_id, workflow_execution_id", "$1::uuid, $2::text")
)

// insertRead returns an INSERT of rows into a typed table, after columns of its own.
func insertRead[T any](r *store.Row[T], table, columns, parameters string) string {
	before := 1
	if columns != "details_id" {
		before++
	}
	return "INSERT INTO callbackd." + table + " (" + columns + ", " + r.Written() + ")" +
		" SELECT " + parameters + ", " + r.Selected("n") + " FROM " + r.Unnest("n", before)
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
		Decision: details.Decide(d),
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
	if earlier.ID != uuid.Nil {
		batch.Queue(`SELECT callbackd.remove_details(ARRAY[$1::uuid])`, earlier.ID)
	}
	if earlier.Unread {
		batch.Queue(`DELETE FROM callbackd.workflow_details WHERE workflow_execution_id = $1`, workflowExecutionID)
	}
	batch.Queue(insertDetails, id, workflowExecutionID, generation, jsonb, r.Body)
	queueRead(batch, id, workflowExecutionID, r)
}

// queueRead queues the statements that store what was read from details.
func queueRead(batch *pgx.Batch, id uuid.UUID, workflowExecutionID string, r *Reading) {
	if list := pointers(r.Parsed.Credentials); len(list) > 0 {
		batch.Queue(insertCredentials, append([]any{id}, credentialRow.Arrays(list)...)...)
	}
	if list := pointers(r.Parsed.Capabilities); len(list) > 0 {
		batch.Queue(insertCapabilities, append([]any{id}, capabilityRow.Arrays(list)...)...)
	}
	documents := make([]*document, len(r.Parsed.Documents))
	for i := range documents {
		documents[i] = &document{&r.Parsed.Documents[i], i == 0}
	}
	if len(documents) > 0 {
		batch.Queue(insertDocuments, append([]any{id, workflowExecutionID}, documentRow.Arrays(documents)...)...)
	}
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
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli()))
	copy(id[:6], ms[2:])
	return id, nil
}
