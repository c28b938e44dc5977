DROP TABLE callbackd.river_client_queue, callbackd.river_client, callbackd.river_queue,
    callbackd.river_leader, callbackd.river_job;
DROP TYPE callbackd.river_job_state;
