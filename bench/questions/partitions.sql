-- Gives every partitioned table a partition for the time before first, one for each of so
-- many months from first on, and one for later: those that workers would have made.
CREATE FUNCTION pg_temp.bound(name text, at timestamptz) RETURNS text LANGUAGE sql
    RETURN CASE WHEN name = 'events' THEN (extract(epoch FROM at) * 1000000)::bigint::text ELSE quote_literal(jumio.id_at(at)) END;

CREATE FUNCTION pg_temp.make_partitions(first timestamptz, months int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text;
    at timestamptz;
    until text;
BEGIN
    FOR name IN SELECT relname FROM pg_class WHERE relnamespace = 'callbackd'::regnamespace AND relkind = 'p' LOOP
        EXECUTE format('ALTER TABLE callbackd.%1$s DETACH PARTITION callbackd.%1$s_1;
            ALTER TABLE callbackd.%1$s ATTACH PARTITION callbackd.%1$s_1 FOR VALUES FROM (MINVALUE) TO (%2$s)', name, pg_temp.bound(name, first));
        FOR month IN 0..months LOOP
            at := (first AT TIME ZONE 'UTC' + month * interval '1 month') AT TIME ZONE 'UTC';
            until := 'MAXVALUE';
            IF month < months THEN
                until := pg_temp.bound(name, (first AT TIME ZONE 'UTC' + (month + 1) * interval '1 month') AT TIME ZONE 'UTC');
            END IF;
            EXECUTE format('CREATE TABLE callbackd.%1$s_%2$s (LIKE callbackd.%1$s_1 INCLUDING ALL EXCLUDING COMMENTS);
                ALTER TABLE callbackd.%1$s ATTACH PARTITION callbackd.%1$s_%2$s FOR VALUES FROM (%3$s) TO (%4$s)', name,
                CASE WHEN month < months THEN to_char(at AT TIME ZONE 'UTC', 'YYYYMM') ELSE 'later' END, pg_temp.bound(name, at), until);
        END LOOP;
    END LOOP;
END
$$;
