DROP VIEW jumio.labels;
DROP TABLE callbackd.labels;
DROP FUNCTION jumio.id_at(timestamptz);
DROP FUNCTION jumio.handled(text, bigint);
DROP VIEW jumio.consumers;
DROP TABLE callbackd.consumers;
DROP VIEW jumio.verifications, jumio.credentials, jumio.extracted_documents, jumio.capabilities, jumio.workflow_executions;
DROP FUNCTION callbackd.count_images(text);
REVOKE ALL ON SCHEMA jumio FROM jumio_consumer;

CREATE VIEW jumio.workflow_executions AS
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

CREATE VIEW jumio.capabilities AS
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

CREATE VIEW jumio.extracted_documents AS
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
COMMENT ON COLUMN jumio.workflow_executions.account_id IS 'Jumio''s id of the account (one end user): of the details, before they are there of the callbacks.';
COMMENT ON COLUMN jumio.workflow_executions.definition_key IS 'Key of the workflow definition: of the details, before they are there of the callbacks.';
COMMENT ON COLUMN jumio.workflow_executions.user_reference IS 'userReference of the details; before they are there, or where they name none, of the callbacks.';
COMMENT ON COLUMN jumio.workflow_executions.status IS 'Status of the newest callback by callbackSentAt, or what Jumio itself said when it was asked; an open list.';
COMMENT ON COLUMN jumio.workflow_executions.account_id IS 'Jumio''s id of the account (one end user): from the details; until they are there, from the callbacks.';
COMMENT ON COLUMN jumio.workflow_executions.definition_key IS 'Key of the workflow definition: from the details; until they are there, from the callbacks.';
COMMENT ON COLUMN jumio.workflow_executions.user_reference IS 'userReference from the details; until they are there, or if they have none, from the callbacks.';
COMMENT ON COLUMN jumio.workflow_executions.status IS 'Status of the newest callback by callbackSentAt, or what Jumio answered when it was asked; an open list.';
COMMENT ON COLUMN jumio.workflow_executions.retrieval_state IS 'awaiting (no final callback yet), pending, retrieved, partial (an image is unavailable), failed, not_required (expired).';
COMMENT ON COLUMN jumio.workflow_executions.created_at IS 'createdAt of the details; NULL if it is missing or unreadable.';
COMMENT ON COLUMN jumio.workflow_executions.started_at IS 'startedAt of the details; NULL if it is missing or unreadable.';
COMMENT ON COLUMN jumio.workflow_executions.completed_at IS 'completedAt of the details; NULL if it is missing or unreadable.';
COMMENT ON VIEW jumio.capabilities IS 'One row per capability result of the details.';
COMMENT ON COLUMN jumio.capabilities.workflow_execution_id IS 'The workflow execution.';
COMMENT ON COLUMN jumio.capabilities.capability IS 'usability, imageChecks, extraction, dataChecks, liveness, similarity, authentication, and what Jumio adds.';
COMMENT ON COLUMN jumio.capabilities.position IS 'Place among the results of this capability, from 1, in Jumio''s order.';
COMMENT ON COLUMN jumio.capabilities.decision_type IS 'decision.type: PASSED, REJECTED, WARNING, NOT_EXECUTED; an open list.';
COMMENT ON COLUMN jumio.capabilities.decision_label IS 'decision.details.label; an open list.';
COMMENT ON COLUMN jumio.capabilities.credential_ids IS 'The credentials it was executed on; empty where Jumio names none.';
COMMENT ON COLUMN jumio.capabilities.data IS 'The whole result as Jumio sent it.';
COMMENT ON COLUMN jumio.capabilities.credential_ids IS 'The credentials it was executed on; empty if Jumio names none.';
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
COMMENT ON COLUMN jumio.extracted_documents.date_of_birth IS 'dateOfBirth; NULL if it is not a date (the original is in data).';
COMMENT ON COLUMN jumio.extracted_documents.expiry_date IS 'expiryDate; NULL if it is not a date.';
COMMENT ON COLUMN jumio.extracted_documents.issuing_date IS 'issuingDate; NULL if it is not a date.';
GRANT SELECT ON jumio.workflow_executions, jumio.capabilities, jumio.extracted_documents TO jumio_reader;
