-- In the order in which an insert locks them; the reverse order would deadlock.
DROP TABLE callbackd.callbacks, callbackd.inbox, callbackd.rejected_callbacks, callbackd.allowlist_addresses,
    callbackd.workflow_executions, callbackd.workflow_details, callbackd.images, callbackd.events;
DROP FUNCTION callbackd.append_events(text[], text[]);
DROP FUNCTION callbackd.queue_callbacks();
ALTER TABLE callbackd.river_job RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold);
CREATE INDEX river_job_args_index ON callbackd.river_job USING gin (args);
CREATE INDEX river_job_metadata_index ON callbackd.river_job USING gin (metadata);

-- The next migration granted these rights, if it ever ran here. Without tables they are
-- useless, but they would prevent DROP ROLE.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'callbackd_receiver') THEN
        REVOKE SELECT ON callbackd.schema_migrations FROM callbackd_receiver;
        REVOKE USAGE ON SCHEMA callbackd FROM callbackd_receiver;
    END IF;
END
$$;
