-- Verifications that were started, and what has become of them. A row without expected_at
-- is of a workflow execution that nobody has announced: its newest callback is not final,
-- and none has come for as long.
ALTER TABLE callbackd.workflow_executions
    -- The final status that callbackd has asked Jumio for; NULL again once its callback
    -- has come after all.
    ADD COLUMN recovered_status text;

-- What the workers of this database are set to, for deadlines: one row.
CREATE TABLE callbackd.reconciliation (
    id boolean PRIMARY KEY DEFAULT true CHECK (id),
    session_timeout interval NOT NULL,
    grace interval NOT NULL,
    -- From the deadline to the first time that Jumio is asked; NULL if it never is.
    first_delay interval
);
INSERT INTO callbackd.reconciliation (session_timeout, grace, first_delay) VALUES ('15 minutes', '5 minutes', '0');

CREATE TABLE callbackd.expectations (
    workflow_execution_id text PRIMARY KEY REFERENCES callbackd.workflow_executions ON DELETE CASCADE,
    account_id text,
    data_center text,
    user_reference text,
    definition_key text,
    expected_at timestamptz,
    token_lifetime interval,
    deadline_at timestamptz NOT NULL,
    state text NOT NULL CHECK (state IN ('expected', 'answered', 'recovered', 'overdue')),
    asked_count int NOT NULL DEFAULT 0,
    -- How often Jumio has been asked since the deadline moved: the place in the delays.
    asked_since_deadline int NOT NULL DEFAULT 0,
    -- Whether it has been asked ahead of the deadline, because Jumio's callbacks were down.
    asked_early boolean NOT NULL DEFAULT false,
    last_asked_at timestamptz,
    next_ask_at timestamptz,
    answered_at timestamptz,
    -- The worker that is asking.
    ask_token uuid,
    asking_until timestamptz
) WITH (fillfactor = 85);
-- What is Jumio to be asked for?
CREATE INDEX expectations_next_ask_at_idx ON callbackd.expectations (next_ask_at) WHERE next_ask_at IS NOT NULL;
-- What is overdue, or expected, and since when?
CREATE INDEX expectations_state_idx ON callbackd.expectations (state, expected_at) WHERE state IN ('expected', 'overdue');
-- What was answered lately?
CREATE INDEX expectations_answered_at_idx ON callbackd.expectations (answered_at) WHERE answered_at IS NOT NULL;
-- What was started lately?
CREATE INDEX expectations_expected_at_idx ON callbackd.expectations (expected_at, workflow_execution_id) WHERE expected_at IS NOT NULL;

CREATE VIEW jumio.expectations AS
SELECT e.workflow_execution_id, e.account_id, e.data_center, e.user_reference, e.definition_key, e.expected_at, e.deadline_at,
       e.state, e.asked_count, e.last_asked_at, e.next_ask_at, e.answered_at
FROM callbackd.expectations AS e
WHERE e.expected_at IS NOT NULL;
COMMENT ON VIEW jumio.expectations IS 'Verifications that were started, by `callbackd verification create` or jumio.expect, and whether Jumio has said how they ended.';
COMMENT ON COLUMN jumio.expectations.workflow_execution_id IS 'The workflow execution.';
COMMENT ON COLUMN jumio.expectations.account_id IS 'The account, as given when it was started.';
COMMENT ON COLUMN jumio.expectations.data_center IS 'Where it was started: amer-1, emea-1 or apac-1. NULL if that was not said.';
COMMENT ON COLUMN jumio.expectations.user_reference IS 'The userReference as given to Jumio, our signature included.';
COMMENT ON COLUMN jumio.expectations.definition_key IS 'The key of the workflow definition.';
COMMENT ON COLUMN jumio.expectations.expected_at IS 'When it was started.';
COMMENT ON COLUMN jumio.expectations.deadline_at IS 'When Jumio is asked first, if no final callback has come: after the token''s lifetime, the session''s time-out and a grace; a callback that is not final moves it.';
COMMENT ON COLUMN jumio.expectations.state IS 'expected, answered (a final callback has come), recovered (callbackd has asked Jumio, and found the final status), overdue (Jumio has been asked to the end, and never said a final status).';
COMMENT ON COLUMN jumio.expectations.asked_count IS 'How often Jumio has been asked.';
COMMENT ON COLUMN jumio.expectations.last_asked_at IS 'When it was last asked.';
COMMENT ON COLUMN jumio.expectations.next_ask_at IS 'When it will be asked next; NULL if it will not.';
COMMENT ON COLUMN jumio.expectations.answered_at IS 'When a final status was known, by callback or by asking.';
GRANT SELECT ON jumio.expectations TO jumio_reader;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'jumio_starter') THEN
        CREATE ROLE jumio_starter NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END
$$;

CREATE FUNCTION jumio.expect(workflow_execution_id text, account_id text, data_center text DEFAULT NULL, user_reference text DEFAULT NULL,
        definition_key text DEFAULT NULL, token_lifetime interval DEFAULT '30 minutes') RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
#variable_conflict use_column
DECLARE
    id constant text := expect.workflow_execution_id;
    settings callbackd.reconciliation;
    execution callbackd.workflow_executions;
    deadline timestamptz;
BEGIN
    IF id IS NULL OR id COLLATE "C" !~ '^[A-Za-z0-9_-]{1,64}$' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'workflow_execution_id is 1 to 64 characters of A-Z a-z 0-9 _ -';
    ELSIF expect.account_id IS NULL OR expect.account_id COLLATE "C" !~ '^[A-Za-z0-9_-]{1,64}$' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'account_id is 1 to 64 characters of A-Z a-z 0-9 _ -';
    ELSIF expect.data_center NOT IN ('amer-1', 'emea-1', 'apac-1') THEN
        RAISE invalid_parameter_value USING MESSAGE = 'data_center is amer-1, emea-1, apac-1, or NULL';
    ELSIF octet_length(expect.user_reference) > 1024 OR octet_length(expect.definition_key) > 256 THEN
        RAISE invalid_parameter_value USING MESSAGE = 'user_reference has at most 1024 bytes, definition_key 256';
    ELSIF expect.token_lifetime IS NULL OR expect.token_lifetime <= interval '0' OR expect.token_lifetime > interval '1 year' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'token_lifetime is positive, and at most a year';
    END IF;
    INSERT INTO callbackd.workflow_executions AS w
        (workflow_execution_id, account_id, data_center, user_reference, user_reference_unsigned, definition_key, retrieval_state, expected_at)
    VALUES (id, expect.account_id, expect.data_center, nullif(expect.user_reference, ''), nullif(expect.user_reference, ''),
        nullif(expect.definition_key, ''), 'awaiting', clock_timestamp())
    ON CONFLICT (workflow_execution_id) DO UPDATE SET
        expected_at = coalesce(w.expected_at, excluded.expected_at),
        account_id = coalesce(w.account_id, excluded.account_id), data_center = coalesce(w.data_center, excluded.data_center),
        user_reference = coalesce(w.user_reference, excluded.user_reference),
        user_reference_unsigned = coalesce(w.user_reference_unsigned, w.user_reference, excluded.user_reference_unsigned),
        definition_key = coalesce(w.definition_key, excluded.definition_key)
    WHERE w.erased_at IS NULL
    RETURNING * INTO execution;
    IF NOT FOUND THEN -- it is erased
        RETURN;
    END IF;
    SELECT * INTO settings FROM callbackd.reconciliation;
    deadline := coalesce(execution.last_callback_at, execution.expected_at + expect.token_lifetime) + settings.session_timeout + settings.grace;
    INSERT INTO callbackd.expectations AS e
        (workflow_execution_id, account_id, data_center, user_reference, definition_key, expected_at, token_lifetime, deadline_at,
         state, next_ask_at, answered_at)
    SELECT id, expect.account_id, expect.data_center, nullif(expect.user_reference, ''), nullif(expect.definition_key, ''),
        execution.expected_at, expect.token_lifetime, deadline,
        CASE WHEN ended THEN 'answered' ELSE 'expected' END, CASE WHEN NOT ended THEN deadline + settings.first_delay END,
        CASE WHEN ended THEN clock_timestamp() END
    FROM (SELECT execution.retrieval_state <> 'awaiting' AS ended) AS x
    ON CONFLICT (workflow_execution_id) DO UPDATE SET
        expected_at = coalesce(e.expected_at, excluded.expected_at), token_lifetime = coalesce(e.token_lifetime, excluded.token_lifetime),
        account_id = coalesce(e.account_id, excluded.account_id), data_center = coalesce(e.data_center, excluded.data_center),
        user_reference = coalesce(e.user_reference, excluded.user_reference), definition_key = coalesce(e.definition_key, excluded.definition_key),
        -- One that nobody had announced has perhaps ended since it was last looked at.
        state = CASE WHEN e.expected_at IS NULL AND excluded.state = 'answered' THEN 'answered' ELSE e.state END,
        next_ask_at = CASE WHEN e.expected_at IS NULL AND excluded.state = 'answered' THEN NULL ELSE e.next_ask_at END,
        answered_at = CASE WHEN e.expected_at IS NULL THEN excluded.answered_at ELSE e.answered_at END;
END
$$;
COMMENT ON FUNCTION jumio.expect(text, text, text, text, text, interval) IS 'Says that a verification has been started, so that it is missed if its callback does not come. Call it in the transaction that stores your own row, before the link leaves; commit soon, since until then its callbacks wait. Repeatable.';
REVOKE ALL ON FUNCTION jumio.expect(text, text, text, text, text, interval) FROM PUBLIC;
GRANT USAGE ON SCHEMA jumio TO jumio_starter;
GRANT EXECUTE ON FUNCTION jumio.expect(text, text, text, text, text, interval) TO jumio_starter;
COMMENT ON COLUMN jumio.verifications.expected_at IS 'When it was said to have been started (jumio.expectations); NULL if that was not said.';
