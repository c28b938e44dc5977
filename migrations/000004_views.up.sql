-- The public interface: the schema jumio and the roles that may use it. Changes are
-- compatible: columns may be added, but no column may be removed or change its meaning or
-- type (docs/database.md).

-- A scalar in the details as text; NULL if it is missing or of another type.
CREATE FUNCTION callbackd.scalar_text(value jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(value) IN ('string', 'number', 'boolean') THEN value #>> '{}' END;

-- An array as it is; a single object as an array of one; anything else as an empty array.
CREATE FUNCTION callbackd.as_array(value jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE jsonb_typeof(value) WHEN 'array' THEN value WHEN 'object' THEN jsonb_build_array(value) ELSE '[]'::jsonb END;

CREATE FUNCTION callbackd.as_object(value jsonb) RETURNS jsonb
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE jsonb_typeof(value) WHEN 'object' THEN value ELSE '{}'::jsonb END;

-- The patterns reject other texts that Postgres accepts as dates: 'today', 'infinity',
-- '01/02/03'. These two call no function of this schema: a plpgsql body resolves names
-- when it runs, and the readers have no rights here.
CREATE FUNCTION callbackd.to_date_or_null(value jsonb) RETURNS date
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    IF (value #>> '{}') ~ '^\d{4}-\d{2}-\d{2}$' THEN
        RETURN make_date(left(value #>> '{}', 4)::int, substr(value #>> '{}', 6, 2)::int, right(value #>> '{}', 2)::int);
    END IF;
    RETURN NULL;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;

CREATE FUNCTION callbackd.to_timestamptz_or_null(value jsonb) RETURNS timestamptz
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
AS $$
BEGIN
    IF (value #>> '{}') ~ '^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})$' THEN
        RETURN (value #>> '{}')::timestamptz;
    END IF;
    RETURN NULL;
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END
$$;

CREATE SCHEMA jumio;
COMMENT ON SCHEMA jumio IS 'Results of Jumio''s identity verification, kept by callbackd. Public interface: changed only in compatible ways.';

CREATE VIEW jumio.callbacks AS
SELECT c.callback_id, c.received_at, c.source_ip, c.content_type, c.body, c.workflow_execution_id,
       c.workflow_status, c.workflow_href, c.definition_key, c.account_id, c.account_href,
       c.user_reference, c.callback_sent_at
FROM callbackd.callbacks AS c;

COMMENT ON VIEW jumio.callbacks IS 'Every delivery of a callback, duplicates included, as it came.';
COMMENT ON COLUMN jumio.callbacks.callback_id IS 'UUIDv7; the X-Request-Id of the answer and the request_id of the log line.';
COMMENT ON COLUMN jumio.callbacks.received_at IS 'When the request was received.';
COMMENT ON COLUMN jumio.callbacks.source_ip IS 'The client address that was checked against the allowlist.';
COMMENT ON COLUMN jumio.callbacks.content_type IS 'The Content-Type header, unparsed.';
COMMENT ON COLUMN jumio.callbacks.body IS 'The body, byte for byte.';
COMMENT ON COLUMN jumio.callbacks.workflow_execution_id IS 'workflowExecution.id';
COMMENT ON COLUMN jumio.callbacks.workflow_status IS 'workflowExecution.status; an open list: PROCESSED, SESSION_EXPIRED, TOKEN_EXPIRED and others.';
COMMENT ON COLUMN jumio.callbacks.workflow_href IS 'workflowExecution.href; never requested as it stands.';
COMMENT ON COLUMN jumio.callbacks.definition_key IS 'workflowExecution.definitionKey as text.';
COMMENT ON COLUMN jumio.callbacks.account_id IS 'account.id';
COMMENT ON COLUMN jumio.callbacks.account_href IS 'account.href';
COMMENT ON COLUMN jumio.callbacks.user_reference IS 'userReference as Jumio echoed it, a signature included.';
COMMENT ON COLUMN jumio.callbacks.callback_sent_at IS 'callbackSentAt; NULL where it is missing or unreadable.';

CREATE VIEW jumio.workflow_executions AS
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

COMMENT ON VIEW jumio.workflow_executions IS 'One row per workflow execution that a callback has named: its state, and its details once retrieved.';
COMMENT ON COLUMN jumio.workflow_executions.workflow_execution_id IS 'Jumio''s id of the workflow execution.';
COMMENT ON COLUMN jumio.workflow_executions.account_id IS 'Jumio''s id of the account (one end user).';
COMMENT ON COLUMN jumio.workflow_executions.definition_key IS 'Key of the workflow definition.';
COMMENT ON COLUMN jumio.workflow_executions.status IS 'Status of the newest callback by callbackSentAt, or of Get Status where that was asked; an open list.';
COMMENT ON COLUMN jumio.workflow_executions.user_reference IS 'userReference of the callbacks, else of the details.';
COMMENT ON COLUMN jumio.workflow_executions.customer_internal_reference IS 'workflow.customerInternalReference of the details.';
COMMENT ON COLUMN jumio.workflow_executions.callback_count IS 'Deliveries so far, duplicates included.';
COMMENT ON COLUMN jumio.workflow_executions.first_callback_at IS 'When the first callback was received.';
COMMENT ON COLUMN jumio.workflow_executions.last_callback_at IS 'When the latest callback was received.';
COMMENT ON COLUMN jumio.workflow_executions.retrieval_state IS 'awaiting (no final callback yet), pending, retrieved, partial (an image is unavailable), failed, not_required (expired).';
COMMENT ON COLUMN jumio.workflow_executions.retrieval_attempts IS 'Attempts of the current retrieval.';
COMMENT ON COLUMN jumio.workflow_executions.retrieval_error IS 'Why the latest attempt failed, or why images are missing: a short code, then ": " and a detail; NULL after success.';
COMMENT ON COLUMN jumio.workflow_executions.retrieved_at IS 'When the latest retrieval ended as retrieved or partial.';
COMMENT ON COLUMN jumio.workflow_executions.created_at IS 'createdAt of the details; NULL where missing or unreadable.';
COMMENT ON COLUMN jumio.workflow_executions.started_at IS 'startedAt of the details; NULL where missing or unreadable.';
COMMENT ON COLUMN jumio.workflow_executions.completed_at IS 'completedAt of the details; NULL where missing or unreadable.';
COMMENT ON COLUMN jumio.workflow_executions.details IS 'Get Workflow Details as Jumio sent it; what jsonb cannot hold is replaced by U+FFFD.';

CREATE VIEW jumio.capabilities AS
SELECT d.workflow_execution_id,
       c.key AS capability,
       e.position::int AS position,
       callbackd.scalar_text(e.value #> '{decision,type}') AS decision_type,
       callbackd.scalar_text(e.value #> '{decision,details,label}') AS decision_label,
       ARRAY(SELECT callbackd.scalar_text(r.value -> 'id')
             FROM jsonb_array_elements(callbackd.as_array(e.value -> 'credentials')) WITH ORDINALITY AS r (value, n)
             WHERE callbackd.scalar_text(r.value -> 'id') IS NOT NULL
             ORDER BY r.n) AS credential_ids,
       e.value AS data
FROM callbackd.workflow_details AS d,
     jsonb_each(callbackd.as_object(d.details -> 'capabilities')) AS c,
     jsonb_array_elements(callbackd.as_array(c.value)) WITH ORDINALITY AS e (value, position);

COMMENT ON VIEW jumio.capabilities IS 'One row per capability result of the details.';
COMMENT ON COLUMN jumio.capabilities.workflow_execution_id IS 'The workflow execution.';
COMMENT ON COLUMN jumio.capabilities.capability IS 'usability, imageChecks, extraction, dataChecks, liveness, similarity, authentication, and what Jumio adds.';
COMMENT ON COLUMN jumio.capabilities.position IS 'Place among the results of this capability, from 1, in Jumio''s order.';
COMMENT ON COLUMN jumio.capabilities.decision_type IS 'decision.type: PASSED, REJECTED, WARNING, NOT_EXECUTED; an open list.';
COMMENT ON COLUMN jumio.capabilities.decision_label IS 'decision.details.label; an open list.';
COMMENT ON COLUMN jumio.capabilities.credential_ids IS 'The credentials it was executed on; empty where Jumio names none.';
COMMENT ON COLUMN jumio.capabilities.data IS 'The whole result as Jumio sent it.';

CREATE VIEW jumio.extracted_documents AS
SELECT d.workflow_execution_id,
       e.position::int AS position,
       callbackd.scalar_text(x.data -> 'type') AS type,
       callbackd.scalar_text(x.data -> 'subType') AS sub_type,
       callbackd.scalar_text(x.data -> 'issuingCountry') AS issuing_country,
       callbackd.scalar_text(x.data -> 'firstName') AS first_name,
       callbackd.scalar_text(x.data -> 'lastName') AS last_name,
       callbackd.to_date_or_null(x.data -> 'dateOfBirth') AS date_of_birth,
       callbackd.to_date_or_null(x.data -> 'expiryDate') AS expiry_date,
       callbackd.to_date_or_null(x.data -> 'issuingDate') AS issuing_date,
       callbackd.scalar_text(x.data -> 'documentNumber') AS document_number,
       callbackd.scalar_text(x.data -> 'gender') AS gender,
       callbackd.scalar_text(x.data -> 'nationality') AS nationality,
       nullif(x.data -> 'address', 'null'::jsonb) AS address,
       x.data
FROM callbackd.workflow_details AS d,
     jsonb_array_elements(callbackd.as_array(d.details #> '{capabilities,extraction}')) WITH ORDINALITY AS e (value, position),
     LATERAL (SELECT e.value -> 'data' AS data) AS x
WHERE jsonb_typeof(x.data) = 'object';

COMMENT ON VIEW jumio.extracted_documents IS 'One row per extraction result that has data: what was read from a document.';
COMMENT ON COLUMN jumio.extracted_documents.workflow_execution_id IS 'The workflow execution.';
COMMENT ON COLUMN jumio.extracted_documents.position IS 'Place among the extraction results, from 1, as in jumio.capabilities.';
COMMENT ON COLUMN jumio.extracted_documents.type IS 'PASSPORT, DRIVING_LICENSE, ID_CARD, VISA, UNSUPPORTED; an open list.';
COMMENT ON COLUMN jumio.extracted_documents.sub_type IS 'subType';
COMMENT ON COLUMN jumio.extracted_documents.issuing_country IS 'issuingCountry, ISO 3166-1 alpha-3.';
COMMENT ON COLUMN jumio.extracted_documents.first_name IS 'firstName';
COMMENT ON COLUMN jumio.extracted_documents.last_name IS 'lastName';
COMMENT ON COLUMN jumio.extracted_documents.date_of_birth IS 'dateOfBirth; NULL where it is no date (the original is in data).';
COMMENT ON COLUMN jumio.extracted_documents.expiry_date IS 'expiryDate; NULL where it is no date.';
COMMENT ON COLUMN jumio.extracted_documents.issuing_date IS 'issuingDate; NULL where it is no date.';
COMMENT ON COLUMN jumio.extracted_documents.document_number IS 'documentNumber';
COMMENT ON COLUMN jumio.extracted_documents.gender IS 'gender';
COMMENT ON COLUMN jumio.extracted_documents.nationality IS 'nationality, ISO 3166-1 alpha-3.';
COMMENT ON COLUMN jumio.extracted_documents.address IS 'address as Jumio sent it.';
COMMENT ON COLUMN jumio.extracted_documents.data IS 'The whole data object as Jumio sent it.';

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

CREATE VIEW jumio.rejected_callbacks AS
SELECT r.rejected_id, r.received_at, r.source_ip, r.reason, r.content_type, r.body, r.replayed_at
FROM callbackd.rejected_callbacks AS r;

COMMENT ON VIEW jumio.rejected_callbacks IS 'Requests on the callback path that were refused with 400 or 403, up to the hourly limit.';
COMMENT ON COLUMN jumio.rejected_callbacks.rejected_id IS 'UUIDv7; the X-Request-Id of the answer and the request_id of the log line.';
COMMENT ON COLUMN jumio.rejected_callbacks.received_at IS 'When the request was received.';
COMMENT ON COLUMN jumio.rejected_callbacks.source_ip IS 'The client address; NULL where none could be determined.';
COMMENT ON COLUMN jumio.rejected_callbacks.reason IS 'A short code, then ": " and a detail.';
COMMENT ON COLUMN jumio.rejected_callbacks.content_type IS 'The Content-Type header, unparsed.';
COMMENT ON COLUMN jumio.rejected_callbacks.body IS 'The first 64 KiB of the body.';
COMMENT ON COLUMN jumio.rejected_callbacks.replayed_at IS 'When an operator took it in as if it had been accepted.';

CREATE VIEW jumio.events AS
SELECT e.event_id, e.occurred_at, e.type, e.workflow_execution_id
FROM callbackd.events AS e;

COMMENT ON VIEW jumio.events IS 'What happened, in order. Remember the highest event_id read: no smaller one appears later. NOTIFY jumio_events carries the workflow execution''s id.';
COMMENT ON COLUMN jumio.events.event_id IS 'Ascending, with gaps.';
COMMENT ON COLUMN jumio.events.occurred_at IS 'When it was recorded.';
COMMENT ON COLUMN jumio.events.type IS 'callback_received, retrieved (also for partial), retrieval_failed, expired.';
COMMENT ON COLUMN jumio.events.workflow_execution_id IS 'The workflow execution.';

-- Roles belong to the whole cluster, so a migration of another database may have created
-- them already, even a moment ago.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['jumio_reader', 'callbackd_receiver'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', name);
            END IF;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
END
$$;

GRANT USAGE ON SCHEMA jumio TO jumio_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA jumio TO jumio_reader;

-- For a receive-only instance: what faces the internet cannot read a passport.
GRANT USAGE ON SCHEMA callbackd TO callbackd_receiver;
GRANT INSERT ON callbackd.callbacks, callbackd.rejected_callbacks TO callbackd_receiver;
GRANT SELECT, INSERT, UPDATE ON callbackd.allowlist_addresses TO callbackd_receiver;
GRANT SELECT ON callbackd.schema_migrations TO callbackd_receiver;
