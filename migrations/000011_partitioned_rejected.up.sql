-- Rejected callbacks by month, like callbacks. The CHECKs stay on the partitions: older
-- rows of the first may break them.
ALTER TABLE callbackd.rejected_callbacks ADD COLUMN workflow_execution_id text, ADD COLUMN user_reference text;
ALTER TABLE callbackd.rejected_callbacks
    ADD CONSTRAINT rejected_callbacks_names_check
        CHECK (octet_length(workflow_execution_id) <= 64 AND octet_length(user_reference) <= 1024) NOT VALID;
ALTER TABLE callbackd.rejected_callbacks RENAME TO rejected_callbacks_1;
ALTER INDEX callbackd.rejected_callbacks_pkey RENAME TO rejected_callbacks_1_pkey;
REVOKE INSERT ON callbackd.rejected_callbacks_1 FROM callbackd_receiver;

CREATE TABLE callbackd.rejected_callbacks (LIKE callbackd.rejected_callbacks_1, PRIMARY KEY (rejected_id)) PARTITION BY RANGE (rejected_id);
ALTER TABLE callbackd.rejected_callbacks ATTACH PARTITION callbackd.rejected_callbacks_1 FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
GRANT INSERT ON callbackd.rejected_callbacks TO callbackd_receiver;

CREATE OR REPLACE VIEW jumio.rejected_callbacks AS
SELECT r.rejected_id, r.received_at, r.source_ip, r.reason, r.content_type, r.body, r.replayed_at,
       r.workflow_execution_id, r.user_reference
FROM callbackd.rejected_callbacks AS r;
COMMENT ON COLUMN jumio.rejected_callbacks.workflow_execution_id IS 'The workflow execution that the body names; NULL if it names none. Unproven.';
COMMENT ON COLUMN jumio.rejected_callbacks.user_reference IS 'The userReference that the body names; NULL if it names none. Unproven.';
