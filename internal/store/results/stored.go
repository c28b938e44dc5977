package results

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"callbackd/internal/store"
)

// StoredImage is what the database knows of a published image, without its bytes.
type StoredImage struct {
	ID                  uuid.UUID `db:"image_id"`
	WorkflowExecutionID string    `db:"workflow_execution_id"`
	ContentType         string    `db:"content_type"`
	// SizeBytes and SHA256 are those of the plain image.
	SizeBytes int64  `db:"size_bytes"`
	SHA256    []byte `db:"sha256"`
	ImagePlace
}

var storedImageRow = store.RowOf[StoredImage]()

// GetImage returns a published image, or ErrNotFound.
func (s *Store) GetImage(ctx context.Context, id uuid.UUID) (*StoredImage, error) {
	const doing = "look up an image"
	rows, err := s.db.Pool().Query(ctx, `SELECT `+storedImageRow.Columns("i.")+` FROM callbackd.images AS i WHERE i.image_id = $1 AND i.published`, id)
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	img, err := pgx.CollectExactlyOneRow(rows, storedImageRow.Scan)
	return &img, store.Translate(doing, err)
}

// ImageData returns the bytes of an image that are in the database, or ErrNotFound.
func (s *Store) ImageData(ctx context.Context, id uuid.UUID) ([]byte, error) {
	var data []byte
	err := s.db.Pool().QueryRow(ctx, `SELECT data FROM callbackd.images WHERE image_id = $1 AND published AND data IS NOT NULL`, id).Scan(&data)
	return data, store.Translate("read an image", err)
}

// The ways of an ImageRead.
const (
	ReadByCommand = "command"
	ReadByConsole = "console"
)

// ImageRead says who looks at an image, and why.
type ImageRead struct {
	// Reader is the console's user; empty for the database role.
	Reader string
	Reason string
	// Way is ReadByCommand or ReadByConsole.
	Way string
}

// RecordRead stores that an image is about to be read. It returns ErrNotFound if there is
// no such image any more.
func (s *Store) RecordRead(ctx context.Context, id uuid.UUID, r ImageRead) error {
	const doing = "record who reads an image"
	tag, err := s.db.Pool().Exec(ctx, `
		INSERT INTO callbackd.image_reads (reader, image_id, workflow_execution_id, reason, way)
		SELECT coalesce(nullif($2, ''), session_user), i.image_id, i.workflow_execution_id, $3, $4
		FROM callbackd.images AS i JOIN callbackd.workflow_executions AS w ON w.workflow_execution_id = i.workflow_execution_id
		WHERE i.image_id = $1 AND i.published FOR SHARE OF w`, id, r.Reader, r.Reason, r.Way)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	return store.Translate(doing, err)
}

// Unmoved says which published images are still to be moved.
type Unmoved struct {
	// Keys, unless empty, are those to encrypt anew to: all images that others than these
	// can read. Otherwise it is the images in the database.
	Keys string
}

// where needs Keys as parameter 1.
func (u Unmoved) where() string {
	if u.Keys != "" {
		return `i.published AND i.encrypted_to IS DISTINCT FROM $1`
	}
	return `i.published AND i.stored_in = '` + InDatabase + `' AND $1 = ''`
}

// CountUnmoved counts the images.
func (s *Store) CountUnmoved(ctx context.Context, u Unmoved) (n int64, err error) {
	err = s.db.Pool().QueryRow(ctx, `SELECT count(*) FROM callbackd.images AS i WHERE `+u.where(), u.Keys).Scan(&n)
	return n, store.Translate("count the images to move", err)
}

// ListUnmoved returns at most limit of the images, in the order of their ids, after one.
func (s *Store) ListUnmoved(ctx context.Context, u Unmoved, after uuid.UUID, limit int) ([]StoredImage, error) {
	const doing = "look for images to move"
	rows, err := s.db.Pool().Query(ctx, `SELECT `+storedImageRow.Columns("i.")+` FROM callbackd.images AS i
		WHERE i.image_id > $2 AND `+u.where()+` ORDER BY i.image_id LIMIT $3`, u.Keys, after, limit)
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, storedImageRow.Scan)
	return list, store.Translate(doing, err)
}

// isUnchanged compares a row with a StoredImage, in the parameters of unchanged.
const isUnchanged = `i.image_id = $1 AND i.published AND i.stored_in = $2 AND i.object_key IS NOT DISTINCT FROM nullif($3, '')
	AND i.sha256 = $4 AND i.encrypted_to IS NOT DISTINCT FROM nullif($5, '')`

func (img *StoredImage) unchanged() []any {
	return []any{img.ID, img.StoredIn, img.ObjectKey, img.SHA256, img.EncryptedTo}
}

// BeginMove notes, durably, that an object is about to be uploaded for a stored image. It
// returns ErrNotFound if the image is gone or has changed. The lock keeps it apart from an
// erasure, which looks for uploads.
func (s *Store) BeginMove(ctx context.Context, img *StoredImage, to ImagePlace) error {
	return s.InTx(ctx, "note an upload", func(tx *Tx) error {
		var erased bool
		if err := tx.QueryRow(ctx, `SELECT erased_at IS NOT NULL FROM callbackd.workflow_executions
			WHERE workflow_execution_id = $1 FOR SHARE`, img.WorkflowExecutionID).Scan(&erased); err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			INSERT INTO callbackd.image_uploads (object_key, stored_in, workflow_execution_id)
			SELECT $6, $7, i.workflow_execution_id FROM callbackd.images AS i WHERE `+isUnchanged,
			append(img.unchanged(), to.ObjectKey, to.StoredIn)...)
		if err == nil && tag.RowsAffected() == 0 {
			err = pgx.ErrNoRows
		}
		return err
	})
}

// FinishMove says that an image is in another object now, whose upload BeginMove noted, and
// has the one of before deleted. It returns ErrNotFound, and changes nothing, if the image
// is gone or has changed.
func (s *Store) FinishMove(ctx context.Context, img *StoredImage, to ImagePlace) error {
	return s.InTx(ctx, "move an image", func(tx *Tx) error {
		tag, err := tx.Exec(ctx, `
			WITH uploaded AS (DELETE FROM callbackd.image_uploads WHERE object_key = $6 RETURNING object_key)
			UPDATE callbackd.images AS i SET data = NULL, object_key = u.object_key, stored_in = $7, encrypted = $8,
				encrypted_to = nullif($9, ''), missing_since = NULL
			FROM uploaded AS u WHERE `+isUnchanged,
			append(img.unchanged(), to.ObjectKey, to.StoredIn, to.Encrypted, to.EncryptedTo)...)
		switch {
		case err != nil:
			return err
		case tag.RowsAffected() == 0:
			return pgx.ErrNoRows
		case img.ObjectKey == "":
			return nil
		}
		_, err = tx.Exec(ctx, `INSERT INTO callbackd.object_deletions (object_key, stored_in) VALUES ($1, $2) ON CONFLICT DO NOTHING`,
			img.ObjectKey, img.StoredIn)
		return err
	})
}

// RewriteImage replaces the bytes of an image in the database. It returns ErrNotFound, and
// changes nothing, if the image is gone or has changed.
func (s *Store) RewriteImage(ctx context.Context, img *StoredImage, to ImagePlace, data []byte) error {
	tag, err := s.db.Pool().Exec(ctx, `UPDATE callbackd.images AS i SET data = $6, encrypted = $7, encrypted_to = nullif($8, '') WHERE `+isUnchanged,
		append(img.unchanged(), data, to.Encrypted, to.EncryptedTo)...)
	if err == nil && tag.RowsAffected() == 0 {
		err = pgx.ErrNoRows
	}
	return store.Translate("encrypt an image in the database", err)
}

// ImagePartition is how much room a partition of the images takes.
type ImagePartition struct {
	// Name is the table's, in the schema callbackd.
	Name string
	// Bytes are those on disk, indexes included; DataBytes those of the bytes of images.
	Bytes, DataBytes int64
	// InDatabase counts the images whose bytes are in it.
	InDatabase int64
}

// ImagePartitions returns the partitions of the images that take more than a page for
// bytes of images.
func (s *Store) ImagePartitions(ctx context.Context) ([]ImagePartition, error) {
	const doing = "measure the partitions of the images"
	rows, err := s.db.Pool().Query(ctx, `
		SELECT c.relname, pg_total_relation_size(c.oid), pg_relation_size(c.reltoastrelid),
			(SELECT count(*) FROM callbackd.images AS i WHERE i.tableoid = c.oid AND i.stored_in = '`+InDatabase+`')
		FROM pg_inherits AS h JOIN pg_class AS c ON c.oid = h.inhrelid
		WHERE h.inhparent = 'callbackd.images'::regclass AND pg_relation_size(c.reltoastrelid) > current_setting('block_size')::bigint
		ORDER BY 1`)
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p ImagePartition, err error) {
		return p, row.Scan(&p.Name, &p.Bytes, &p.DataBytes, &p.InDatabase)
	})
	return list, store.Translate(doing, err)
}

// vacuumLockTimeout is how long the instances may wait behind a VACUUM that waits for its
// lock.
const vacuumLockTimeout = "2s"

// VacuumImages gives the room of a partition of the images back to the file system. It
// copies the rows, which is quick without the bytes of images, and locks the partition
// meanwhile. ErrUnavailable means that it did not get the lock.
func (s *Store) VacuumImages(ctx context.Context, partition string) error {
	const doing = "vacuum a partition of the images"
	conn, err := s.db.Pool().Acquire(ctx)
	if err != nil {
		return store.Translate(doing, err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, `SET lock_timeout = '`+vacuumLockTimeout+`'`); err != nil {
		return store.Translate(doing, err)
	}
	defer func() { _, _ = conn.Exec(context.WithoutCancel(ctx), `RESET lock_timeout`) }()
	_, err = conn.Exec(ctx, `VACUUM (FULL, ANALYZE) `+pgx.Identifier{"callbackd", partition}.Sanitize())
	return store.Translate(doing, err)
}

// ListedObject is one that the image store lists.
type ListedObject struct {
	Key        string
	SizeBytes  int64
	ModifiedAt time.Time
}

// Comparison compares the rows of images with a listing of the image store.
type Comparison struct {
	conn     *pgxpool.Conn
	storedIn string
}

// OrphanObject is an object that no row needs.
type OrphanObject struct {
	Key       string `db:"object_key"`
	SizeBytes int64  `db:"size_bytes"`
}

// MissingObject is an image whose object is not there.
type MissingObject struct {
	ImageID             uuid.UUID `db:"image_id"`
	WorkflowExecutionID string    `db:"workflow_execution_id"`
	Key                 string    `db:"object_key"`
}

var (
	orphanRow  = store.RowOf[OrphanObject]()
	missingRow = store.RowOf[MissingObject]()
)

// Compare notes the images whose objects are in a kind of store, and calls do, which adds
// the listing and looks at the differences. All is in temporary tables of a session of its
// own: a listing takes hours, and a transaction around it would hold back VACUUM.
func (s *Store) Compare(ctx context.Context, storedIn string, do func(*Comparison) error) error {
	const doing = "compare the images with their objects"
	conn, err := s.db.Pool().Acquire(ctx)
	if err != nil {
		return store.Translate(doing, err)
	}
	defer func() {
		_ = conn.Conn().Close(context.WithoutCancel(ctx)) // the tables go with the session
		conn.Release()
	}()
	for _, sql := range []string{
		`CREATE TEMPORARY TABLE sweep_wanted (image_id uuid, workflow_execution_id text, object_key text)`,
		`CREATE TEMPORARY TABLE sweep_objects (object_key text, size_bytes bigint, modified_at timestamptz)`,
	} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			return store.Translate(doing, err)
		}
	}
	// What gets its row after this may not be listed, and is not missed.
	if _, err := conn.Exec(ctx, `INSERT INTO sweep_wanted SELECT i.image_id, i.workflow_execution_id, i.object_key
		FROM callbackd.images AS i WHERE i.stored_in = $1`, storedIn); err != nil {
		return store.Translate(doing, err)
	}
	return do(&Comparison{conn, storedIn})
}

// Add adds to the listing.
func (c *Comparison) Add(ctx context.Context, list []ListedObject) error {
	_, err := c.conn.Conn().CopyFrom(ctx, pgx.Identifier{"sweep_objects"}, []string{"object_key", "size_bytes", "modified_at"},
		pgx.CopyFromSlice(len(list), func(i int) ([]any, error) { return []any{list[i].Key, list[i].SizeBytes, list[i].ModifiedAt}, nil }))
	return store.Translate("note the objects of the image store", err)
}

// Orphans returns the objects older than age that no image, upload or deletion names.
func (c *Comparison) Orphans(ctx context.Context, age time.Duration) ([]OrphanObject, error) {
	const doing = "look for objects without an image"
	if _, err := c.conn.Exec(ctx, `ANALYZE sweep_objects, sweep_wanted`); err != nil {
		return nil, store.Translate(doing, err)
	}
	rows, err := c.conn.Query(ctx, `
		SELECT o.object_key, o.size_bytes FROM sweep_objects AS o
		WHERE o.modified_at < clock_timestamp() - $2::interval
			AND NOT EXISTS (SELECT FROM callbackd.images AS i WHERE i.object_key = o.object_key AND i.stored_in = $1)
			AND NOT EXISTS (SELECT FROM callbackd.image_uploads AS u WHERE u.object_key = o.object_key AND u.stored_in = $1)
			AND NOT EXISTS (SELECT FROM callbackd.object_deletions AS d WHERE d.object_key = o.object_key AND d.stored_in = $1)
		ORDER BY o.object_key`, c.storedIn, age)
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, orphanRow.Scan)
	return list, store.Translate(doing, err)
}

// Missing returns the images whose objects are not listed, and still are not wanted gone.
func (c *Comparison) Missing(ctx context.Context) ([]MissingObject, error) {
	const doing = "look for images without their object"
	rows, err := c.conn.Query(ctx, `
		SELECT w.image_id, w.workflow_execution_id, w.object_key FROM sweep_wanted AS w
		WHERE NOT EXISTS (SELECT FROM sweep_objects AS o WHERE o.object_key = w.object_key)
			AND EXISTS (SELECT FROM callbackd.images AS i WHERE i.image_id = w.image_id AND i.object_key = w.object_key)
		ORDER BY w.image_id`)
	if err != nil {
		return nil, store.Translate(doing, err)
	}
	list, err := pgx.CollectRows(rows, missingRow.Scan)
	return list, store.Translate(doing, err)
}

// Fix queues orphans to be deleted, and marks the images that miss their objects, so that
// the next retrieval stores them anew.
func (c *Comparison) Fix(ctx context.Context, orphans []OrphanObject, missing []MissingObject) error {
	keys := make([]string, len(orphans))
	for i := range orphans {
		keys[i] = orphans[i].Key
	}
	if _, err := c.conn.Exec(ctx, `INSERT INTO callbackd.object_deletions (object_key, stored_in) SELECT k, $1 FROM unnest($2::text[]) AS k
		ON CONFLICT DO NOTHING`, c.storedIn, keys); err != nil {
		return store.Translate("have objects without an image deleted", err)
	}
	ids, missed := make([]uuid.UUID, len(missing)), make([]string, len(missing))
	for i := range missing {
		ids[i], missed[i] = missing[i].ImageID, missing[i].Key
	}
	_, err := c.conn.Exec(ctx, `UPDATE callbackd.images AS i SET missing_since = coalesce(i.missing_since, clock_timestamp())
		FROM unnest($1::uuid[], $2::text[]) AS m (image_id, object_key)
		WHERE i.image_id = m.image_id AND i.object_key = m.object_key`, ids, missed)
	return store.Translate("mark images without their object", err)
}

// CountElsewhere counts the images that are in another kind of store.
func (c *Comparison) CountElsewhere(ctx context.Context) (n int64, err error) {
	err = c.conn.QueryRow(ctx, `SELECT count(*) FROM callbackd.images WHERE stored_in NOT IN ($1, '`+InDatabase+`')`, c.storedIn).Scan(&n)
	return n, store.Translate("count the images in other stores", err)
}
