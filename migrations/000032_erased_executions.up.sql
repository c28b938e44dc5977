-- Of an erased workflow execution only its id, erased_at and the order stay in its row.
ALTER TABLE callbackd.workflow_executions ADD COLUMN erasure_order_id uuid;

-- Fails unless a run has the lease of a workflow execution. Until its transaction ends, no
-- erasure takes the row.
CREATE FUNCTION callbackd.check_lease(id text, token uuid) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM FROM callbackd.workflow_executions AS w
    WHERE w.workflow_execution_id = check_lease.id AND w.lease_token = check_lease.token AND w.retrieval_state = 'pending'
    FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = 'the lease is lost';
    END IF;
END
$$;
REVOKE ALL ON FUNCTION callbackd.check_lease(text, uuid) FROM PUBLIC;

CREATE FUNCTION callbackd.mention() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    IF NEW.erased_at IS NULL THEN
        INSERT INTO callbackd.mentions (subject, workflow_execution_id)
        SELECT s, NEW.workflow_execution_id
        FROM unnest(ARRAY[OLD.account_id, OLD.user_reference]) AS s
        WHERE s IS NOT NULL AND s IS DISTINCT FROM NEW.account_id AND s IS DISTINCT FROM NEW.user_reference
        ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION callbackd.mention() FROM PUBLIC;
CREATE TRIGGER mention AFTER UPDATE OF account_id, user_reference ON callbackd.workflow_executions
    FOR EACH ROW WHEN (OLD.account_id IS NOT NULL AND OLD.account_id IS DISTINCT FROM NEW.account_id
        OR OLD.user_reference IS NOT NULL AND OLD.user_reference IS DISTINCT FROM NEW.user_reference)
    EXECUTE FUNCTION callbackd.mention();

-- Of what is erased, only jumio.verifications and the event erased tell.
CREATE OR REPLACE VIEW jumio.workflow_executions AS
SELECT w.workflow_execution_id, w.account_id, w.definition_key, w.status, w.user_reference, w.customer_internal_reference,
       w.callback_count, w.first_callback_at, w.last_callback_at,
       w.retrieval_state, w.retrieval_attempts, w.retrieval_error, w.retrieved_at,
       w.created_at, w.started_at, w.completed_at,
       coalesce((SELECT o.details FROM callbackd.workflow_details AS o WHERE o.workflow_execution_id = w.workflow_execution_id),
                (SELECT d.details FROM callbackd.details AS d WHERE d.details_id = w.details_id)) AS details,
       w.user_reference_unsigned, w.jumio_decision_type AS decision_type, w.jumio_decision_label AS decision_label,
       w.risk_score, w.details_retrieved_at
FROM callbackd.workflow_executions AS w
WHERE w.erased_at IS NULL;
