-- The roles stay, because other databases may use them. The receivers' rights on the
-- previous version's tables stay, so that running receivers continue.
DROP VIEW jumio.events, jumio.rejected_callbacks, jumio.images, jumio.extracted_documents, jumio.capabilities,
    jumio.workflow_executions, jumio.callbacks;
DROP SCHEMA jumio;
DROP FUNCTION callbackd.to_timestamptz_or_null(jsonb), callbackd.to_date_or_null(jsonb), callbackd.as_object(jsonb),
    callbackd.as_array(jsonb), callbackd.scalar_text(jsonb);
