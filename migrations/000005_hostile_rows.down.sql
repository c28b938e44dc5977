CREATE OR REPLACE VIEW jumio.workflow_executions AS
SELECT w.workflow_execution_id,
       coalesce(w.account_id, callbackd.scalar_text(d.details #> '{account,id}')) AS account_id,
       coalesce(w.definition_key, callbackd.scalar_text(d.details #> '{workflow,definitionKey}')) AS definition_key,
       w.status,
       coalesce(w.user_reference, callbackd.scalar_text(d.details #> '{workflow,userReference}')) AS user_reference,
       callbackd.scalar_text(d.details #> '{workflow,customerInternalReference}') AS customer_internal_reference,
       w.callback_count, w.first_callback_at, w.last_callback_at,
       w.retrieval_state, w.retrieval_attempts, w.retrieval_error, w.retrieved_at,
       callbackd.to_timestamptz_or_null(d.details -> 'createdAt') AS created_at,
       callbackd.to_timestamptz_or_null(d.details -> 'startedAt') AS started_at,
       callbackd.to_timestamptz_or_null(d.details -> 'completedAt') AS completed_at,
       d.details
FROM callbackd.workflow_executions AS w
LEFT JOIN callbackd.workflow_details AS d USING (workflow_execution_id);
COMMENT ON COLUMN jumio.workflow_executions.account_id IS 'Jumio''s id of the account (one end user).';
COMMENT ON COLUMN jumio.workflow_executions.definition_key IS 'Key of the workflow definition.';
COMMENT ON COLUMN jumio.workflow_executions.user_reference IS 'userReference of the callbacks, else of the details.';
COMMENT ON COLUMN jumio.workflow_executions.status IS 'Status of the newest callback by callbackSentAt, or of Get Status where that was asked; an open list.';
COMMENT ON VIEW jumio.rejected_callbacks IS 'Requests on the callback path that were refused with 400 or 403, up to the hourly limit.';

CREATE OR REPLACE FUNCTION callbackd.append_events(types text[], workflow_execution_ids text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1667329635, 1702257011);
    INSERT INTO callbackd.events (occurred_at, type, workflow_execution_id)
        SELECT clock_timestamp(), e.type, e.id
        FROM unnest(types, workflow_execution_ids) WITH ORDINALITY AS e (type, id, position)
        ORDER BY e.position;
    PERFORM pg_notify('jumio_events', d.id) FROM (SELECT DISTINCT unnest(workflow_execution_ids) AS id) AS d;
END
$$;
DROP FUNCTION callbackd.add_events(text[], text[]);
DROP TABLE callbackd.event_order;

CREATE OR REPLACE FUNCTION callbackd.queue_callbacks() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO callbackd.inbox (callback_id) SELECT n.callback_id FROM new_callbacks AS n;
    RETURN NULL;
END
$$;
DROP FUNCTION callbackd.refuse_callback();

ALTER TABLE callbackd.rejected_callbacks
    DROP CONSTRAINT rejected_callbacks_texts_check, DROP CONSTRAINT rejected_callbacks_body_check,
    DROP CONSTRAINT rejected_callbacks_times_check, DROP CONSTRAINT rejected_callbacks_source_ip_check;
ALTER TABLE callbackd.allowlist_addresses
    DROP CONSTRAINT allowlist_addresses_host_check, DROP CONSTRAINT allowlist_addresses_times_check,
    DROP CONSTRAINT allowlist_addresses_address_check;
ALTER TABLE callbackd.workflow_executions
    DROP CONSTRAINT workflow_executions_ids_check, DROP CONSTRAINT workflow_executions_texts_check,
    DROP CONSTRAINT workflow_executions_result_state_check, DROP CONSTRAINT workflow_executions_data_center_check,
    DROP COLUMN details_retrieved_at, DROP COLUMN data_center, DROP COLUMN result_state, DROP COLUMN retrieval_asks_status,
    DROP COLUMN retrieval_due_at, DROP COLUMN retrieval_paced_at, DROP COLUMN lease_token;

REVOKE UPDATE (last_seen, missing_since) ON callbackd.allowlist_addresses FROM callbackd_receiver;
GRANT UPDATE ON callbackd.allowlist_addresses TO callbackd_receiver;
