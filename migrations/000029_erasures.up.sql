-- The ledger of erasures. What identifies a person stands in it only until the order is
-- done; then hashes are left, which only CALLBACKD_ERASURE_KEY makes.

-- Tells a key from another one: HMAC-SHA-256 of a constant. One row once an order exists.
CREATE TABLE callbackd.erasure_key (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    key_check bytea NOT NULL
);

CREATE TABLE callbackd.erasures (
    order_id uuid PRIMARY KEY,
    requested_at timestamptz NOT NULL,
    requested_by text NOT NULL,
    reason text NOT NULL,
    subject_kind text NOT NULL CHECK (subject_kind IN ('account', 'user_reference', 'workflow_execution')),
    -- In clear until the order is done.
    subject text,
    -- Its HMAC, by the worker; by it a subject that is given again finds its order.
    subject_hash bytea,
    at_jumio boolean NOT NULL,
    state text NOT NULL DEFAULT 'ordered' CHECK (state IN ('ordered', 'held', 'running', 'done', 'failed')),
    -- What the worker does next (internal/eraser).
    step text NOT NULL DEFAULT 'resolve',
    error text,
    finished_at timestamptz,
    -- Counted in the transactions that delete.
    deleted jsonb NOT NULL DEFAULT '{}',
    jumio_answer jsonb NOT NULL DEFAULT '[]',
    -- Questions to Jumio so far, and when to go on.
    attempts int NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL DEFAULT '-infinity',
    -- The greatest id of its events erased: a consumer beyond it has seen them.
    last_event_id bigint,
    -- The worker that carries it out.
    lease_token uuid,
    lease_until timestamptz
);
CREATE INDEX erasures_open_idx ON callbackd.erasures (next_at) WHERE state IN ('ordered', 'held', 'running');

-- What an order covers, in clear, until it is done.
CREATE TABLE callbackd.erasure_subjects (
    order_id uuid NOT NULL REFERENCES callbackd.erasures ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('account', 'user_reference', 'workflow_execution')),
    subject text NOT NULL,
    -- For the deletion at Jumio; NULL if unknown.
    data_center text,
    account_id text,
    deleted_at_jumio boolean NOT NULL DEFAULT false,
    erased boolean NOT NULL DEFAULT false,
    PRIMARY KEY (order_id, kind, subject)
);

-- What is barred: HMAC-SHA-256 under CALLBACKD_ERASURE_KEY of kind and id. Those of a user
-- reference bar nothing; they only say that it was erased.
CREATE TABLE callbackd.tombstones (
    hash bytea PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('account', 'user_reference', 'workflow_execution')),
    order_id uuid NOT NULL,
    erased_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX tombstones_order_id_idx ON callbackd.tombstones (order_id);

-- Legal holds: neither erasure nor retention takes what is held.
CREATE TABLE callbackd.holds (
    workflow_execution_id text PRIMARY KEY,
    reason text NOT NULL,
    held_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    held_by text NOT NULL DEFAULT session_user
);

-- Account ids and user references that a callback or an expectation has named for a
-- workflow execution which is, as far as its row says, another's.
CREATE TABLE callbackd.mentions (
    subject text NOT NULL,
    workflow_execution_id text NOT NULL,
    PRIMARY KEY (subject, workflow_execution_id)
);
CREATE INDEX mentions_workflow_execution_id_idx ON callbackd.mentions (workflow_execution_id);

-- The planner's statistics would keep samples of them when the rows are gone: ANALYZE
-- leaves those of an empty table as they are.
ALTER TABLE callbackd.erasures ALTER COLUMN subject SET STATISTICS 0;
ALTER TABLE callbackd.erasure_subjects ALTER COLUMN subject SET STATISTICS 0, ALTER COLUMN account_id SET STATISTICS 0;
ALTER TABLE callbackd.mentions ALTER COLUMN subject SET STATISTICS 0;

-- Receivers' spools that are not empty, as far as they could say so: an order waits for
-- those that were not empty before it.
CREATE TABLE callbackd.spools (
    spool_id uuid PRIMARY KEY,
    host text NOT NULL,
    not_empty_since timestamptz NOT NULL DEFAULT clock_timestamp(),
    reported_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION callbackd.report_spool(spool_id uuid, host text, empty boolean) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
#variable_conflict use_column
BEGIN
    IF report_spool.empty THEN
        DELETE FROM callbackd.spools AS s WHERE s.spool_id = report_spool.spool_id;
    ELSE
        INSERT INTO callbackd.spools AS s (spool_id, host) VALUES (report_spool.spool_id, left(report_spool.host, 255))
        ON CONFLICT (spool_id) DO UPDATE SET reported_at = clock_timestamp(), host = excluded.host;
    END IF;
END
$$;
REVOKE ALL ON FUNCTION callbackd.report_spool(uuid, text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION callbackd.report_spool(uuid, text, boolean) TO callbackd_receiver;

CREATE VIEW jumio.erasures AS
SELECT e.order_id, e.requested_at, e.requested_by, e.reason, e.subject_kind, e.at_jumio, e.state, e.error, e.finished_at, e.deleted, e.jumio_answer
FROM callbackd.erasures AS e;
COMMENT ON VIEW jumio.erasures IS 'Orders to erase a person or a verification, and what has become of them. Nothing here says who was erased.';
COMMENT ON COLUMN jumio.erasures.order_id IS 'The order. [technical, none]';
COMMENT ON COLUMN jumio.erasures.requested_at IS 'When it was given. [technical, none]';
COMMENT ON COLUMN jumio.erasures.requested_by IS 'The database role that gave it. [technical, none]';
COMMENT ON COLUMN jumio.erasures.reason IS 'Why, as it was said; it should not name the person. [technical, none]';
COMMENT ON COLUMN jumio.erasures.subject_kind IS 'What it named: account, user_reference, workflow_execution. [technical, none]';
COMMENT ON COLUMN jumio.erasures.at_jumio IS 'Whether to delete at Jumio, too, which is done first. [technical, none]';
COMMENT ON COLUMN jumio.erasures.state IS 'ordered, held (a legal hold covers part of it), running, done, failed. [technical, none]';
COMMENT ON COLUMN jumio.erasures.error IS 'Why it is held or failed, or what it waits for: a code, then a detail without personal data. [technical, none]';
COMMENT ON COLUMN jumio.erasures.finished_at IS 'When it was done, or failed. [technical, none]';
COMMENT ON COLUMN jumio.erasures.deleted IS 'Rows deleted by table, and objects deleted from the image store. [technical, none]';
COMMENT ON COLUMN jumio.erasures.jumio_answer IS 'Jumio''s answers to the deletions: status and time of each. [technical, none]';
GRANT SELECT ON jumio.erasures TO jumio_reader;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'jumio_eraser') THEN
        CREATE ROLE jumio_eraser NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;
