-- Who carries out the retention, and how far it is: one row.
CREATE TABLE callbackd.retention (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    -- When all was last looked through to the end.
    looked_at timestamptz,
    -- By class, since when the oldest row that should be gone is due; nothing for those
    -- that are not behind.
    oldest_due jsonb NOT NULL DEFAULT '{}',
    -- The worker that looks.
    lease_token uuid,
    lease_until timestamptz
);
INSERT INTO callbackd.retention DEFAULT VALUES;

-- Workflow executions whose image_count is to be stored again: a partition that held
-- images of theirs has been dropped, or soon will be. Until then it is NULL, and
-- jumio.verifications counts.
CREATE TABLE callbackd.uncounted (
    workflow_execution_id text PRIMARY KEY
);
