-- The callbacks' bodies keep what was truncated.
DROP INDEX callbackd.workflow_executions_due_idx;
DROP INDEX callbackd.workflow_executions_known_account_idx;
