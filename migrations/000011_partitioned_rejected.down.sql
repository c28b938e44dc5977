-- First the table, then its partitions, like an INSERT: so neither waits for the other.
LOCK TABLE callbackd.rejected_callbacks IN ACCESS EXCLUSIVE MODE;
-- What an interrupted change of the partitions has left.
ALTER TABLE callbackd.rejected_callbacks_1 DROP CONSTRAINT IF EXISTS range_check;
DROP FUNCTION IF EXISTS callbackd.pull_back_rejected_callbacks() CASCADE; -- with its trigger
-- The first partition is the table again, with the rows of the others.
DO $$
DECLARE
    leaf regclass;
BEGIN
    FOR leaf IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'callbackd.rejected_callbacks'::regclass LOOP
        EXECUTE format('ALTER TABLE callbackd.rejected_callbacks DETACH PARTITION %s', leaf);
        IF leaf <> 'callbackd.rejected_callbacks_1'::regclass THEN
            EXECUTE format('INSERT INTO callbackd.rejected_callbacks_1 SELECT * FROM %s', leaf);
            EXECUTE format('DROP TABLE %s', leaf);
        END IF;
    END LOOP;
END
$$;
-- A view loses a column only when it is made again.
DROP VIEW jumio.rejected_callbacks;
DROP TABLE callbackd.rejected_callbacks;
ALTER TABLE callbackd.rejected_callbacks_1 RENAME TO rejected_callbacks;
ALTER INDEX callbackd.rejected_callbacks_1_pkey RENAME TO rejected_callbacks_pkey;
ALTER TABLE callbackd.rejected_callbacks DROP COLUMN workflow_execution_id, DROP COLUMN user_reference;
GRANT INSERT ON callbackd.rejected_callbacks TO callbackd_receiver;

CREATE VIEW jumio.rejected_callbacks AS
SELECT r.rejected_id, r.received_at, r.source_ip, r.reason, r.content_type, r.body, r.replayed_at
FROM callbackd.rejected_callbacks AS r;
COMMENT ON VIEW jumio.rejected_callbacks IS 'Requests on the callback path that were rejected with 400 or 403, up to the hourly limit, and callbacks that were answered 200 and could not be stored or promoted (not_storable).';
COMMENT ON COLUMN jumio.rejected_callbacks.rejected_id IS 'UUIDv7; the X-Request-Id of the answer and the request_id of the log line.';
COMMENT ON COLUMN jumio.rejected_callbacks.received_at IS 'When the request was received.';
COMMENT ON COLUMN jumio.rejected_callbacks.source_ip IS 'The client address; NULL if none could be determined.';
COMMENT ON COLUMN jumio.rejected_callbacks.reason IS 'A short code, then ": " and a detail.';
COMMENT ON COLUMN jumio.rejected_callbacks.content_type IS 'The Content-Type header, unparsed.';
COMMENT ON COLUMN jumio.rejected_callbacks.body IS 'The first 64 KiB of the body.';
COMMENT ON COLUMN jumio.rejected_callbacks.replayed_at IS 'When an operator replayed it; NULL again if a dead letter then fails again.';
GRANT SELECT ON jumio.rejected_callbacks TO jumio_reader;
