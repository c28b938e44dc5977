-- Was a callback of this workflow execution rejected?
CREATE INDEX CONCURRENTLY IF NOT EXISTS rejected_callbacks_1_workflow_execution_id_idx ON callbackd.rejected_callbacks_1 (workflow_execution_id)
    WHERE workflow_execution_id IS NOT NULL;
