#!/usr/bin/env python3
"""A whole consumer of callbackd's events (docs/consumers.md): it keeps a table of decided
users in the database that DATABASE_URL names. Needs psycopg 3."""

import os
import select
import sys
import time

import psycopg

TABLE = """CREATE TABLE IF NOT EXISTS decided_users (
    event_id bigint, workflow_execution_id text, user_reference text, decision_type text)"""
EVENTS = """SELECT event_id, type, workflow_execution_id, user_reference, decision_type FROM jumio.events
    WHERE event_id > (SELECT last_event_id FROM jumio.consumers WHERE consumer = 'consumer-py')
    ORDER BY event_id LIMIT 1000"""


def handle(conn):
    """Handles the next events. What it does, and how far it is, are one transaction."""
    with conn.transaction():
        # The lock keeps other instances from the same events. 0 moves a consumer nowhere.
        conn.execute("SELECT jumio.handled('consumer-py', 0)")
        events = conn.execute(EVENTS).fetchall()
        for event_id, kind, execution, user, decision in events:
            if kind == "details_retrieved":
                conn.execute("INSERT INTO decided_users VALUES (%s, %s, %s, %s)", (event_id, execution, user, decision))
            elif kind == "erased":  # the person is to be forgotten here, too
                conn.execute("DELETE FROM decided_users WHERE workflow_execution_id = %s", (execution,))
        if events:
            conn.execute("SELECT jumio.handled('consumer-py', %s)", (events[-1][0],))
        return len(events)


def consume(conn):
    """Follows the events until the connection is lost."""
    notified = []  # during other statements
    conn.add_notify_handler(notified.append)
    # LISTEN comes before the first read, so that no event falls between the two.
    conn.execute("LISTEN jumio_events")
    conn.execute(TABLE)
    while True:
        notified.clear()
        while handle(conn):
            pass
        if not notified:
            select.select([conn], [], [], 5)  # a notification may be lost


while True:  # it may be killed at any moment
    try:
        with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
            consume(connection)
    except psycopg.OperationalError as error:
        print(error, file=sys.stderr, flush=True)
        time.sleep(1)
