-- callbackd's private tables. The public interface is the schema jumio (next migration);
-- nothing outside callbackd may rely on a name in this file.

-- River searches neither args nor metadata here, and flushing the pending lists of these
-- two GIN indexes stalls inserts.
DROP INDEX callbackd.river_job_args_index;
DROP INDEX callbackd.river_job_metadata_index;

-- A job's row is updated several times and then deleted.
ALTER TABLE callbackd.river_job SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- One row for each delivery of a callback, as it arrived. Rows are only inserted.
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

-- The callbacks that await promotion: a narrow queue, so that promotion deletes small rows
-- and never rewrites the large ones in callbacks.
CREATE TABLE callbackd.inbox (
    callback_id uuid PRIMARY KEY
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000,
        autovacuum_vacuum_insert_scale_factor = 0.5);

-- An INSERT of callbacks also queues them, without any right on the inbox.
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

-- What the callback host names resolved to, for a restart while DNS is down.
CREATE TABLE callbackd.allowlist_addresses (
    host text NOT NULL,
    address inet NOT NULL,
    last_seen timestamptz NOT NULL,
    missing_since timestamptz,
    PRIMARY KEY (host, address)
);

-- The state of each workflow execution, which promotion and retrieval compute.
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
    -- The callback that decides the state: when it was sent (or received, if it does not
    -- say), and a digest of its body, which identifies a repeat without callbackSentAt.
    decided_sent_at timestamptz,
    decided_body_digest bytea,
    retrieval_state text NOT NULL DEFAULT 'awaiting'
        CHECK (retrieval_state IN ('awaiting', 'pending', 'retrieved', 'partial', 'failed', 'not_required')),
    -- Counts the retrievals; a job of an older retrieval does nothing.
    retrieval_generation int NOT NULL DEFAULT 0,
    retrieval_attempts int NOT NULL DEFAULT 0,
    retrieval_error text,
    retrieval_received_at timestamptz,
    retrieved_at timestamptz,
    -- The job that retrieves it, and until when no other job may.
    lease_job_id bigint,
    lease_until timestamptz
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
CREATE INDEX workflow_executions_account_id_idx ON callbackd.workflow_executions (account_id);
CREATE INDEX workflow_executions_pending_idx ON callbackd.workflow_executions (workflow_execution_id)
    WHERE retrieval_state = 'pending';

-- Details are apart from the state because they are wide and written once.
CREATE TABLE callbackd.workflow_details (
    workflow_execution_id text PRIMARY KEY REFERENCES callbackd.workflow_executions ON DELETE CASCADE,
    generation int NOT NULL,
    -- The body with U+FFFD for what jsonb cannot hold; NULL if jsonb rejects even that.
    details jsonb,
    -- Jumio's bytes, unchanged.
    body bytea NOT NULL
);

-- For each image part, one published row and at most one that the current retrieval has
-- fetched but not published.
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
-- Compressing JPEG and PNG again is useless.
ALTER TABLE callbackd.images ALTER COLUMN data SET STORAGE EXTERNAL;

CREATE TABLE callbackd.events (
    event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at timestamptz NOT NULL,
    type text NOT NULL CHECK (type IN ('callback_received', 'retrieved', 'retrieval_failed', 'expired')),
    workflow_execution_id text NOT NULL
);

-- Appends events and notifies listeners. The lock is held until the commit, so that event
-- ids become visible in order: after a reader has seen id n, no smaller one appears. As
-- the last statement of its transaction, it holds the lock briefly and cannot deadlock.
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
