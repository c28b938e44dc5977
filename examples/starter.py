#!/usr/bin/env python3
"""A whole service that starts verifications by itself (docs/starting-verifications.md): POST a
user reference to it and get the link for that user. It keeps a table of started verifications
in the database that DATABASE_URL names. Needs psycopg 3. Put it behind your own login."""

import base64
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import psycopg

ENV = os.environ
TABLE = """CREATE TABLE IF NOT EXISTS started (
    workflow_execution_id text PRIMARY KEY, account_id text, user_reference text)"""


def ask_jumio(url, kind, authorization, body):
    headers = {"Accept": "application/json", "Content-Type": kind, "Authorization": authorization,
               "User-Agent": ENV["JUMIO_USER_AGENT"]}
    with urlopen(Request(url, body.encode(), headers), timeout=30) as answer:
        return json.load(answer)


def start(user):
    """Returns the link once the verification is expected: it and our own row are one transaction."""
    basic = base64.b64encode(f"{ENV['JUMIO_CLIENT_ID']}:{ENV['JUMIO_CLIENT_SECRET']}".encode()).decode()
    token = ask_jumio(ENV["JUMIO_TOKEN_URL"] + "/oauth2/token", "application/x-www-form-urlencoded",
                      "Basic " + basic, "grant_type=client_credentials")["access_token"]
    order = {"customerInternalReference": "onboarding", "userReference": user,
             "workflowDefinition": {"key": 3}, "tokenLifetime": "30m"}
    with psycopg.connect(ENV["DATABASE_URL"]) as conn:  # before Jumio is asked, so that it is there
        made = ask_jumio(ENV["JUMIO_ACCOUNT_URL"] + "/api/v1/accounts", "application/json",
                         "Bearer " + token, json.dumps(order))
        ids = (made["workflowExecution"]["id"], made["account"]["id"])
        conn.execute("INSERT INTO started VALUES (%s, %s, %s)", (*ids, user))
        conn.execute("SELECT jumio.expect(%s, %s, %s, %s, '3', '30 minutes')",
                     (*ids, ENV["JUMIO_DATA_CENTER"], user))
    return made["web"]["href"]


class Starter(BaseHTTPRequestHandler):
    def do_POST(self):
        try:
            status, text = 201, start(self.rfile.read(int(self.headers["Content-Length"])).decode())
        except (OSError, KeyError, TypeError, ValueError, psycopg.Error) as error:  # its text may hold values
            status, text = 502, f"no link: {type(error).__name__}"
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())


with psycopg.connect(ENV["DATABASE_URL"]) as connection:
    connection.execute(TABLE)
server = ThreadingHTTPServer(("127.0.0.1", int(ENV.get("PORT", "8081"))), Starter)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
server.serve_forever()
