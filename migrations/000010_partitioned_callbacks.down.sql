-- First the table, then its partitions, like an INSERT: so neither waits for the other.
LOCK TABLE callbackd.callbacks IN ACCESS EXCLUSIVE MODE;
-- What an interrupted change of the partitions has left.
ALTER TABLE callbackd.callbacks_1 DROP CONSTRAINT IF EXISTS range_check;
DROP FUNCTION IF EXISTS callbackd.pull_back_callbacks() CASCADE; -- with its trigger
-- The first partition is the table again, with the rows of the others.
DO $$
DECLARE
    leaf regclass;
BEGIN
    FOR leaf IN SELECT inhrelid::regclass FROM pg_inherits WHERE inhparent = 'callbackd.callbacks'::regclass LOOP
        EXECUTE format('ALTER TABLE callbackd.callbacks DETACH PARTITION %s', leaf);
        IF leaf <> 'callbackd.callbacks_1'::regclass THEN
            EXECUTE format('INSERT INTO callbackd.callbacks_1 SELECT * FROM %s', leaf);
            EXECUTE format('DROP TABLE %s', leaf);
        END IF;
    END LOOP;
END
$$;
CREATE OR REPLACE VIEW jumio.callbacks AS
SELECT c.callback_id, c.received_at, c.source_ip, c.content_type, c.body, c.workflow_execution_id,
       c.workflow_status, c.workflow_href, c.definition_key, c.account_id, c.account_href,
       c.user_reference, c.callback_sent_at
FROM callbackd.callbacks_1 AS c;
DROP TABLE callbackd.callbacks;
ALTER TABLE callbackd.callbacks_1 RENAME TO callbacks;
ALTER INDEX callbackd.callbacks_1_pkey RENAME TO callbacks_pkey;
ALTER INDEX callbackd.callbacks_1_workflow_execution_id_idx RENAME TO callbacks_workflow_execution_id_idx;
CREATE TRIGGER queue_callbacks AFTER INSERT ON callbackd.callbacks
    REFERENCING NEW TABLE AS new_callbacks
    FOR EACH STATEMENT EXECUTE FUNCTION callbackd.queue_callbacks();
GRANT INSERT ON callbackd.callbacks TO callbackd_receiver;
