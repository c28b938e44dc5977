-- When relationships with customers ended, for retention: what a service has reported.
CREATE TABLE callbackd.relationships (
    account_id text PRIMARY KEY,
    -- NULL while it lasts.
    ended_at timestamptz,
    reported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    reported_by text NOT NULL DEFAULT session_user
);
-- The planner's statistics would keep samples when the rows are gone.
ALTER TABLE callbackd.relationships ALTER COLUMN account_id SET STATISTICS 0;
