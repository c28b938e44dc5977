DROP INDEX CONCURRENTLY IF EXISTS callbackd.images_1_account_id_idx;
