ALTER TABLE callbackd.workflow_executions
    DROP COLUMN account_id_sent_at, DROP COLUMN definition_key_sent_at, DROP COLUMN user_reference_sent_at,
    DROP COLUMN workflow_href_sent_at, DROP COLUMN account_href_sent_at;
