-- The account that a rejected body names.
ALTER TABLE callbackd.rejected_callbacks ADD COLUMN account_id text;

CREATE FUNCTION callbackd.rejected() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO callbackd.unscreened (source, id) SELECT 'rejected_callbacks', n.rejected_id::text FROM new_rejected AS n
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION callbackd.rejected() FROM PUBLIC;
CREATE TRIGGER rejected AFTER INSERT ON callbackd.rejected_callbacks
    REFERENCING NEW TABLE AS new_rejected
    FOR EACH STATEMENT EXECUTE FUNCTION callbackd.rejected();
