COMMENT ON COLUMN jumio.images.data IS 'The image, byte for byte.';
COMMENT ON COLUMN jumio.images.stored_in IS 'Where the bytes are: database (in data).';
COMMENT ON COLUMN jumio.images.object_key IS 'Name of the object that holds the bytes; NULL if they are in the database.';
COMMENT ON COLUMN jumio.images.encrypted IS 'Whether the stored bytes are encrypted; size_bytes and sha256 are the plain image''s.';
CREATE OR REPLACE FUNCTION callbackd.remove_results() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM callbackd.remove_details(ARRAY(SELECT g.details_id FROM gone AS g WHERE g.details_id IS NOT NULL));
    DELETE FROM callbackd.images AS i USING gone AS g WHERE i.workflow_execution_id = g.workflow_execution_id;
    RETURN NULL;
END
$$;
ALTER TABLE callbackd.images DROP COLUMN encrypted_to, DROP COLUMN missing_since;
