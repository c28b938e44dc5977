DROP TABLE callbackd.relationships;
