-- The newest, page by page.
CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_executions_first_callback_at_idx ON callbackd.workflow_executions (first_callback_at, workflow_execution_id);
