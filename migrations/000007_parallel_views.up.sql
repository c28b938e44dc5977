-- The functions that read dates for the views had EXCEPTION blocks, which are
-- subtransactions. A parallel worker cannot start one, so the views failed on a large
-- table. Now the text is checked so that the cast cannot fail.

-- The pattern also rejects other texts that Postgres accepts as dates: 'today',
-- 'infinity', '01/02/03'. A CASE, because an AND has no order of evaluation.
CREATE OR REPLACE FUNCTION callbackd.to_date_or_null(value jsonb) RETURNS date
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN (value #>> '{}') ~ '^(?!0000)\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$' THEN CASE
            WHEN right(value #>> '{}', 2)::int <= extract(day FROM
                make_date(left(value #>> '{}', 4)::int, substr(value #>> '{}', 6, 2)::int, 1) + interval '1 month - 1 day')
            THEN make_date(left(value #>> '{}', 4)::int, substr(value #>> '{}', 6, 2)::int, right(value #>> '{}', 2)::int)
        END END;

-- A second of 60 is a leap second. Postgres rejects an offset of 16 hours or more, and a
-- text of more than a few hundred characters.
CREATE OR REPLACE FUNCTION callbackd.to_timestamptz_or_null(value jsonb) RETURNS timestamptz
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN callbackd.to_date_or_null(to_jsonb(left(value #>> '{}', 10))) IS NOT NULL
            AND octet_length(value #>> '{}') <= 64
            AND substr(value #>> '{}', 11) ~ '^T([01]\d|2[0-3]):[0-5]\d(:([0-5]\d|60)(\.\d+)?)?(Z|[+-](0\d|1[0-5]):?[0-5]\d)$'
        THEN (value #>> '{}')::timestamptz END;
