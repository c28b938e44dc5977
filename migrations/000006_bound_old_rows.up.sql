-- Apart from the previous migration, whose locks delay callbacks, because these statements
-- read a table that may be large.

CREATE INDEX workflow_executions_due_idx ON callbackd.workflow_executions (retrieval_due_at)
    WHERE retrieval_due_at IS NOT NULL;

-- Whether Jumio has confirmed an account, however many workflow executions name it.
CREATE INDEX workflow_executions_known_account_idx ON callbackd.workflow_executions (account_id)
    WHERE details_retrieved_at IS NOT NULL OR retrieval_state IN ('retrieved', 'partial');

-- Jumio has no such ids; only the receivers' role could write them. Their callbacks stay.
DELETE FROM callbackd.workflow_executions
WHERE octet_length(workflow_execution_id) > 64 OR workflow_execution_id COLLATE "C" !~ '^[A-Za-z0-9_-]+$';

-- Updates of rows that break the new constraints would fail. The callbacks' bodies keep
-- what is truncated or removed here.
UPDATE callbackd.workflow_executions SET
    account_id = CASE WHEN account_id COLLATE "C" ~ '^[A-Za-z0-9_-]{1,64}$' THEN account_id END,
    status = CASE WHEN octet_length(status) <= 256 THEN status ELSE left(status, 64) END,
    definition_key = CASE WHEN octet_length(definition_key) <= 256 THEN definition_key ELSE left(definition_key, 64) END,
    user_reference = CASE WHEN octet_length(user_reference) <= 1024 THEN user_reference END,
    workflow_href = CASE WHEN octet_length(workflow_href) <= 2048 THEN workflow_href END,
    account_href = CASE WHEN octet_length(account_href) <= 2048 THEN account_href END
WHERE NOT (coalesce(octet_length(account_id) <= 64 AND account_id COLLATE "C" ~ '^[A-Za-z0-9_-]+$', true)
    AND coalesce(octet_length(status), 0) <= 256 AND coalesce(octet_length(definition_key), 0) <= 256
    AND coalesce(octet_length(user_reference), 0) <= 1024
    AND coalesce(octet_length(workflow_href), 0) <= 2048 AND coalesce(octet_length(account_href), 0) <= 2048);
DELETE FROM callbackd.allowlist_addresses
WHERE NOT (masklen(address) = CASE family(address) WHEN 4 THEN 32 ELSE 128 END
    AND isfinite(last_seen) AND last_seen < now() + interval '1 day'
    AND (missing_since IS NULL OR isfinite(missing_since) AND missing_since < now() + interval '1 day'));
