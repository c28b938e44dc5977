-- What Jumio's details say, in typed tables that are written once, with the details. The
-- details themselves move into a table by month; workflow_details keeps those that have
-- not been moved yet, and those that the previous version still writes while instances are
-- replaced. The views read both. `migrate up` moves the details before the next migration.

-- An id is a UUIDv7 of when the details were stored.
CREATE TABLE callbackd.details (
    details_id uuid PRIMARY KEY,
    workflow_execution_id text NOT NULL,
    generation int NOT NULL,
    -- The body with U+FFFD for what jsonb cannot hold; NULL if jsonb rejects even that.
    details jsonb,
    -- Jumio's bytes, unchanged.
    body bytea NOT NULL
) PARTITION BY RANGE (details_id);
CREATE TABLE callbackd.details_1 PARTITION OF callbackd.details FOR VALUES FROM (MINVALUE) TO (MAXVALUE);

CREATE TABLE callbackd.credentials (
    details_id uuid NOT NULL,
    position int NOT NULL,
    credential_id text,
    category text,
    classifiers text[] NOT NULL,
    PRIMARY KEY (details_id, position)
) PARTITION BY RANGE (details_id);
CREATE TABLE callbackd.credentials_1 PARTITION OF callbackd.credentials FOR VALUES FROM (MINVALUE) TO (MAXVALUE);

CREATE TABLE callbackd.capabilities (
    details_id uuid NOT NULL,
    capability text NOT NULL,
    position int NOT NULL,
    capability_id text,
    decision_type text,
    decision_label text,
    credential_ids text[] NOT NULL,
    credential_categories text[] NOT NULL,
    similarity text,
    liveness_type text,
    valid_face_map_for_authentication text,
    PRIMARY KEY (details_id, capability, position)
) PARTITION BY RANGE (details_id);
CREATE TABLE callbackd.capabilities_1 PARTITION OF callbackd.capabilities FOR VALUES FROM (MINVALUE) TO (MAXVALUE);

-- Not by month: jumio.verifications looks up one for each row, and by document number.
CREATE TABLE callbackd.extracted_documents (
    details_id uuid NOT NULL,
    workflow_execution_id text NOT NULL,
    position int NOT NULL,
    -- The first of the workflow execution, which jumio.verifications shows.
    is_first boolean NOT NULL,
    credential_ids text[] NOT NULL,
    type text, sub_type text, issuing_country text, first_name text, last_name text, date_of_birth date,
    expiry_date date, issuing_date date, document_number text, gender text, nationality text, state text,
    personal_number text, optional_mrz_field1 text, optional_mrz_field2 text, issuing_authority text,
    issuing_place text, curp text, place_of_birth text, tax_number text, cpf text, registration_number text,
    mothers_name text, fathers_name text, personal_identification_number text, rg_number text,
    dl_categories text[], voter_id_number text, issuing_number text, passport_number text,
    duration_of_stay text, number_of_entries text, visa_category text, dni text, pesel text,
    address_line1 text, address_line2 text, address_line3 text, address_line4 text, address_line5 text,
    address_country text, address_postal_code text, address_subdivision text, address_city text,
    address_formatted text,
    PRIMARY KEY (workflow_execution_id, position, details_id)
);
CREATE INDEX extracted_documents_document_number_idx ON callbackd.extracted_documents (document_number, issuing_country);

ALTER TABLE callbackd.workflow_executions
    ADD COLUMN user_reference_unsigned text,
    -- From the details. NULL, with the next ten, until they are in the typed tables.
    ADD COLUMN details_id uuid,
    ADD COLUMN customer_internal_reference text,
    ADD COLUMN created_at timestamptz,
    ADD COLUMN started_at timestamptz,
    ADD COLUMN completed_at timestamptz,
    ADD COLUMN jumio_decision_type text,
    ADD COLUMN jumio_decision_label text,
    ADD COLUMN risk_score numeric,
    -- What follows from them (internal/details, Decide).
    ADD COLUMN decision_type text,
    ADD COLUMN decision_source text,
    ADD COLUMN reason_capability text,
    ADD COLUMN reason_type text,
    ADD COLUMN reason_label text,
    -- Published images; NULL if the previous version has published them.
    ADD COLUMN image_count int,
    ALTER COLUMN image_count SET DEFAULT 0, -- so that it is NULL for earlier rows
    -- Whether an earlier attempt of the current retrieval got something new.
    ADD COLUMN retrieval_changed boolean NOT NULL DEFAULT false,
    -- When it was expected, was given up as overdue, and was erased.
    ADD COLUMN expected_at timestamptz,
    ADD COLUMN overdue_at timestamptz,
    ADD COLUMN erased_at timestamptz;

-- Removes details, with all that was read from them.
CREATE FUNCTION callbackd.remove_details(ids uuid[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    id uuid;
BEGIN
    FOREACH id IN ARRAY ids LOOP -- one by one, so that only one partition is read
        DELETE FROM callbackd.credentials AS t WHERE t.details_id = id;
        DELETE FROM callbackd.capabilities AS t WHERE t.details_id = id;
        DELETE FROM callbackd.extracted_documents AS t USING callbackd.details AS d
            WHERE d.details_id = id AND t.details_id = id AND t.workflow_execution_id = d.workflow_execution_id;
        DELETE FROM callbackd.details AS t WHERE t.details_id = id;
    END LOOP;
END
$$;
REVOKE ALL ON FUNCTION callbackd.remove_details(uuid[]) FROM PUBLIC;

-- Whoever deletes workflow executions deletes their results.
CREATE FUNCTION callbackd.remove_results() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM callbackd.remove_details(ARRAY(SELECT g.details_id FROM gone AS g WHERE g.details_id IS NOT NULL));
    DELETE FROM callbackd.images AS i USING gone AS g WHERE i.workflow_execution_id = g.workflow_execution_id;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION callbackd.remove_results() FROM PUBLIC;
CREATE TRIGGER remove_results AFTER DELETE ON callbackd.workflow_executions
    REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION callbackd.remove_results();

-- The previous version has stored details: what was read from earlier ones goes. A worker
-- of this version reads the new ones within a minute.
CREATE FUNCTION callbackd.details_to_read() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM callbackd.remove_details(ARRAY(SELECT w.details_id FROM callbackd.workflow_executions AS w
        WHERE w.workflow_execution_id = NEW.workflow_execution_id AND w.details_id IS NOT NULL));
    UPDATE callbackd.workflow_executions AS w SET
        details_id = NULL, jumio_decision_type = NULL, jumio_decision_label = NULL, risk_score = NULL, image_count = NULL,
        decision_type = NULL, decision_source = NULL, reason_capability = NULL, reason_type = NULL, reason_label = NULL,
        customer_internal_reference = left(callbackd.scalar_text(NEW.details #> '{workflow,customerInternalReference}'), 256),
        created_at = callbackd.to_timestamptz_or_null(NEW.details -> 'createdAt'),
        started_at = callbackd.to_timestamptz_or_null(NEW.details -> 'startedAt'),
        completed_at = callbackd.to_timestamptz_or_null(NEW.details -> 'completedAt')
    WHERE w.workflow_execution_id = NEW.workflow_execution_id;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION callbackd.details_to_read() FROM PUBLIC;
CREATE TRIGGER details_to_read AFTER INSERT OR UPDATE ON callbackd.workflow_details
    FOR EACH ROW EXECUTE FUNCTION callbackd.details_to_read();

-- 23:59:60.5 passed the check, and Postgres rejects it.
CREATE OR REPLACE FUNCTION callbackd.to_timestamptz_or_null(value jsonb) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN callbackd.to_date_or_null(to_jsonb(left(value #>> '{}', 10))) IS NOT NULL
            AND octet_length(value #>> '{}') <= 64
            AND substr(value #>> '{}', 11) ~ '^(?!T23:59:60\.0*[1-9])T([01]\d|2[0-3]):[0-5]\d(:([0-5]\d|60)(\.\d+)?)?(Z|[+-](0\d|1[0-5]):?[0-5]\d)$'
        THEN (value #>> '{}')::timestamptz END;

CREATE OR REPLACE VIEW jumio.workflow_executions AS
SELECT w.workflow_execution_id,
       coalesce(callbackd.scalar_text(o.details #> '{account,id}'), w.account_id) AS account_id,
       coalesce(callbackd.scalar_text(o.details #> '{workflow,definitionKey}'), w.definition_key) AS definition_key,
       w.status,
       coalesce(callbackd.scalar_text(o.details #> '{workflow,userReference}'), w.user_reference) AS user_reference,
       coalesce(callbackd.scalar_text(o.details #> '{workflow,customerInternalReference}'), w.customer_internal_reference) AS customer_internal_reference,
       w.callback_count, w.first_callback_at, w.last_callback_at,
       w.retrieval_state, w.retrieval_attempts, w.retrieval_error, w.retrieved_at,
       coalesce(callbackd.to_timestamptz_or_null(o.details -> 'createdAt'), w.created_at) AS created_at,
       coalesce(callbackd.to_timestamptz_or_null(o.details -> 'startedAt'), w.started_at) AS started_at,
       coalesce(callbackd.to_timestamptz_or_null(o.details -> 'completedAt'), w.completed_at) AS completed_at,
       coalesce(o.details, (SELECT d.details FROM callbackd.details AS d WHERE d.details_id = w.details_id)) AS details
FROM callbackd.workflow_executions AS w
LEFT JOIN callbackd.workflow_details AS o USING (workflow_execution_id);

CREATE OR REPLACE VIEW jumio.capabilities AS
SELECT w.workflow_execution_id, c.capability, c.position, c.decision_type, c.decision_label, c.credential_ids,
       (SELECT callbackd.as_array(d.details #> ARRAY['capabilities', c.capability]) -> (c.position - 1)
        FROM callbackd.details AS d WHERE d.details_id = c.details_id) AS data
FROM callbackd.workflow_executions AS w JOIN callbackd.capabilities AS c ON c.details_id = w.details_id
UNION ALL
SELECT d.workflow_execution_id, c.key, e.position::int,
       callbackd.scalar_text(e.value #> '{decision,type}'), callbackd.scalar_text(e.value #> '{decision,details,label}'),
       ARRAY(SELECT callbackd.scalar_text(r.value -> 'id')
             FROM jsonb_array_elements(callbackd.as_array(e.value -> 'credentials')) WITH ORDINALITY AS r (value, n)
             WHERE callbackd.scalar_text(r.value -> 'id') IS NOT NULL
             ORDER BY r.n),
       e.value
FROM callbackd.workflow_details AS d,
     jsonb_each(callbackd.as_object(d.details -> 'capabilities')) AS c,
     jsonb_array_elements(callbackd.as_array(c.value)) WITH ORDINALITY AS e (value, position);

CREATE OR REPLACE VIEW jumio.extracted_documents AS
SELECT x.workflow_execution_id, x.position,
       x.type, x.sub_type, x.issuing_country, x.first_name, x.last_name, x.date_of_birth, x.expiry_date,
       x.issuing_date, x.document_number, x.gender, x.nationality,
       (SELECT nullif(callbackd.as_array(d.details #> '{capabilities,extraction}') -> (x.position - 1) #> '{data,address}', 'null'::jsonb)
        FROM callbackd.details AS d WHERE d.details_id = x.details_id) AS address,
       (SELECT callbackd.as_array(d.details #> '{capabilities,extraction}') -> (x.position - 1) -> 'data'
        FROM callbackd.details AS d WHERE d.details_id = x.details_id) AS data
FROM callbackd.extracted_documents AS x
UNION ALL
SELECT d.workflow_execution_id, e.position::int,
       callbackd.scalar_text(x.data -> 'type'), callbackd.scalar_text(x.data -> 'subType'), callbackd.scalar_text(x.data -> 'issuingCountry'),
       callbackd.scalar_text(x.data -> 'firstName'), callbackd.scalar_text(x.data -> 'lastName'),
       callbackd.to_date_or_null(x.data -> 'dateOfBirth'), callbackd.to_date_or_null(x.data -> 'expiryDate'),
       callbackd.to_date_or_null(x.data -> 'issuingDate'),
       callbackd.scalar_text(x.data -> 'documentNumber'), callbackd.scalar_text(x.data -> 'gender'), callbackd.scalar_text(x.data -> 'nationality'),
       nullif(x.data -> 'address', 'null'::jsonb), x.data
FROM callbackd.workflow_details AS d,
     jsonb_array_elements(callbackd.as_array(d.details #> '{capabilities,extraction}')) WITH ORDINALITY AS e (value, position),
     LATERAL (SELECT e.value -> 'data' AS data) AS x
WHERE jsonb_typeof(x.data) = 'object';

-- The stage of a verification, for people. It is a function so that an index can use it.
CREATE FUNCTION callbackd.stage(erased_at timestamptz, details_id uuid, retrieval_state text, overdue_at timestamptz, status text)
    RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN erased_at IS NOT NULL THEN 'erased'
        WHEN details_id IS NOT NULL THEN 'decided'
        WHEN retrieval_state = 'failed' THEN 'failed'
        WHEN retrieval_state = 'not_required' THEN 'expired'
        WHEN overdue_at IS NOT NULL THEN 'overdue'
        WHEN status = 'INITIATED' OR status IS NULL AND retrieval_state = 'awaiting' THEN 'created'
        WHEN status = 'ACQUISITION_STARTED' THEN 'started'
        ELSE 'in_review' END;
