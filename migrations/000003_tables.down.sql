DROP FUNCTION callbackd.append_events(text[], text[]);
DROP TABLE callbackd.events, callbackd.images, callbackd.workflow_details, callbackd.workflow_executions,
    callbackd.allowlist_addresses, callbackd.rejected_callbacks, callbackd.inbox, callbackd.callbacks;
DROP FUNCTION callbackd.queue_callbacks();
ALTER TABLE callbackd.river_job RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
CREATE INDEX river_job_args_index ON callbackd.river_job USING gin (args);
CREATE INDEX river_job_metadata_index ON callbackd.river_job USING gin (metadata);
