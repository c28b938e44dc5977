DROP TRIGGER rejected ON callbackd.rejected_callbacks;
DROP FUNCTION callbackd.rejected();
ALTER TABLE callbackd.rejected_callbacks DROP COLUMN account_id;
