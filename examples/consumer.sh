#!/bin/sh
# A whole consumer of callbackd's events (docs/consumers.md): it keeps a table of decided
# users in the database that DATABASE_URL names. Needs psql.
#
# psql shows notifications only after a statement, so it cannot wait for them: this one
# looks every two seconds instead of LISTENing.
set -u

# Handles the next events, and prints how many. What it does, and how far it is, are one
# transaction. It may be killed at any moment.
handle() {
	psql "$DATABASE_URL" --no-psqlrc --quiet --tuples-only --no-align --single-transaction --set ON_ERROR_STOP=1 <<'END'
SET client_min_messages = warning;
CREATE TABLE IF NOT EXISTS decided_users (event_id bigint, workflow_execution_id text, user_reference text, decision_type text);

-- The lock keeps other instances from the same events. 0 moves a consumer nowhere.
SELECT jumio.handled('consumer-sh', 0) \g /dev/null

WITH events AS (
    SELECT event_id, type, workflow_execution_id, user_reference, decision_type FROM jumio.events
    WHERE event_id > (SELECT last_event_id FROM jumio.consumers WHERE consumer = 'consumer-sh')
    ORDER BY event_id LIMIT 1000
), effect AS (
    INSERT INTO decided_users
    SELECT event_id, workflow_execution_id, user_reference, decision_type FROM events WHERE type = 'details_retrieved'
), forgotten AS ( -- the person, here, too; what was retrieved has no event any more
    DELETE FROM decided_users WHERE workflow_execution_id IN (SELECT workflow_execution_id FROM events WHERE type = 'erased')
)
SELECT count(*) AS handled, coalesce(max(event_id), 0) AS last FROM events \gset

SELECT jumio.handled('consumer-sh', :last) \g /dev/null
\echo :handled
END
}

while :; do
	if handled=$(handle) && [ "$handled" -gt 0 ]; then
		continue
	fi
	sleep 2 # no more events, or no database: psql has said why
done
