DROP TRIGGER expected ON callbackd.expectations;
DROP FUNCTION callbackd.expected();
DROP TABLE callbackd.unscreened;
