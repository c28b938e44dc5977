-- The images of an account.
CREATE INDEX CONCURRENTLY IF NOT EXISTS images_1_account_id_idx ON callbackd.images_1 (account_id);
