-- The roles stay: other databases may use them. So do the receivers' rights on
-- the tables, which are the version's before: receivers that run go on.
DROP VIEW jumio.events, jumio.rejected_callbacks, jumio.images, jumio.extracted_documents, jumio.capabilities,
    jumio.workflow_executions, jumio.callbacks;
DROP SCHEMA jumio;
DROP FUNCTION callbackd.to_timestamptz_or_null(jsonb), callbackd.to_date_or_null(jsonb), callbackd.as_object(jsonb),
    callbackd.as_array(jsonb), callbackd.scalar_text(jsonb);
