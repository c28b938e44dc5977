package storetest

import (
	"context"
	"crypto/sha256"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"callbackd/internal/callback"
	"callbackd/internal/details"
	"callbackd/internal/store/results"
	"callbackd/internal/workflow"
)

// Callback returns a callback of the workflow execution with the status PROCESSED.
func Callback(id string) *callback.Callback {
	return &callback.Callback{
		ID: uuid.Must(uuid.NewV7()), ReceivedAt: time.Now().Truncate(time.Microsecond), SourceIP: netip.MustParseAddr("34.202.241.227"),
		ContentType: "application/json", Body: []byte(`{"workflowExecution":{"id":"` + id + `"}}`), WorkflowExecutionID: id,
		WorkflowStatus: workflow.StatusProcessed,
	}
}

// Insert inserts callbacks.
func Insert(tb testing.TB, s *Store, list ...*callback.Callback) {
	tb.Helper()
	for _, c := range list {
		if err := s.InsertCallback(tb.Context(), c); err != nil {
			tb.Fatalf("insert a callback: %v", err)
		}
	}
}

// Query runs one statement and returns every row's columns.
func Query(tb testing.TB, s *Store, sql string, args ...any) [][]any {
	tb.Helper()
	rows, err := s.Pool().Query(context.Background(), sql, args...)
	if err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) ([]any, error) { return r.Values() })
	if err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return list
}

// Scalar runs a statement that returns one value.
func Scalar[T any](tb testing.TB, s *Store, sql string, args ...any) T {
	tb.Helper()
	var v T
	if err := s.Pool().QueryRow(context.Background(), sql, args...).Scan(&v); err != nil {
		tb.Fatalf("%s: %v", sql, err)
	}
	return v
}

// Claim begins a retrieval and takes its lease.
func Claim(tb testing.TB, s *Store, id string) *results.Lease {
	tb.Helper()
	l := Claimable(tb, s, id)
	if _, err := s.ClaimRetrieval(tb.Context(), l, time.Minute); err != nil {
		tb.Fatalf("claim: %v", err)
	}
	return l
}

// Claimable begins a retrieval and returns a lease to claim.
func Claimable(tb testing.TB, s *Store, id string) *results.Lease {
	tb.Helper()
	l := &results.Lease{Retrieval: workflow.Retrieval{WorkflowExecutionID: id}, Token: uuid.New()}
	l.Generation = Scalar[int](tb, s, `
		INSERT INTO callbackd.workflow_executions AS w (workflow_execution_id, retrieval_state, retrieval_generation)
		VALUES ($1, 'pending', 1) ON CONFLICT (workflow_execution_id) DO UPDATE
		SET retrieval_state = 'pending', retrieval_generation = w.retrieval_generation + 1, retrieval_attempts = 0 RETURNING retrieval_generation`, id)
	return l
}

// Finish stores an attempt's outcome.
func Finish(tb testing.TB, s *Store, l *results.Lease, o results.Outcome) {
	tb.Helper()
	if err := s.FinishAttempt(tb.Context(), l, o, Complete); err != nil {
		tb.Fatalf("finish: %v", err)
	}
}

// Complete is FinishAttempt's complete for a test without a job.
func Complete(*results.Tx) error { return nil }

// Outcome returns the outcome of a retrieval that ended in state, with details unless
// they are empty.
func Outcome(state workflow.RetrievalState, details string) results.Outcome {
	o := results.Outcome{Conclusion: workflow.Conclusion{Outcome: state, State: state}}
	if details != "" {
		o.Read = Reading(details)
		o.Identity = o.Read.Identity()
	}
	return o
}

// Reading returns what is read from details.
func Reading(body string) *results.Reading {
	return results.NewReading([]byte(body), details.Parse([]byte(body)), "")
}

// SeedDetails stores details as a retrieval does.
func SeedDetails(tb testing.TB, s *Store, id, details string) {
	tb.Helper()
	o := Outcome(workflow.Retrieved, "")
	o.Read = Reading(details)
	o.Identity = o.Read.Identity()
	Finish(tb, s, Claim(tb, s, id), o)
}

// Stage stages an image of the credential "c".
func Stage(tb testing.TB, s *Store, l *results.Lease, classifier, content string) {
	tb.Helper()
	img := image(classifier, content)
	img.StoredIn = results.InDatabase
	err := s.StageImage(tb.Context(), l, uuid.Must(uuid.NewV7()), img, strings.NewReader(content), int64(len(content)))
	if err != nil {
		tb.Fatalf("stage %s: %v", classifier, err)
	}
}

// StageObject stages an image of the credential "c" whose bytes are in an image store, as
// far as the database knows.
func StageObject(tb testing.TB, s *Store, l *results.Lease, classifier, content, objectKey string) {
	tb.Helper()
	img := image(classifier, content)
	img.ImagePlace = results.ImagePlace{StoredIn: "file", ObjectKey: objectKey}
	if err := s.BeginUpload(tb.Context(), l, img.ImagePlace); err != nil {
		tb.Fatalf("stage %s: %v", classifier, err)
	}
	if err := s.StageObject(tb.Context(), l, uuid.Must(uuid.NewV7()), img); err != nil {
		tb.Fatalf("stage %s: %v", classifier, err)
	}
}

func image(classifier, content string) *results.Image {
	return &results.Image{
		PartKey: results.PartKey{CredentialID: "c", Classifier: classifier}, AccountID: "a", Category: "ID", ContentType: "image/jpeg",
		SizeBytes: int64(len(content)), SHA256: sha256.Sum256([]byte(content)), Width: 8, Height: 5,
	}
}
