DROP VIEW jumio.image_reads;
DROP TABLE callbackd.image_reads, callbackd.object_deletions, callbackd.image_uploads;
