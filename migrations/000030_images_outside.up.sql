-- Images outside the database (stored_in, object_key and encrypted of images).

-- Objects that are being uploaded: written before the first byte leaves, removed with the
-- row of the image. What is left by a crash is deleted after a while.
CREATE TABLE callbackd.image_uploads (
    object_key text PRIMARY KEY,
    stored_in text NOT NULL,
    workflow_execution_id text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX image_uploads_workflow_execution_id_idx ON callbackd.image_uploads (workflow_execution_id);

-- Objects to delete. A row goes once the store says that the object is gone.
CREATE TABLE callbackd.object_deletions (
    object_key text PRIMARY KEY,
    stored_in text NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- An upload of it may be under way until then.
    not_before timestamptz NOT NULL DEFAULT '-infinity',
    attempts int NOT NULL DEFAULT 0,
    -- The erasure that waits for it.
    order_id uuid
);
CREATE INDEX object_deletions_not_before_idx ON callbackd.object_deletions (not_before);
CREATE INDEX object_deletions_order_id_idx ON callbackd.object_deletions (order_id) WHERE order_id IS NOT NULL;

-- Who has read an image, written before its first byte.
CREATE TABLE callbackd.image_reads (
    read_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reader text NOT NULL,
    image_id uuid NOT NULL,
    workflow_execution_id text,
    reason text NOT NULL,
    way text NOT NULL CHECK (way IN ('command', 'console'))
);
CREATE INDEX image_reads_read_at_idx ON callbackd.image_reads (read_at);
CREATE INDEX image_reads_image_id_idx ON callbackd.image_reads (image_id);
CREATE INDEX image_reads_workflow_execution_id_idx ON callbackd.image_reads (workflow_execution_id) WHERE workflow_execution_id IS NOT NULL;

CREATE VIEW jumio.image_reads AS
SELECT r.read_at, r.reader, r.image_id, r.workflow_execution_id, r.reason, r.way FROM callbackd.image_reads AS r;
COMMENT ON VIEW jumio.image_reads IS 'Who has looked at an image, and why.';
COMMENT ON COLUMN jumio.image_reads.read_at IS 'When. [technical, none]';
COMMENT ON COLUMN jumio.image_reads.reader IS 'The database role, or the console''s user. [technical, none]';
COMMENT ON COLUMN jumio.image_reads.image_id IS 'The image. [technical, none]';
COMMENT ON COLUMN jumio.image_reads.workflow_execution_id IS 'Its workflow execution; NULL once that is erased. [reference, none]';
COMMENT ON COLUMN jumio.image_reads.reason IS 'Why, as it was said. [technical, none]';
COMMENT ON COLUMN jumio.image_reads.way IS 'command (callbackd image get) or console. [technical, none]';
GRANT SELECT ON jumio.image_reads TO jumio_reader;
