package storetest

// Unchecked is SQL that makes callbackd.callbacks accept any values, as before schema
// version 5.
const Unchecked = `CREATE OR REPLACE FUNCTION callbackd.queue_callbacks() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO callbackd.inbox (callback_id) SELECT n.callback_id FROM new_callbacks AS n;
    RETURN NULL;
END
$$;`
