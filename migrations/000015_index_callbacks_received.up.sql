-- Callbacks of a time. They are stored nearly in the order of their arrival, so that a small index suffices.
CREATE INDEX CONCURRENTLY IF NOT EXISTS callbacks_1_received_at_idx ON callbackd.callbacks_1 USING brin (received_at) WITH (pages_per_range = 32, autosummarize = on);
