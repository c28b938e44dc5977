DROP INDEX CONCURRENTLY IF EXISTS callbackd.workflow_executions_decision_idx;
