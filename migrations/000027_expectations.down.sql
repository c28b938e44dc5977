DROP FUNCTION jumio.expect(text, text, text, text, text, interval);
DROP VIEW jumio.expectations;
DROP TABLE callbackd.expectations, callbackd.reconciliation;
-- Only rows that no callback has named, and nothing was retrieved for.
DELETE FROM callbackd.workflow_executions
WHERE expected_at IS NOT NULL AND callback_count = 0 AND details_id IS NULL AND retrieval_generation = 0;
UPDATE callbackd.workflow_executions SET expected_at = NULL, overdue_at = NULL WHERE expected_at IS NOT NULL OR overdue_at IS NOT NULL;
ALTER TABLE callbackd.workflow_executions DROP COLUMN recovered_status;
COMMENT ON COLUMN jumio.verifications.expected_at IS 'When it was expected; NULL if only a callback told of it.';
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'jumio_starter') THEN
        REVOKE USAGE ON SCHEMA jumio FROM jumio_starter;
    END IF;
END
$$;
