-- What was rejected lately?
CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_executions_decision_idx ON callbackd.workflow_executions (decision_type, details_retrieved_at, workflow_execution_id)
    WHERE decision_type IS NOT NULL;
