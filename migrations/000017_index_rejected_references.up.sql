-- Was a callback of this person rejected?
CREATE INDEX CONCURRENTLY IF NOT EXISTS rejected_callbacks_1_user_reference_idx ON callbackd.rejected_callbacks_1 (user_reference)
    WHERE user_reference IS NOT NULL;
