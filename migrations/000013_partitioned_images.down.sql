-- First the table, then its partitions, like an INSERT: so neither waits for the other.
LOCK TABLE callbackd.images IN ACCESS EXCLUSIVE MODE;
-- What an interrupted change of the partitions has left.
ALTER TABLE callbackd.images_1 DROP CONSTRAINT IF EXISTS range_check;
-- The first partition is the table again, with the rows of the others.
DO $$
DECLARE
    leaf regclass;
BEGIN
    FOR leaf IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'callbackd.images'::regclass LOOP
        EXECUTE format('ALTER TABLE callbackd.images DETACH PARTITION %s', leaf);
        IF leaf <> 'callbackd.images_1'::regclass THEN
            EXECUTE format('INSERT INTO callbackd.images_1 SELECT * FROM %s ON CONFLICT DO NOTHING', leaf); -- a part that two runs have staged
            EXECUTE format('DROP TABLE %s', leaf);
        END IF;
    END LOOP;
END
$$;
DROP VIEW jumio.images;
DROP TABLE callbackd.images;
ALTER TABLE callbackd.images_1 RENAME TO images;
ALTER INDEX callbackd.images_1_pkey RENAME TO images_pkey;
-- What a run has staged for a workflow execution that was deleted meanwhile.
DELETE FROM callbackd.images AS i
WHERE NOT EXISTS (SELECT FROM callbackd.workflow_executions AS w WHERE w.workflow_execution_id = i.workflow_execution_id);
ALTER TABLE callbackd.images
    DROP COLUMN stored_in, DROP COLUMN object_key, DROP COLUMN encrypted,
    ALTER COLUMN data SET NOT NULL,
    ADD CONSTRAINT images_workflow_execution_id_fkey FOREIGN KEY (workflow_execution_id)
        REFERENCES callbackd.workflow_executions ON DELETE CASCADE;

CREATE VIEW jumio.images AS
SELECT i.image_id, i.workflow_execution_id, i.account_id, i.credential_id, i.category, i.classifier,
       i.content_type, i.size_bytes, i.sha256, i.width, i.height, i.retrieved_at, i.data
FROM callbackd.images AS i
WHERE i.published;
COMMENT ON VIEW jumio.images IS 'One row per image part that was retrieved, face maps included.';
COMMENT ON COLUMN jumio.images.image_id IS 'Stays the same when a later retrieval replaces the content.';
COMMENT ON COLUMN jumio.images.workflow_execution_id IS 'The workflow execution.';
COMMENT ON COLUMN jumio.images.account_id IS 'The account under which the part was fetched.';
COMMENT ON COLUMN jumio.images.credential_id IS 'The credential that the part belongs to.';
COMMENT ON COLUMN jumio.images.category IS 'Category of the credential: ID, SELFIE, FACEMAP, DOCUMENT; an open list.';
COMMENT ON COLUMN jumio.images.classifier IS 'FRONT, BACK, FACE, FACEMAP, LIVENESS_1; an open list.';
COMMENT ON COLUMN jumio.images.content_type IS 'image/jpeg or image/png; a face map may be other binary data.';
COMMENT ON COLUMN jumio.images.size_bytes IS 'Size of data in bytes.';
COMMENT ON COLUMN jumio.images.sha256 IS 'SHA-256 of data, 32 bytes.';
COMMENT ON COLUMN jumio.images.width IS 'Pixels; NULL for other binary data.';
COMMENT ON COLUMN jumio.images.height IS 'Pixels; NULL for other binary data.';
COMMENT ON COLUMN jumio.images.retrieved_at IS 'When this content was fetched.';
COMMENT ON COLUMN jumio.images.data IS 'The image, byte for byte.';
GRANT SELECT ON jumio.images TO jumio_reader;
