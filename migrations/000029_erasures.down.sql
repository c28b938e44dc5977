DROP VIEW jumio.erasures;
DROP FUNCTION callbackd.report_spool(uuid, text, boolean);
DROP TABLE callbackd.spools, callbackd.mentions, callbackd.holds, callbackd.tombstones, callbackd.erasure_subjects, callbackd.erasures, callbackd.erasure_key;
