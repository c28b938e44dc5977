-- The same, by the customer internal reference.
CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_executions_customer_internal_reference_idx ON callbackd.workflow_executions (customer_internal_reference)
    WHERE customer_internal_reference IS NOT NULL;
