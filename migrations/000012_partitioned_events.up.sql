-- Events by month, like callbacks. An event's id is the microsecond of its recording, or
-- one more than the last id if that is greater: so ids still ascend, and a range of ids is
-- a range of time.
ALTER TABLE callbackd.events
    ALTER COLUMN event_id DROP IDENTITY,
    DROP CONSTRAINT events_type_check,
    -- What most consumers would look up, as it was then.
    ADD COLUMN account_id text,
    ADD COLUMN user_reference text,
    ADD COLUMN retrieval_state text,
    ADD COLUMN decision_type text,
    -- Whether a retrieval changed anything; NULL for other events.
    ADD COLUMN changed boolean;
ALTER TABLE callbackd.events RENAME TO events_1;
ALTER INDEX callbackd.events_pkey RENAME TO events_1_pkey;

CREATE TABLE callbackd.events (LIKE callbackd.events_1, PRIMARY KEY (event_id)) PARTITION BY RANGE (event_id);
ALTER TABLE callbackd.events ATTACH PARTITION callbackd.events_1 FOR VALUES FROM (MINVALUE) TO (MAXVALUE);

CREATE SEQUENCE callbackd.event_ids;
SELECT setval('callbackd.event_ids', greatest((SELECT max(event_id) FROM callbackd.events_1), 1));

-- Takes the lock that keeps ids in the order of their commits (event_order), and returns
-- the id before the next count ids. The sequence remembers the last id without a row that
-- every event would update.
CREATE FUNCTION callbackd.take_event_ids(count int) RETURNS bigint
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    last bigint;
BEGIN
    LOCK TABLE callbackd.event_order IN EXCLUSIVE MODE;
    SELECT greatest(s.last_value, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) INTO last FROM callbackd.event_ids AS s;
    PERFORM setval('callbackd.event_ids', last + count);
    RETURN last;
END
$$;
REVOKE ALL ON FUNCTION callbackd.take_event_ids(int) FROM PUBLIC;

-- For the previous version, which calls it while instances are replaced.
CREATE OR REPLACE FUNCTION callbackd.add_events(types text[], workflow_execution_ids text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
DECLARE
    last bigint := callbackd.take_event_ids(cardinality(types));
BEGIN
    INSERT INTO callbackd.events (event_id, occurred_at, type, workflow_execution_id, account_id, user_reference, retrieval_state, changed)
        SELECT last + e.position, clock_timestamp(), e.type, e.id, w.account_id, w.user_reference, w.retrieval_state,
            CASE WHEN e.type = 'retrieved' THEN true END
        FROM unnest(types, workflow_execution_ids) WITH ORDINALITY AS e (type, id, position)
        LEFT JOIN callbackd.workflow_executions AS w ON w.workflow_execution_id = e.id
        ORDER BY e.position;
END
$$;

CREATE OR REPLACE VIEW jumio.events AS
SELECT e.event_id, e.occurred_at, e.type, e.workflow_execution_id, e.account_id, e.user_reference,
       e.retrieval_state, e.decision_type, e.changed
FROM callbackd.events AS e;
COMMENT ON COLUMN jumio.events.event_id IS 'Ascending, with gaps. Since schema 12 the microseconds since 1970 at which it was recorded, or a little more.';
COMMENT ON COLUMN jumio.events.type IS 'callback_received, details_retrieved, retrieved (also for partial), retrieval_failed, expired; more may come.';
COMMENT ON COLUMN jumio.events.account_id IS 'The account, as known then.';
COMMENT ON COLUMN jumio.events.user_reference IS 'The userReference, as known then.';
COMMENT ON COLUMN jumio.events.retrieval_state IS 'retrieval_state after what happened.';
COMMENT ON COLUMN jumio.events.decision_type IS 'decision_type of jumio.verifications after what happened.';
COMMENT ON COLUMN jumio.events.changed IS 'For details_retrieved and retrieved: false if nothing differs from an earlier retrieval. NULL for other types, and before schema 12.';
