-- What has been in a stage for long?
CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_executions_stage_idx ON callbackd.workflow_executions
    (callbackd.stage(erased_at, details_id, retrieval_state, overdue_at, status), last_callback_at, workflow_execution_id);
