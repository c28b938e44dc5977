-- For images outside the database, and encrypted ones.
ALTER TABLE callbackd.images
    -- The age keys that can read it: the first 16 hexadecimal digits of SHA-256 over the
    -- sorted recipients, each with a newline; NULL if it is not encrypted.
    ADD COLUMN encrypted_to text,
    -- When image sweep --fix found its object missing: the next retrieval stores it anew.
    ADD COLUMN missing_since timestamptz;

-- Whoever deletes workflow executions deletes their results, and the objects of those.
CREATE OR REPLACE FUNCTION callbackd.remove_results() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM callbackd.remove_details(ARRAY(SELECT g.details_id FROM gone AS g WHERE g.details_id IS NOT NULL));
    WITH images AS (
        DELETE FROM callbackd.images AS i USING gone AS g WHERE i.workflow_execution_id = g.workflow_execution_id
        RETURNING i.object_key, i.stored_in
    ), uploads AS (
        DELETE FROM callbackd.image_uploads AS u USING gone AS g WHERE u.workflow_execution_id = g.workflow_execution_id
        RETURNING u.object_key, u.stored_in
    )
    INSERT INTO callbackd.object_deletions (object_key, stored_in, not_before)
    SELECT i.object_key, i.stored_in, '-infinity'::timestamptz FROM images AS i WHERE i.object_key IS NOT NULL
    UNION ALL
    -- An attempt that knows nothing of this lasts no longer.
    SELECT u.object_key, u.stored_in, clock_timestamp() + interval '5 minutes' FROM uploads AS u
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

COMMENT ON COLUMN jumio.images.data IS 'The image, byte for byte, or if encrypted is true its age file; NULL if the bytes are not in the database. [biometric, images]';
COMMENT ON COLUMN jumio.images.stored_in IS 'Where the bytes are: database (in data), s3, file. [technical, images]';
COMMENT ON COLUMN jumio.images.object_key IS 'Name of the object with the bytes, under the prefix or directory of CALLBACKD_IMAGE_STORE; NULL if they are in the database. [technical, images]';
COMMENT ON COLUMN jumio.images.encrypted IS 'Whether the stored bytes are an age file; size_bytes and sha256 are the plain image''s. [technical, images]';
