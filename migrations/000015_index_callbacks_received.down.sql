DROP INDEX CONCURRENTLY IF EXISTS callbackd.callbacks_1_received_at_idx;
