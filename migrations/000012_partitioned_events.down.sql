-- First the table, then its partitions, like an INSERT: so neither waits for the other.
LOCK TABLE callbackd.events IN ACCESS EXCLUSIVE MODE;
-- What an interrupted change of the partitions has left.
ALTER TABLE callbackd.events_1 DROP CONSTRAINT IF EXISTS range_check;
-- The first partition is the table again, with the rows of the others.
DO $$
DECLARE
    leaf regclass;
BEGIN
    FOR leaf IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'callbackd.events'::regclass LOOP
        EXECUTE format('ALTER TABLE callbackd.events DETACH PARTITION %s', leaf);
        IF leaf <> 'callbackd.events_1'::regclass THEN
            EXECUTE format('INSERT INTO callbackd.events_1 SELECT * FROM %s', leaf);
            EXECUTE format('DROP TABLE %s', leaf);
        END IF;
    END LOOP;
END
$$;
DROP VIEW jumio.events;
DROP TABLE callbackd.events;
ALTER TABLE callbackd.events_1 RENAME TO events;
ALTER INDEX callbackd.events_1_pkey RENAME TO events_pkey;
ALTER TABLE callbackd.events
    DROP COLUMN account_id, DROP COLUMN user_reference, DROP COLUMN retrieval_state, DROP COLUMN decision_type, DROP COLUMN changed,
    ADD CONSTRAINT events_type_check CHECK (type IN ('callback_received', 'retrieved', 'retrieval_failed', 'expired')) NOT VALID, -- others stay
    ALTER COLUMN event_id ADD GENERATED ALWAYS AS IDENTITY;
SELECT setval(pg_get_serial_sequence('callbackd.events', 'event_id'), greatest((SELECT last_value FROM callbackd.event_ids), 1));
DROP FUNCTION callbackd.take_event_ids(int);
DROP SEQUENCE callbackd.event_ids;

CREATE OR REPLACE FUNCTION callbackd.add_events(types text[], workflow_execution_ids text[]) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog
AS $$
BEGIN
    LOCK TABLE callbackd.event_order IN EXCLUSIVE MODE;
    INSERT INTO callbackd.events (occurred_at, type, workflow_execution_id)
        SELECT clock_timestamp(), e.type, e.id
        FROM unnest(types, workflow_execution_ids) WITH ORDINALITY AS e (type, id, position)
        ORDER BY e.position;
END
$$;

CREATE VIEW jumio.events AS
SELECT e.event_id, e.occurred_at, e.type, e.workflow_execution_id
FROM callbackd.events AS e;
COMMENT ON VIEW jumio.events IS 'What happened, in order. Remember the highest event_id read: no smaller one appears later. NOTIFY jumio_events carries the workflow execution''s id.';
COMMENT ON COLUMN jumio.events.event_id IS 'Ascending, with gaps.';
COMMENT ON COLUMN jumio.events.occurred_at IS 'When it was recorded.';
COMMENT ON COLUMN jumio.events.type IS 'callback_received, retrieved (also for partial), retrieval_failed, expired.';
COMMENT ON COLUMN jumio.events.workflow_execution_id IS 'The workflow execution.';
GRANT SELECT ON jumio.events TO jumio_reader;
