-- What has happened to a workflow execution?
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_1_workflow_execution_id_idx ON callbackd.events_1 (workflow_execution_id, event_id);
