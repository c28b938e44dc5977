-- callbackd's private tables. The public interface is the schema jumio (next
-- migration); nothing outside callbackd may rely on a name in this file.

-- River searches neither args nor metadata here, and the pending lists of
-- these two GIN indexes stall inserts when they are flushed.
DROP INDEX callbackd.river_job_args_index;
DROP INDEX callbackd.river_job_metadata_index;

-- Jobs are updated in place several times and then deleted.
ALTER TABLE callbackd.river_job SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- One row per delivery, as it came. Only ever inserted.
CREATE TABLE callbackd.callbacks (
    callback_id uuid PRIMARY KEY,
    received_at timestamptz NOT NULL,
    callback_sent_at timestamptz,
    source_ip inet,
    content_type text NOT NULL,
    workflow_execution_id text NOT NULL,
    workflow_status text,
    workflow_href text,
    definition_key text,
    account_id text,
    account_href text,
    user_reference text,
    body bytea NOT NULL
);
CREATE INDEX callbacks_workflow_execution_id_idx ON callbackd.callbacks (workflow_execution_id);

-- The callbacks that are still to be promoted: a narrow queue beside the wide
-- table, so that promotion deletes small rows and never rewrites large ones.
CREATE TABLE callbackd.inbox (
    callback_id uuid PRIMARY KEY
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0.5);

-- Whoever inserts a callback also queues it, in the same statement, without
-- holding any right on the queue.
CREATE FUNCTION callbackd.queue_callbacks() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO callbackd.inbox (callback_id) SELECT n.callback_id FROM new_callbacks AS n;
    RETURN NULL;
END
$$;
REVOKE ALL ON FUNCTION callbackd.queue_callbacks() FROM PUBLIC;

CREATE TRIGGER queue_callbacks AFTER INSERT ON callbackd.callbacks
    REFERENCING NEW TABLE AS new_callbacks
    FOR EACH STATEMENT EXECUTE FUNCTION callbackd.queue_callbacks();

CREATE TABLE callbackd.rejected_callbacks (
    rejected_id uuid PRIMARY KEY,
    received_at timestamptz NOT NULL,
    source_ip inet,
    reason text NOT NULL,
    content_type text NOT NULL,
    body bytea NOT NULL,
    replayed_at timestamptz
);

-- What the callback host names resolved to, so that a restart while DNS is
-- down does not forget it.
CREATE TABLE callbackd.allowlist_addresses (
    host text NOT NULL,
    address inet NOT NULL,
    last_seen timestamptz NOT NULL,
    missing_since timestamptz,
    PRIMARY KEY (host, address)
);

-- The state of each workflow execution, worked out by promotion and retrieval.
CREATE TABLE callbackd.workflow_executions (
    workflow_execution_id text PRIMARY KEY,
    account_id text,
    definition_key text,
    status text,
    user_reference text,
    workflow_href text,
    account_href text,
    callback_count bigint NOT NULL DEFAULT 0,
    first_callback_at timestamptz,
    last_callback_at timestamptz,
    -- The callback that decides the state: when it was sent (received, if it
    -- did not say), and a digest of its body, which tells a repeat of a
    -- callback that has no time of its own.
    decided_sent_at timestamptz,
    decided_body_digest bytea,
    retrieval_state text NOT NULL DEFAULT 'awaiting'
        CHECK (retrieval_state IN ('awaiting', 'pending', 'retrieved', 'partial', 'failed', 'not_required')),
    -- Counts the retrievals; a job of an older one has nothing left to do.
    retrieval_generation int NOT NULL DEFAULT 0,
    retrieval_attempts int NOT NULL DEFAULT 0,
    retrieval_error text,
    retrieval_received_at timestamptz,
    retrieved_at timestamptz,
    -- Who is retrieving, and until when the others must leave it alone.
    lease_job_id bigint,
    lease_until timestamptz
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX workflow_executions_account_id_idx ON callbackd.workflow_executions (account_id);
CREATE INDEX workflow_executions_pending_idx ON callbackd.workflow_executions (workflow_execution_id)
    WHERE retrieval_state = 'pending';

-- Details apart from the state: they are wide and written once.
CREATE TABLE callbackd.workflow_details (
    workflow_execution_id text PRIMARY KEY REFERENCES callbackd.workflow_executions ON DELETE CASCADE,
    generation int NOT NULL,
    -- What jsonb can hold of the body; NULL only where it can hold nothing of it.
    details jsonb,
    -- Jumio's bytes, unchanged.
    body bytea NOT NULL
);

-- One published row per image part, and beside it at most one that the
-- retrieval in progress has fetched and not published yet.
CREATE TABLE callbackd.images (
    image_id uuid PRIMARY KEY,
    workflow_execution_id text NOT NULL REFERENCES callbackd.workflow_executions ON DELETE CASCADE,
    account_id text,
    credential_id text NOT NULL,
    category text,
    classifier text NOT NULL,
    content_type text NOT NULL,
    size_bytes bigint NOT NULL,
    sha256 bytea NOT NULL,
    width int,
    height int,
    retrieved_at timestamptz NOT NULL,
    generation int NOT NULL,
    published boolean NOT NULL,
    data bytea NOT NULL,
    UNIQUE (workflow_execution_id, credential_id, classifier, published)
);
-- JPEG and PNG do not compress again.
ALTER TABLE callbackd.images ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE callbackd.events (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at timestamptz NOT NULL,
    type text NOT NULL CHECK (type IN ('callback_received', 'retrieved', 'retrieval_failed', 'expired')),
    workflow_execution_id text NOT NULL
);

-- Appends events and tells the listeners. The lock is held until commit, so
-- that event ids become visible in their own order: a reader who has seen id n
-- will never see a smaller one appear. It must be the last statement of its
-- transaction, which keeps the lock short and free of deadlocks.
CREATE FUNCTION callbackd.append_events(types text[], workflow_execution_ids text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(1667329635, 1702257011);
    INSERT INTO callbackd.events (occurred_at, type, workflow_execution_id)
        SELECT clock_timestamp(), e.type, e.id
        FROM unnest(types, workflow_execution_ids) WITH ORDINALITY AS e (type, id, position)
        ORDER BY e.position;
    PERFORM pg_notify('jumio_events', d.id) FROM (SELECT DISTINCT unnest(workflow_execution_ids) AS id) AS d;
END
$$;
REVOKE ALL ON FUNCTION callbackd.append_events(text[], text[]) FROM PUBLIC;
