DROP TABLE callbackd.uncounted, callbackd.retention;
