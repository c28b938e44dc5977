-- Images by month, like callbacks. A foreign key would make every image lock and look up
-- its workflow execution, and every partition that is dropped lock the table of workflow
-- executions. Instead, whoever deletes a workflow execution takes its results with it
-- (remove_results, in the next migration).
ALTER TABLE callbackd.images
    DROP CONSTRAINT images_workflow_execution_id_fkey,
    ALTER COLUMN data DROP NOT NULL,
    ADD COLUMN stored_in text NOT NULL DEFAULT 'database',
    ADD COLUMN object_key text,
    ADD COLUMN encrypted boolean NOT NULL DEFAULT false;
ALTER TABLE callbackd.images RENAME TO images_1;
ALTER INDEX callbackd.images_pkey RENAME TO images_1_pkey;

-- UNIQUE (workflow_execution_id, credential_id, classifier, published) holds within a
-- partition; FinishAttempt removes a part that two runs have staged in two.
CREATE TABLE callbackd.images (LIKE callbackd.images_1 INCLUDING DEFAULTS INCLUDING STORAGE, PRIMARY KEY (image_id)) PARTITION BY RANGE (image_id);
ALTER TABLE callbackd.images ATTACH PARTITION callbackd.images_1 FOR VALUES FROM (MINVALUE) TO (MAXVALUE);

CREATE OR REPLACE VIEW jumio.images AS
SELECT i.image_id, i.workflow_execution_id, i.account_id, i.credential_id, i.category, i.classifier,
       i.content_type, i.size_bytes, i.sha256, i.width, i.height, i.retrieved_at, i.data,
       i.stored_in, i.object_key, i.encrypted
FROM callbackd.images AS i
WHERE i.published;
COMMENT ON COLUMN jumio.images.stored_in IS 'Where the bytes are: database (in data).';
COMMENT ON COLUMN jumio.images.object_key IS 'Name of the object that holds the bytes; NULL if they are in the database.';
COMMENT ON COLUMN jumio.images.encrypted IS 'Whether the stored bytes are encrypted; size_bytes and sha256 are the plain image''s.';
