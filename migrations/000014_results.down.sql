-- The details return to workflow_details, from which the earlier views compute.
DROP TRIGGER details_to_read ON callbackd.workflow_details;
INSERT INTO callbackd.workflow_details (workflow_execution_id, generation, details, body)
SELECT w.workflow_execution_id, d.generation, d.details, d.body
FROM callbackd.workflow_executions AS w JOIN callbackd.details AS d ON d.details_id = w.details_id
ON CONFLICT (workflow_execution_id) DO NOTHING;

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

CREATE OR REPLACE VIEW jumio.capabilities AS
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

CREATE OR REPLACE VIEW jumio.extracted_documents AS
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

DROP TRIGGER remove_results ON callbackd.workflow_executions;
DROP FUNCTION callbackd.details_to_read();
DROP FUNCTION callbackd.stage(timestamptz, uuid, text, timestamptz, text);
DROP FUNCTION callbackd.remove_results();
DROP FUNCTION callbackd.remove_details(uuid[]);
DROP TABLE callbackd.extracted_documents, callbackd.capabilities, callbackd.credentials, callbackd.details;
ALTER TABLE callbackd.workflow_executions
    DROP COLUMN user_reference_unsigned, DROP COLUMN details_id, DROP COLUMN customer_internal_reference,
    DROP COLUMN created_at, DROP COLUMN started_at, DROP COLUMN completed_at,
    DROP COLUMN jumio_decision_type, DROP COLUMN jumio_decision_label, DROP COLUMN risk_score,
    DROP COLUMN decision_type, DROP COLUMN decision_source, DROP COLUMN reason_capability, DROP COLUMN reason_type,
    DROP COLUMN reason_label, DROP COLUMN image_count, DROP COLUMN retrieval_changed,
    DROP COLUMN expected_at, DROP COLUMN overdue_at, DROP COLUMN erased_at;
