-- What was cut off is in the callbacks' bodies.
DROP INDEX callbackd.workflow_executions_due_idx;
DROP INDEX callbackd.workflow_executions_known_account_idx;
