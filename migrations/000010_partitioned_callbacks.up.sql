-- Callbacks by month. Their ids are UUIDv7, so a range of ids is a range of time. The
-- table becomes, without a copy, the first and only partition of a new one; workers cut
-- it off at a month and make the next ones (internal/store/results/partitions.go). The
-- partitions leave no gap, so no callback ever fails for want of one.

ALTER TABLE callbackd.callbacks RENAME TO callbacks_1;
ALTER INDEX callbackd.callbacks_pkey RENAME TO callbacks_1_pkey;
ALTER INDEX callbackd.callbacks_workflow_execution_id_idx RENAME TO callbacks_1_workflow_execution_id_idx;
DROP TRIGGER queue_callbacks ON callbackd.callbacks_1;
REVOKE INSERT ON callbackd.callbacks_1 FROM callbackd_receiver;

CREATE TABLE callbackd.callbacks (LIKE callbackd.callbacks_1, PRIMARY KEY (callback_id)) PARTITION BY RANGE (callback_id);
ALTER TABLE callbackd.callbacks ATTACH PARTITION callbackd.callbacks_1 FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
CREATE TRIGGER queue_callbacks AFTER INSERT ON callbackd.callbacks
    REFERENCING NEW TABLE AS new_callbacks
    FOR EACH STATEMENT EXECUTE FUNCTION callbackd.queue_callbacks();
GRANT INSERT ON callbackd.callbacks TO callbackd_receiver;

CREATE OR REPLACE VIEW jumio.callbacks AS
SELECT c.callback_id, c.received_at, c.source_ip, c.content_type, c.body, c.workflow_execution_id,
       c.workflow_status, c.workflow_href, c.definition_key, c.account_id, c.account_href,
       c.user_reference, c.callback_sent_at
FROM callbackd.callbacks AS c;
