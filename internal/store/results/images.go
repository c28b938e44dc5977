package results

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"callbackd/internal/store"
)

// PartKey identifies an image part within a workflow execution.
type PartKey struct {
	CredentialID string `db:"credential_id,notnull"`
	Classifier   string `db:"classifier,notnull"`
}

// Image is one image part as it was fetched.
type Image struct {
	PartKey
	AccountID   string `db:"account_id"`
	Category    string `db:"category"`
	ContentType string `db:"content_type,notnull"`
	SHA256      [sha256.Size]byte
	// Width and Height are in pixels; 0 if Data is neither JPEG nor PNG.
	Width  int32 `db:"width,zeronull"`
	Height int32 `db:"height,zeronull"`
	Data   []byte
}

// imageRow is an Image as it is stored, without its data.
type imageRow struct {
	Image
	ID                  uuid.UUID `db:"image_id"`
	WorkflowExecutionID string    `db:"workflow_execution_id"`
	SizeBytes           int64     `db:"size_bytes"`
	Digest              []byte    `db:"sha256"`
	RetrievedAt         time.Time `db:"retrieved_at"`
	Generation          int32     `db:"generation"`
	Published           bool      `db:"published"`
}

var (
	imageRows = store.RowOf[imageRow]()
	// FinishAttempt's commit, which waits for the disk, covers the row, too.
	copyImage = "SET LOCAL synchronous_commit = off; " + imageRows.Copy("callbackd.images", "data")
)

// StageImage stores an image that jumio.images does not show yet. FinishAttempt
// publishes it and makes it durable; until then, a crash of the database may lose it.
//
// COPY reads the data straight from img. The driver would copy a parameter of an INSERT
// whole: with eight workers and images of 10 MB, that doubles the worker's memory.
func (s *Store) StageImage(ctx context.Context, l *Lease, img *Image) error {
	const doing = "store an image"
	if len(img.Data) > math.MaxInt32 {
		return fmt.Errorf("%s: %d bytes are more than Postgres accepts", doing, len(img.Data))
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make an image id: %w", err)
	}
	row := imageRows.AppendCopy([]byte(store.CopyHeader), &imageRow{
		Image: *img, ID: id, WorkflowExecutionID: l.WorkflowExecutionID, SizeBytes: int64(len(img.Data)), Digest: img.SHA256[:],
		RetrievedAt: time.Now(), Generation: int32(l.Generation), //nolint:gosec // far below 2^31 retrievals
	}, 1)
	row = binary.BigEndian.AppendUint32(row, uint32(len(img.Data))) //nolint:gosec // bounded above
	conn, err := s.db.Pool().Acquire(ctx)
	if err != nil {
		return store.Translate(doing, err)
	}
	defer conn.Release()
	_, err = conn.Conn().PgConn().CopyFrom(ctx, io.MultiReader(bytes.NewReader(row), bytes.NewReader(img.Data), strings.NewReader(store.CopyTrailer)), copyImage)
	return store.Translate(doing, err)
}

// queuePublishImages makes the staged images visible, the first of their workflow
// execution.
func queuePublishImages(batch *pgx.Batch, l *Lease, o *Outcome) {
	batch.Queue(publishStaged, l.WorkflowExecutionID).Exec(func(tag pgconn.CommandTag) error {
		o.imagesChanged = tag.RowsAffected() > 0
		switch staged := tag.RowsAffected(); {
		case staged < int64(o.Images):
			return errImagesLost
		case staged > int64(o.Images):
			return errDoubles
		}
		return nil
	})
}

const publishStaged = `UPDATE callbackd.images SET published = true WHERE workflow_execution_id = $1 AND NOT published`

// queueReplaceImages makes the staged images visible. If a part has an image already, that
// row keeps its id and gets the new content; unchanged content is not written again. Of a
// part that two runs have staged, the first stays.
func queueReplaceImages(batch *pgx.Batch, l *Lease, o *Outcome) {
	batch.Queue(`SELECT FROM callbackd.images WHERE workflow_execution_id = $1 AND generation = $2`,
		l.WorkflowExecutionID, l.Generation).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() < int64(o.Images) {
			return errImagesLost
		}
		return nil
	})
	batch.Queue(`
		UPDATE callbackd.images AS p SET
			generation = s.generation, account_id = s.account_id, category = s.category, content_type = s.content_type,
			size_bytes = s.size_bytes, sha256 = s.sha256, width = s.width, height = s.height,
			retrieved_at = CASE WHEN p.sha256 = s.sha256 THEN p.retrieved_at ELSE s.retrieved_at END,
			data = CASE WHEN p.sha256 = s.sha256 THEN p.data ELSE s.data END
		FROM callbackd.images AS s, callbackd.images AS o
		WHERE p.workflow_execution_id = $1 AND p.published AND s.workflow_execution_id = $1 AND NOT s.published
			AND s.credential_id = p.credential_id AND s.classifier = p.classifier AND o.image_id = p.image_id
		RETURNING o.sha256 <> s.sha256`, l.WorkflowExecutionID).Query(func(rows pgx.Rows) error {
		differs, err := pgx.CollectRows(rows, pgx.RowTo[bool])
		o.imagesChanged = slices.Contains(differs, true)
		return err
	})
	batch.Queue(`
		DELETE FROM callbackd.images AS s USING callbackd.images AS p
		WHERE p.workflow_execution_id = $1 AND s.workflow_execution_id = $1 AND NOT s.published
			AND s.credential_id = p.credential_id AND s.classifier = p.classifier
			AND (p.published OR p.image_id < s.image_id)`, l.WorkflowExecutionID)
	batch.Queue(publishStaged, l.WorkflowExecutionID).Exec(func(tag pgconn.CommandTag) error {
		o.imagesChanged = o.imagesChanged || tag.RowsAffected() > 0
		return nil
	})
	batch.Queue(`UPDATE callbackd.workflow_executions SET image_count = (
			SELECT count(*) FROM callbackd.images AS i WHERE i.workflow_execution_id = $1 AND i.published)
		WHERE workflow_execution_id = $1 AND image_count IS NOT NULL`, l.WorkflowExecutionID)
}
