DROP INDEX CONCURRENTLY IF EXISTS callbackd.workflow_executions_stage_idx;
