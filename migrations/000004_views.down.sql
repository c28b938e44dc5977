-- The roles stay: other databases may use them.
REVOKE SELECT ON callbackd.schema_migrations FROM callbackd_receiver;
REVOKE USAGE ON SCHEMA callbackd FROM callbackd_receiver;
REVOKE ALL ON callbackd.callbacks, callbackd.rejected_callbacks, callbackd.allowlist_addresses FROM callbackd_receiver;
DROP VIEW jumio.events, jumio.rejected_callbacks, jumio.images, jumio.extracted_documents, jumio.capabilities,
    jumio.workflow_executions, jumio.callbacks;
DROP SCHEMA jumio;
DROP FUNCTION callbackd.to_timestamptz_or_null(jsonb), callbackd.to_date_or_null(jsonb), callbackd.as_object(jsonb),
    callbackd.as_array(jsonb), callbackd.scalar_text(jsonb);
