-- Where do the verifications of a person stand?
CREATE INDEX CONCURRENTLY IF NOT EXISTS workflow_executions_user_reference_idx ON callbackd.workflow_executions (user_reference)
    WHERE user_reference IS NOT NULL;
