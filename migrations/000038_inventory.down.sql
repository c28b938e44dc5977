DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['jumio_results', 'jumio_summary'] LOOP
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA jumio FROM %I', name);
            EXECUTE format('REVOKE ALL ON SCHEMA jumio FROM %I', name);
        END IF;
    END LOOP;
END
$$;
DROP FUNCTION callbackd.grant_columns();
DROP VIEW jumio.data_inventory;
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN
        SELECT r.relname AS view, a.attname AS name, regexp_replace(col_description(r.oid, a.attnum), ' \[[a-z]+, [a-z]+\]$', '') AS comment
        FROM pg_class AS r JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attnum > 0
        WHERE r.relnamespace = 'jumio'::regnamespace AND r.relkind = 'v' AND col_description(r.oid, a.attnum) ~ ' \[[a-z]+, [a-z]+\]$'
    LOOP
        EXECUTE format('COMMENT ON COLUMN jumio.%I.%I IS %L', c.view, c.name, c.comment);
    END LOOP;
END
$$;
