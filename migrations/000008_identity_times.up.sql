-- When the callbacks that supplied a workflow execution's values were sent, so that each
-- value is the newest, in whatever order the callbacks arrive.
ALTER TABLE callbackd.workflow_executions
    ADD COLUMN account_id_sent_at timestamptz,
    ADD COLUMN definition_key_sent_at timestamptz,
    ADD COLUMN user_reference_sent_at timestamptz,
    ADD COLUMN workflow_href_sent_at timestamptz,
    ADD COLUMN account_href_sent_at timestamptz;
