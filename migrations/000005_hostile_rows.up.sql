-- No row, and nothing that the two lesser roles do, may delay, change or remove what
-- belongs to others.

-- The limits of a callback's columns. callbackd bounds what it writes
-- (callback.Callback.Bound); these checks bind everybody else. Existing rows stay, and
-- are bounded when they are read. The checks are in the trigger's statement instead of
-- CHECKs, which Postgres parses again for each statement: that costs a single callback a
-- quarter of its time. The length of an id is not in the regular expression: with {1,64},
-- a match takes twenty times as long.
CREATE FUNCTION callbackd.refuse_callback() RETURNS uuid
    LANGUAGE plpgsql
AS $$
BEGIN
    RAISE check_violation USING MESSAGE = 'a callback has a value that no callback may have', CONSTRAINT = 'queue_callbacks';
END
$$;
REVOKE ALL ON FUNCTION callbackd.refuse_callback() FROM PUBLIC;

CREATE OR REPLACE FUNCTION callbackd.queue_callbacks() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO callbackd.inbox (callback_id)
    SELECT CASE WHEN (
        octet_length(n.workflow_execution_id) <= 64 AND n.workflow_execution_id COLLATE "C" ~ '^[A-Za-z0-9_-]+$'
        AND octet_length(n.account_id) <= 64 AND n.account_id COLLATE "C" ~ '^[A-Za-z0-9_-]+$'
        AND octet_length(n.content_type) <= 1024 AND octet_length(n.workflow_status) <= 256
        AND octet_length(n.definition_key) <= 256 AND octet_length(n.user_reference) <= 1024
        AND octet_length(n.workflow_href) <= 2048 AND octet_length(n.account_href) <= 2048
        AND n.received_at >= '1970-01-01T00:00:00Z' AND n.received_at < '2200-01-01T00:00:00Z'
        AND isfinite(n.callback_sent_at)
        AND masklen(n.source_ip) = CASE family(n.source_ip) WHEN 4 THEN 32 ELSE 128 END
        AND octet_length(n.body) <= 67108864
    ) IS NOT FALSE THEN n.callback_id ELSE callbackd.refuse_callback() END
    FROM new_callbacks AS n;
    RETURN NULL;
END
$$;

-- The other tables, which are written less often, have CHECKs. NOT VALID skips existing
-- rows.
ALTER TABLE callbackd.rejected_callbacks
    ADD CONSTRAINT rejected_callbacks_texts_check
        CHECK (octet_length(reason) <= 1024 AND octet_length(content_type) <= 1024) NOT VALID,
    ADD CONSTRAINT rejected_callbacks_source_ip_check
        CHECK (masklen(source_ip) = CASE family(source_ip) WHEN 4 THEN 32 ELSE 128 END) NOT VALID,
    ADD CONSTRAINT rejected_callbacks_body_check
        CHECK (octet_length(body) <= 65536) NOT VALID,
    ADD CONSTRAINT rejected_callbacks_times_check
        CHECK (received_at >= '1970-01-01T00:00:00Z' AND received_at < '2200-01-01T00:00:00Z'
            AND isfinite(replayed_at)) NOT VALID;

ALTER TABLE callbackd.allowlist_addresses
    ADD CONSTRAINT allowlist_addresses_host_check
        CHECK (octet_length(host) BETWEEN 1 AND 253) NOT VALID,
    ADD CONSTRAINT allowlist_addresses_address_check
        CHECK (masklen(address) = CASE family(address) WHEN 4 THEN 32 ELSE 128 END) NOT VALID,
    ADD CONSTRAINT allowlist_addresses_times_check
        CHECK (last_seen >= '1970-01-01T00:00:00Z' AND last_seen < '2200-01-01T00:00:00Z'
            AND (missing_since IS NULL OR missing_since >= '1970-01-01T00:00:00Z' AND missing_since < '2200-01-01T00:00:00Z')) NOT VALID;

-- Only on columns: with UPDATE on the table, the role could LOCK it.
REVOKE UPDATE ON callbackd.allowlist_addresses FROM callbackd_receiver;
GRANT UPDATE (last_seen, missing_since) ON callbackd.allowlist_addresses TO callbackd_receiver;

ALTER TABLE callbackd.workflow_executions
    ADD CONSTRAINT workflow_executions_ids_check
        CHECK (octet_length(workflow_execution_id) <= 64 AND workflow_execution_id COLLATE "C" ~ '^[A-Za-z0-9_-]+$'
            AND octet_length(account_id) <= 64 AND account_id COLLATE "C" ~ '^[A-Za-z0-9_-]+$') NOT VALID,
    ADD CONSTRAINT workflow_executions_texts_check
        CHECK (octet_length(status) <= 256 AND octet_length(definition_key) <= 256
            AND octet_length(user_reference) <= 1024
            AND octet_length(workflow_href) <= 2048 AND octet_length(account_href) <= 2048) NOT VALID,
    -- When details were first stored. From then on, the account, reference and definition
    -- are theirs, not the callbacks'.
    ADD COLUMN details_retrieved_at timestamptz,
    -- The data center that answered with the details.
    ADD COLUMN data_center text,
    -- The state to return to if a retrieval gets nothing: that of an earlier one that
    -- got something.
    ADD COLUMN result_state text,
    -- The retrieval begins with Get Status: callbacks contradict each other.
    ADD COLUMN retrieval_asks_status boolean NOT NULL DEFAULT false,
    -- When another retrieval is due.
    ADD COLUMN retrieval_due_at timestamptz,
    -- The theoretical arrival time of the generic cell rate algorithm, which paces the
    -- retrievals that callbacks begin.
    ADD COLUMN retrieval_paced_at timestamptz,
    -- The run that holds the lease. A job that runs twice has two tokens.
    ADD COLUMN lease_token uuid,
    ADD CONSTRAINT workflow_executions_result_state_check CHECK (result_state IN ('retrieved', 'partial')) NOT VALID,
    ADD CONSTRAINT workflow_executions_data_center_check CHECK (octet_length(data_center) <= 63) NOT VALID;

-- An empty table to lock while events are appended. Any role could take an advisory lock;
-- only the owner has a right on this table.
CREATE TABLE callbackd.event_order ();

-- append_events without the notification. Once listeners that do not read have let the
-- cluster's queue fill, a NOTIFY makes its transaction fail at the commit. The program
-- notifies after the commit instead.
CREATE FUNCTION callbackd.add_events(types text[], workflow_execution_ids text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    LOCK TABLE callbackd.event_order IN EXCLUSIVE MODE;
    INSERT INTO callbackd.events (occurred_at, type, workflow_execution_id)
        SELECT clock_timestamp(), e.type, e.id
        FROM unnest(types, workflow_execution_ids) WITH ORDINALITY AS e (type, id, position)
        ORDER BY e.position;
END
$$;
REVOKE ALL ON FUNCTION callbackd.add_events(text[], text[]) FROM PUBLIC;

-- For the previous version, which calls it while instances are replaced.
CREATE OR REPLACE FUNCTION callbackd.append_events(types text[], workflow_execution_ids text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM callbackd.add_events(types, workflow_execution_ids);
    PERFORM pg_notify('jumio_events', d.id) FROM (SELECT DISTINCT unnest(workflow_execution_ids) AS id) AS d;
END
$$;

-- The details override the callbacks.
CREATE OR REPLACE VIEW jumio.workflow_executions AS
SELECT w.workflow_execution_id,
       coalesce(callbackd.scalar_text(d.details #> '{account,id}'), w.account_id) AS account_id,
       coalesce(callbackd.scalar_text(d.details #> '{workflow,definitionKey}'), w.definition_key) AS definition_key,
       w.status,
       coalesce(callbackd.scalar_text(d.details #> '{workflow,userReference}'), w.user_reference) AS user_reference,
       callbackd.scalar_text(d.details #> '{workflow,customerInternalReference}') AS customer_internal_reference,
       w.callback_count, w.first_callback_at, w.last_callback_at,
       w.retrieval_state, w.retrieval_attempts, w.retrieval_error, w.retrieved_at,
       callbackd.to_timestamptz_or_null(d.details -> 'createdAt') AS created_at,
       callbackd.to_timestamptz_or_null(d.details -> 'startedAt') AS started_at,
       callbackd.to_timestamptz_or_null(d.details -> 'completedAt') AS completed_at,
       d.details
FROM callbackd.workflow_executions AS w
LEFT JOIN callbackd.workflow_details AS d USING (workflow_execution_id);

COMMENT ON COLUMN jumio.workflow_executions.account_id IS 'Jumio''s id of the account (one end user): of the details, before they are there of the callbacks.';
COMMENT ON COLUMN jumio.workflow_executions.definition_key IS 'Key of the workflow definition: of the details, before they are there of the callbacks.';
COMMENT ON COLUMN jumio.workflow_executions.user_reference IS 'userReference of the details; before they are there, or where they name none, of the callbacks.';
COMMENT ON COLUMN jumio.workflow_executions.status IS 'Status of the newest callback by callbackSentAt, or what Jumio itself said when it was asked; an open list.';
COMMENT ON VIEW jumio.rejected_callbacks IS 'Requests on the callback path that were refused with 400 or 403, up to the hourly limit, and callbacks that were answered 200 and could not be stored or promoted (not_storable).';
