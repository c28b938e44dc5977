package results

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"callbackd/internal/store"
)

// PartKey identifies an image part within a workflow execution.
type PartKey struct {
	CredentialID string `db:"credential_id,notnull"`
	Classifier   string `db:"classifier,notnull"`
}

// InDatabase is stored_in of an image whose bytes are in the database.
const InDatabase = "database"

// ImagePlace is where an image's bytes are, and how.
type ImagePlace struct {
	// StoredIn is InDatabase, or the image store's kind.
	StoredIn string `db:"stored_in"`
	// ObjectKey is the object's, empty in the database.
	ObjectKey string `db:"object_key"`
	Encrypted bool   `db:"encrypted"`
	// EncryptedTo names the keys (imagestore.Sealer.Keys); empty if it is not encrypted.
	EncryptedTo string `db:"encrypted_to"`
}

// Image is one image part as it was fetched.
type Image struct {
	PartKey
	AccountID   string `db:"account_id"`
	Category    string `db:"category"`
	ContentType string `db:"content_type,notnull"`
	// SizeBytes and SHA256 are those of the plain image.
	SizeBytes int64 `db:"size_bytes"`
	SHA256    [sha256.Size]byte
	// Width and Height are in pixels; 0 if it is neither JPEG nor PNG.
	Width  int32 `db:"width,zeronull"`
	Height int32 `db:"height,zeronull"`
	ImagePlace
}

// NewImageID returns the id of an image that is to be staged.
func NewImageID() (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return uuid.Nil, fmt.Errorf("make an image id: %w", err)
	}
	return id, nil
}

// imageRow is an Image as it is stored, without its data.
type imageRow struct {
	Image
	ID                  uuid.UUID `db:"image_id"`
	WorkflowExecutionID string    `db:"workflow_execution_id"`
	Digest              []byte    `db:"sha256"`
	RetrievedAt         time.Time `db:"retrieved_at"`
	Generation          int32     `db:"generation"`
	Published           bool      `db:"published"`
}

var (
	imageRows = store.RowOf[imageRow]()
	// FinishAttempt's commit, which waits for the disk, covers the row, too. The ids are
	// literals, because only the simple protocol has several statements.
	copyImage = "SET LOCAL synchronous_commit = off; " + imageRows.Copy("callbackd.images", "data") + "; SELECT callbackd.check_lease('%s', '%s')"
)

func newImageRow(l *Lease, id uuid.UUID, img *Image) *imageRow {
	return &imageRow{
		Image: *img, ID: id, WorkflowExecutionID: l.WorkflowExecutionID, Digest: img.SHA256[:],
		RetrievedAt: time.Now(), Generation: int32(l.Generation), //nolint:gosec // far below 2^31 retrievals
	}
}

// StageImage stores an image in the database, with size bytes of content, that jumio.images
// does not show yet. FinishAttempt publishes it and makes it durable; until then, a crash
// of the database may lose it. It stores nothing and returns ErrSuperseded if the lease is
// lost, as to an erasure.
//
// COPY reads the content straight from the image's buffer. The driver would copy a
// parameter of an INSERT whole: with eight workers and images of 10 MB, that doubles the
// worker's memory.
func (s *Store) StageImage(ctx context.Context, l *Lease, id uuid.UUID, img *Image, content io.Reader, size int64) error {
	const doing = "store an image"
	if size > math.MaxInt32 {
		return fmt.Errorf("%s: %d bytes are more than Postgres accepts", doing, size)
	}
	row := imageRows.AppendCopy([]byte(store.CopyHeader), newImageRow(l, id, img), 1)
	row = binary.BigEndian.AppendUint32(row, uint32(size)) //nolint:gosec // bounded above
	conn, err := s.db.Pool().Acquire(ctx)
	if err != nil {
		return store.Translate(doing, err)
	}
	defer conn.Release()
	_, err = conn.Conn().PgConn().CopyFrom(ctx, io.MultiReader(bytes.NewReader(row), content, strings.NewReader(store.CopyTrailer)),
		fmt.Sprintf(copyImage, strings.ReplaceAll(l.WorkflowExecutionID, "'", "''"), l.Token))
	err = store.Translate(doing, err)
	if e, ok := errors.AsType[*store.SQLError](err); ok && e.Code == pgerrcode.ObjectNotInPrerequisiteState {
		return fmt.Errorf("%s: %w", doing, ErrSuperseded)
	}
	return err
}

// stageObject takes the object from image_uploads into a row, if the run still has the
// lease, whose row it locks against an erasure.
var stageObject = `
	WITH held AS (` + holdsLease + `), uploaded AS (
		DELETE FROM callbackd.image_uploads AS u USING held WHERE u.object_key = $4 RETURNING u.object_key
	)
	INSERT INTO callbackd.images (` + imageRows.Written() + `)
	SELECT n.* FROM uploaded CROSS JOIN set_config('synchronous_commit', 'off', true) CROSS JOIN ` + imageRows.Unnest("n", 4)

// StageObject is StageImage for an image whose object is durable in the image store. It
// returns ErrBusy or ErrSuperseded if the lease is no longer held.
func (s *Store) StageObject(ctx context.Context, l *Lease, id uuid.UUID, img *Image) error {
	const doing = "store an image's row"
	args := append([]any{l.WorkflowExecutionID, l.Generation, l.Token, img.ObjectKey}, imageRows.Arrays([]*imageRow{newImageRow(l, id, img)})...)
	tag, err := s.db.Pool().Exec(ctx, stageObject, args...)
	if err == nil && tag.RowsAffected() == 0 {
		err = whyNotHeld(ctx, s.db.Pool().QueryRow, l)
	}
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

// replaceStaged returns, for each part that has been fetched again, whether its content
// differs.
var replaceStaged = func() string {
	const keeps = "p.sha256 = s.sha256 AND p.missing_since IS NULL"
	set := ""
	for _, column := range []string{"data", "stored_in", "object_key", "encrypted", "encrypted_to"} {
		set += ",\n\t\t" + column + " = CASE WHEN " + keeps + " THEN p." + column + " ELSE s." + column + " END"
	}
	return `
	WITH replaced AS (
		UPDATE callbackd.images AS p SET
			generation = s.generation, account_id = s.account_id, category = s.category, content_type = s.content_type,
			size_bytes = s.size_bytes, sha256 = s.sha256, width = s.width, height = s.height, missing_since = NULL,
			retrieved_at = CASE WHEN p.sha256 = s.sha256 THEN p.retrieved_at ELSE s.retrieved_at END` + set + `
		FROM callbackd.images AS s, callbackd.images AS o
		WHERE p.workflow_execution_id = $1 AND p.published AND s.workflow_execution_id = $1 AND NOT s.published
			AND s.credential_id = p.credential_id AND s.classifier = p.classifier AND o.image_id = p.image_id
		RETURNING o.sha256 <> s.sha256 AS differs, o.stored_in, o.object_key, p.object_key IS DISTINCT FROM o.object_key AS moved
	), queued AS (
		INSERT INTO callbackd.object_deletions (object_key, stored_in)
		SELECT object_key, stored_in FROM replaced WHERE moved AND object_key IS NOT NULL
		ON CONFLICT DO NOTHING
	)
	SELECT differs FROM replaced`
}()

// queueReplaceImages makes the staged images visible. If a part has an image already, that
// row keeps its id and gets the new content; unchanged content is not written again, and
// keeps its object unless that is missing. Of a part that two runs have staged, the first
// stays. Objects that no row names any more are deleted.
func queueReplaceImages(batch *pgx.Batch, l *Lease, o *Outcome) {
	batch.Queue(`SELECT FROM callbackd.images WHERE workflow_execution_id = $1 AND generation = $2`,
		l.WorkflowExecutionID, l.Generation).Exec(func(tag pgconn.CommandTag) error {
		if tag.RowsAffected() < int64(o.Images) {
			return errImagesLost
		}
		return nil
	})
	batch.Queue(replaceStaged, l.WorkflowExecutionID).Query(func(rows pgx.Rows) error {
		differs, err := pgx.CollectRows(rows, pgx.RowTo[bool])
		o.imagesChanged = slices.Contains(differs, true)
		return err
	})
	batch.Queue(`
		WITH gone AS (
			DELETE FROM callbackd.images AS s USING callbackd.images AS p
			WHERE p.workflow_execution_id = $1 AND s.workflow_execution_id = $1 AND NOT s.published
				AND s.credential_id = p.credential_id AND s.classifier = p.classifier
				AND (p.published OR p.image_id < s.image_id)
			RETURNING s.object_key, s.stored_in
		)
		INSERT INTO callbackd.object_deletions (object_key, stored_in)
		SELECT g.object_key, g.stored_in FROM gone AS g
		WHERE g.object_key IS NOT NULL AND NOT EXISTS (
			SELECT FROM callbackd.images AS i WHERE i.workflow_execution_id = $1 AND i.published AND i.object_key = g.object_key)
		ON CONFLICT DO NOTHING`, l.WorkflowExecutionID)
	batch.Queue(publishStaged, l.WorkflowExecutionID).Exec(func(tag pgconn.CommandTag) error {
		o.imagesChanged = o.imagesChanged || tag.RowsAffected() > 0
		return nil
	})
	batch.Queue(`UPDATE callbackd.workflow_executions SET image_count = (
			SELECT count(*) FROM callbackd.images AS i WHERE i.workflow_execution_id = $1 AND i.published)
		WHERE workflow_execution_id = $1 AND image_count IS NOT NULL`, l.WorkflowExecutionID)
}
