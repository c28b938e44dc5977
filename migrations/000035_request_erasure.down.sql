DROP FUNCTION jumio.end_relationship(text, timestamptz);
DROP FUNCTION jumio.request_erasure(text, text, text, boolean);
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'jumio_eraser') THEN
        REVOKE USAGE ON SCHEMA jumio FROM jumio_eraser;
    END IF;
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'jumio_relationships') THEN
        REVOKE USAGE ON SCHEMA jumio FROM jumio_relationships;
    END IF;
END
$$;
