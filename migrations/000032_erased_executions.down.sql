CREATE OR REPLACE VIEW jumio.workflow_executions AS
SELECT w.workflow_execution_id, w.account_id, w.definition_key, w.status, w.user_reference, w.customer_internal_reference,
       w.callback_count, w.first_callback_at, w.last_callback_at,
       w.retrieval_state, w.retrieval_attempts, w.retrieval_error, w.retrieved_at,
       w.created_at, w.started_at, w.completed_at,
       coalesce((SELECT o.details FROM callbackd.workflow_details AS o WHERE o.workflow_execution_id = w.workflow_execution_id),
                (SELECT d.details FROM callbackd.details AS d WHERE d.details_id = w.details_id)) AS details,
       w.user_reference_unsigned, w.jumio_decision_type AS decision_type, w.jumio_decision_label AS decision_label,
       w.risk_score, w.details_retrieved_at
FROM callbackd.workflow_executions AS w;
DROP TRIGGER mention ON callbackd.workflow_executions;
DROP FUNCTION callbackd.mention();
ALTER TABLE callbackd.workflow_executions DROP COLUMN erasure_order_id;
DROP FUNCTION callbackd.check_lease(text, uuid);
