CREATE FUNCTION jumio.request_erasure(subject_kind text, subject text, reason text, at_jumio boolean DEFAULT false) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
#variable_conflict use_column
DECLARE
    kind constant text := request_erasure.subject_kind;
    wanted constant text := request_erasure.subject;
    known boolean;
    active uuid;
    id uuid;
BEGIN
    IF kind IS NULL OR kind NOT IN ('account', 'user_reference', 'workflow_execution') THEN
        RAISE invalid_parameter_value USING MESSAGE = 'subject_kind is account, user_reference or workflow_execution';
    ELSIF wanted IS NULL OR wanted = '' OR octet_length(wanted) > 1024
        OR kind <> 'user_reference' AND wanted COLLATE "C" !~ '^[A-Za-z0-9_-]{1,64}$' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'subject is an id of 1 to 64 characters of A-Z a-z 0-9 _ -, or a user reference of at most 1024 bytes';
    ELSIF request_erasure.reason IS NULL OR btrim(request_erasure.reason) = '' OR octet_length(request_erasure.reason) > 1000 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'reason has 1 to 1000 bytes';
    ELSIF request_erasure.at_jumio IS NULL THEN
        RAISE invalid_parameter_value USING MESSAGE = 'at_jumio is true or false';
    END IF;
    -- Two orders for the same subject go one after the other.
    LOCK TABLE callbackd.erasures IN SHARE ROW EXCLUSIVE MODE;
    SELECT e.order_id INTO active FROM callbackd.erasures AS e
    WHERE e.state IN ('ordered', 'held', 'running') AND e.subject_kind = kind AND e.subject = wanted;
    IF FOUND THEN
        RAISE object_in_use USING MESSAGE = 'the order ' || active || ' is erasing it already';
    END IF;
    IF kind = 'workflow_execution' THEN
        known := EXISTS (SELECT FROM callbackd.workflow_executions AS w WHERE w.workflow_execution_id = wanted AND w.erased_at IS NULL)
            OR NOT EXISTS (SELECT FROM callbackd.workflow_executions AS w WHERE w.workflow_execution_id = wanted)
                AND (EXISTS (SELECT FROM callbackd.callbacks AS c WHERE c.workflow_execution_id = wanted)
                    OR EXISTS (SELECT FROM callbackd.rejected_callbacks AS r WHERE r.workflow_execution_id = wanted));
    ELSIF kind = 'account' THEN
        known := EXISTS (SELECT FROM callbackd.workflow_executions AS w WHERE w.account_id = wanted)
            OR EXISTS (SELECT FROM callbackd.mentions AS m WHERE m.subject = wanted)
            OR EXISTS (SELECT FROM callbackd.inbox AS i JOIN callbackd.callbacks AS c ON c.callback_id = i.callback_id WHERE c.account_id = wanted)
            OR EXISTS (SELECT FROM callbackd.relationships AS r WHERE r.account_id = wanted)
            OR EXISTS (SELECT FROM callbackd.rejected_callbacks AS r WHERE r.account_id = wanted);
    ELSE
        known := EXISTS (SELECT FROM callbackd.workflow_executions AS w WHERE w.user_reference_unsigned = wanted OR w.user_reference = wanted)
            OR EXISTS (SELECT FROM callbackd.mentions AS m WHERE m.subject = wanted)
            OR EXISTS (SELECT FROM callbackd.inbox AS i JOIN callbackd.callbacks AS c ON c.callback_id = i.callback_id WHERE c.user_reference = wanted)
            OR EXISTS (SELECT FROM callbackd.rejected_callbacks AS r WHERE r.user_reference = wanted);
    END IF;
    IF NOT known THEN
        RAISE no_data_found USING MESSAGE = 'nothing is known of this ' || replace(kind, '_', ' ') || ', or it is erased already';
    END IF;
    id := jumio.id_at(clock_timestamp());
    id := overlay(id::text PLACING substr(gen_random_uuid()::text, 15) FROM 15)::uuid; -- a UUIDv7
    id := overlay(id::text PLACING '7' FROM 15 FOR 1)::uuid;
    INSERT INTO callbackd.erasures (order_id, requested_at, requested_by, reason, subject_kind, subject, at_jumio)
    VALUES (id, clock_timestamp(), session_user, request_erasure.reason, kind, wanted, request_erasure.at_jumio);
    RETURN id;
END
$$;
COMMENT ON FUNCTION jumio.request_erasure(text, text, text, boolean) IS 'Orders that an account, a user reference or a workflow execution is erased, and returns the order''s id (jumio.erasures). A worker carries it out. The reason must not name the person.';
REVOKE ALL ON FUNCTION jumio.request_erasure(text, text, text, boolean) FROM PUBLIC;
GRANT USAGE ON SCHEMA jumio TO jumio_eraser;
GRANT EXECUTE ON FUNCTION jumio.request_erasure(text, text, text, boolean) TO jumio_eraser;

CREATE FUNCTION jumio.end_relationship(account_id text, ended_at timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
#variable_conflict use_column
BEGIN
    IF end_relationship.account_id IS NULL OR end_relationship.account_id COLLATE "C" !~ '^[A-Za-z0-9_-]{1,64}$' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'account_id is 1 to 64 characters of A-Z a-z 0-9 _ -';
    ELSIF NOT isfinite(end_relationship.ended_at) THEN
        RAISE invalid_parameter_value USING MESSAGE = 'ended_at is a finite time, or NULL while the relationship lasts';
    ELSIF NOT EXISTS (SELECT FROM callbackd.workflow_executions AS w WHERE w.account_id = end_relationship.account_id) THEN
        RAISE no_data_found USING MESSAGE = 'nothing is known of this account, or it is erased';
    END IF;
    INSERT INTO callbackd.relationships AS r (account_id, ended_at) VALUES (end_relationship.account_id, end_relationship.ended_at)
    ON CONFLICT (account_id) DO UPDATE SET ended_at = excluded.ended_at, reported_at = clock_timestamp(), reported_by = session_user;
END
$$;
COMMENT ON FUNCTION jumio.end_relationship(text, timestamptz) IS 'Reports when the relationship with an account ended, from which CALLBACKD_RETENTION then counts; NULL while it lasts: until it ends, retention spares the account.';
REVOKE ALL ON FUNCTION jumio.end_relationship(text, timestamptz) FROM PUBLIC;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'jumio_relationships') THEN
        CREATE ROLE jumio_relationships NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;
GRANT USAGE ON SCHEMA jumio TO jumio_relationships;
GRANT EXECUTE ON FUNCTION jumio.end_relationship(text, timestamptz) TO jumio_relationships;
