-- The same, by the reference without our signature.
CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_executions_user_reference_unsigned_idx ON callbackd.workflow_executions (user_reference_unsigned)
    WHERE user_reference_unsigned IS NOT NULL;
