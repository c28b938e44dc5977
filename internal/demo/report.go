package demo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"callbackd/internal/sandbox"
)

// progressQuery counts this run alone: an earlier one with the same seed had the
// same ids. $3 are those whose callbacks are lost.
const progressQuery = `
SELECT (SELECT count(DISTINCT workflow_execution_id) FROM jumio.callbacks
        WHERE workflow_execution_id = ANY($1::text[]) AND received_at >= $2),
       (SELECT count(*) FROM jumio.workflow_executions
        WHERE workflow_execution_id = ANY($1::text[]) AND (last_callback_at >= $2 OR workflow_execution_id = ANY($3::text[]))
          AND retrieval_state IN ('retrieved', 'partial', 'failed', 'not_required')),
       (SELECT count(*) FROM jumio.images WHERE workflow_execution_id = ANY($1::text[]))`

// reportQuery gives each verification's decision and its reason.
const reportQuery = `
SELECT v.workflow_execution_id, coalesce(v.user_reference, ''), coalesce(v.document_type, ''), coalesce(v.status, ''),
       coalesce(v.decision_type, ''), coalesce(v.reason_capability || ' ' || v.reason_label, ''), coalesce(l.meaning, ''),
       v.retrieval_state, coalesce(w.retrieval_error, ''), w.retrieval_attempts,
       ARRAY(SELECT credential_id || ' ' || classifier || ' ' || encode(sha256, 'hex')
             FROM jumio.images AS i WHERE i.workflow_execution_id = v.workflow_execution_id),
       (extract(epoch FROM result.at - callback.at) * 1000)::bigint,
       x.state, x.asked_count, coalesce(extract(epoch FROM x.answered_at - x.expected_at), 0)::float8
FROM jumio.verifications AS v
JOIN jumio.workflow_executions AS w USING (workflow_execution_id)
JOIN jumio.expectations AS x USING (workflow_execution_id)
LEFT JOIN jumio.labels AS l ON l.capability = v.reason_capability AND l.label = v.reason_label
LEFT JOIN LATERAL (
    SELECT min(b.received_at) AS at
    FROM jumio.callbacks AS b WHERE b.workflow_execution_id = v.workflow_execution_id
      AND b.received_at >= $2 AND b.workflow_status NOT IN ('ACQUISITION_STARTED', 'ACQUIRED')) AS callback ON true
LEFT JOIN LATERAL (
    SELECT max(e.occurred_at) AS at
    FROM jumio.events AS e WHERE e.workflow_execution_id = v.workflow_execution_id
      AND e.type <> 'callback_received') AS result ON true
WHERE v.workflow_execution_id = ANY($1::text[]) AND (v.last_callback_at >= $2 OR v.workflow_execution_id = ANY($3::text[]))
ORDER BY array_position($1::text[], v.workflow_execution_id)`

// imageQuery takes a face, which is drawn best.
const imageQuery = `
SELECT workflow_execution_id, classifier, content_type, width, height, sha256, data FROM jumio.images
WHERE workflow_execution_id = ANY($1::text[])
ORDER BY classifier <> 'FACE', array_position($1::text[], workflow_execution_id) LIMIT 1`

const rejectedQuery = `SELECT host(source_ip), reason FROM jumio.rejected_callbacks WHERE rejected_id = $1`

// row is one journey, in the order of reportQuery's columns.
type row struct {
	ID, UserReference, Document, Status, Decision string
	Reason, Meaning                               string // capability and label, and what that means
	State, Error                                  string
	Attempts                                      int
	Images                                        []string // credential, classifier and SHA-256 of each
	Milliseconds                                  *int64   // nil without a callback or a result
	Expectation                                   string   // its state
	Asked                                         int      // how often Jumio was asked
	Seconds                                       float64  // from the start to the answer
}

// storedImage is an image out of the database, in the order of imageQuery's columns.
type storedImage struct {
	WorkflowExecutionID, Classifier, ContentType string
	Width, Height                                int
	SHA256, Data                                 []byte
}

// rejectedCallback is what is kept of a rejected callback.
type rejectedCallback struct{ Address, Reason string }

// report is what the database holds of this run, and what it should hold.
type report struct {
	journeys []Journey
	expected []sandbox.Entry // of the same journeys
	rows     []row
	image    *storedImage // nil if there is none
	forged   forgery
	rejected rejectedCallback // empty if it was not kept
}

// count says how far the journeys have come since began.
func (d *demo) count(ctx context.Context, ids []string, began time.Time) (now counts, err error) {
	err = d.pool.QueryRow(ctx, progressQuery, ids, began, d.lost(ids)).Scan(&now.received, &now.finished, &now.images)
	if err != nil {
		return now, fmt.Errorf("count what has arrived: %w", err)
	}
	return now, nil
}

func (d *demo) readReport(ctx context.Context, ids []string, began time.Time, forged forgery) (*report, error) {
	r := &report{journeys: d.Journeys, expected: d.sandbox.Ledger().Journeys[:len(d.Journeys)], forged: forged}
	rows, err := d.pool.Query(ctx, reportQuery, ids, began, d.lost(ids))
	if err == nil {
		r.rows, err = pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	}
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	received := make([]string, len(r.rows)) // an earlier run's images may be there
	for i, row := range r.rows {
		received[i] = row.ID
	}
	rows, err = d.pool.Query(ctx, imageQuery, received)
	if err == nil {
		r.image, err = pgx.CollectExactlyOneRow(rows, pgx.RowToAddrOfStructByPos[storedImage])
	}
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read an image: %w", err)
	}
	err = d.pool.QueryRow(ctx, rejectedQuery, forged.requestID).Scan(&r.rejected.Address, &r.rejected.Reason)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("read the rejected callback: %w", err)
	}
	return r, nil
}

// row finds a journey's row; nil when nothing of it was received.
func (r *report) row(id string) *row {
	i := slices.IndexFunc(r.rows, func(r row) bool { return r.ID == id })
	if i < 0 {
		return nil
	}
	return &r.rows[i]
}

// problems names what did not end as it should.
func (r *report) problems() []string {
	var problems []string
	for i, expected := range r.expected {
		journey := r.journeys[i]
		name := fmt.Sprintf("%s (%s)", userReference(i), journey.Kind)
		want := make([]string, len(expected.Expected.Images))
		for n, image := range expected.Expected.Images {
			want[n] = image.CredentialID + " " + image.Classifier + " " + image.SHA256
		}
		slices.Sort(want)
		switch row := r.row(expected.WorkflowExecutionID); {
		case row == nil:
			problems = append(problems, name+" was not received")
		case journey.isLost() && row.Expectation != "recovered":
			problems = append(problems, name+" was not recovered")
		case row.State != string(expected.Expected.State):
			problems = append(problems, fmt.Sprintf("%s is %s instead of %s", name, row.State, expected.Expected.State))
		case !slices.Equal(want, slices.Sorted(slices.Values(row.Images))):
			problems = append(problems, name+" has other images than the stand-in served")
		}
	}
	if r.image != nil && !r.image.intact() {
		problems = append(problems, "an image's bytes do not have its SHA-256")
	}
	switch {
	case r.forged.status != http.StatusForbidden:
		problems = append(problems, fmt.Sprintf("the forged callback got %d", r.forged.status))
	case r.rejected.Address != forgerAddress:
		problems = append(problems, fmt.Sprintf("the forged callback got 403, kept as from %q", r.rejected.Address))
	}
	return problems
}

// intact says whether the bytes have the SHA-256 that the view shows. That it is
// the stand-in's too is compared for every image.
func (i *storedImage) intact() bool {
	sum := sha256.Sum256(i.Data)
	return bytes.Equal(sum[:], i.SHA256)
}
