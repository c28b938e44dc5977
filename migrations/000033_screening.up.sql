-- What others than the worker write, and may be of somebody who is erased: the worker
-- looks through it (internal/eraser) and deletes what is barred.
CREATE TABLE callbackd.unscreened (
    source text NOT NULL CHECK (source IN ('expectations', 'rejected_callbacks')),
    id text NOT NULL,
    PRIMARY KEY (source, id)
);

CREATE FUNCTION callbackd.expected() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO callbackd.mentions (subject, workflow_execution_id)
    SELECT s, NEW.workflow_execution_id
    FROM callbackd.workflow_executions AS w, unnest(ARRAY[NEW.account_id, NEW.user_reference]) AS s
    WHERE w.workflow_execution_id = NEW.workflow_execution_id AND s IS NOT NULL
        AND s IS DISTINCT FROM w.account_id AND s IS DISTINCT FROM w.user_reference
    ON CONFLICT DO NOTHING;
    INSERT INTO callbackd.unscreened (source, id) VALUES ('expectations', NEW.workflow_execution_id) ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION callbackd.expected() FROM PUBLIC;
CREATE TRIGGER expected AFTER INSERT OR UPDATE OF account_id, user_reference ON callbackd.expectations
    FOR EACH ROW EXECUTE FUNCTION callbackd.expected();
