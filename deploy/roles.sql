-- The roles and the database of callbackd, made by a superuser with psql:
--
--   psql -h HOST -U postgres -f deploy/roles.sql
--
-- Then give each login role a password (in psql: \password callbackd_owner),
-- and run `callbackd migrate up` as callbackd_owner. A second run makes what is
-- missing and sets everything else as it stands here; passwords stay. Change the
-- limits in this file, then, not in the database alone.
-- Without a superuser, and for roles made by hand: docs/database.md.
\set ON_ERROR_STOP on
SET client_min_messages = warning;

SELECT format('CREATE ROLE %I', name)
FROM unnest(ARRAY['callbackd_receiver', 'jumio_reader', 'jumio_results', 'jumio_summary', 'jumio_consumer', 'jumio_starter',
    'jumio_eraser', 'jumio_relationships', 'callbackd_owner', 'callbackd_worker', 'callbackd_receive', 'results']) AS name
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

-- The roles that hold the rights: callbackd_receiver and those that begin with jumio_.
-- `callbackd migrate up` grants them what they need; where they do not exist, it makes
-- them, which takes CREATEROLE.

-- Owns the schema: runs the migrations, nothing else.
ALTER ROLE callbackd_owner LOGIN;

-- Instances with workers, and the operators' commands. Inherits the
-- owner's rights on the tables.
ALTER ROLE callbackd_worker LOGIN;
GRANT callbackd_owner TO callbackd_worker;

-- Receive-only instances: what faces the internet cannot read a passport. Each
-- takes up to 12 connections; these are enough for four, and a fifth in a roll-out.
ALTER ROLE callbackd_receive LOGIN CONNECTION LIMIT 60;
GRANT callbackd_receiver TO callbackd_receive;

-- One login role for each service that reads the results. Most need no images and no
-- verbatim texts: grant these jumio_results in place of jumio_reader, or jumio_summary,
-- which reads nothing of the person or the document (docs/data-protection.md).
ALTER ROLE results LOGIN CONNECTION LIMIT 10;
GRANT jumio_reader, jumio_consumer TO results;

SELECT $$CREATE DATABASE callbackd OWNER callbackd_owner ENCODING 'UTF8' TEMPLATE template0$$
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'callbackd') \gexec

-- Only the owner, and the worker with it, may fill the disk with temporary tables.
REVOKE CONNECT, TEMPORARY ON DATABASE callbackd FROM PUBLIC;
GRANT CONNECT ON DATABASE callbackd TO callbackd_owner, callbackd_receiver, jumio_reader, jumio_results, jumio_summary,
    jumio_consumer, jumio_starter, jumio_eraser, jumio_relationships;

-- Defaults for readers that have gone astray. A hostile one sets them anew: they
-- bind nobody who does not want it. callbackd sets its own.
ALTER ROLE results SET statement_timeout = '5min';
ALTER ROLE results SET lock_timeout = '10s';
ALTER ROLE results SET idle_in_transaction_session_timeout = '1min';
ALTER ROLE results SET idle_session_timeout = '1h';

-- What follows binds: no role but a superuser can change it.

-- For each session. Receivers need some where they store many large callbacks at once.
ALTER ROLE results SET temp_file_limit = '1GB';
ALTER ROLE callbackd_receive SET temp_file_limit = '1GB';

-- No values in the server's log, whatever it logs for the cluster: parameters of
-- slow or failed statements, rows that a constraint refuses (in DETAIL, which
-- terse leaves out), plans that hold parameters.
ALTER DATABASE callbackd SET log_parameter_max_length = 0;
ALTER DATABASE callbackd SET log_parameter_max_length_on_error = 0;
ALTER DATABASE callbackd SET log_error_verbosity = 'terse';
ALTER DATABASE callbackd SET auto_explain.log_min_duration = -1;

-- What is revoked in callbackd would still be there in the databases that
-- everybody may connect to, on the same disk and in the same memory. Whoever else
-- uses these two in this cluster needs a GRANT CONNECT.
REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;

\connect callbackd

-- PUBLIC may create here in a database that was made with PostgreSQL 14.
REVOKE CREATE ON SCHEMA public FROM PUBLIC;

-- Everybody may use these functions unless told otherwise. Large objects and
-- messages in the WAL fill the disk. Advisory locks hold up a migration, and
-- enough of them use up the lock table of the whole cluster.
-- pg_terminate_backend ends the sessions of other instances with the same role.
SELECT format('REVOKE EXECUTE ON FUNCTION pg_catalog.%s FROM PUBLIC', oid::regprocedure)
FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace
    AND proname ~ '^(lo_.*|loread|lowrite|pg_logical_emit_message|pg_(try_)?advisory_.*|pg_(cancel|terminate)_backend)$' \gexec

-- Migrations, and the worker's queue, need some of them.
SELECT format('GRANT EXECUTE ON FUNCTION pg_catalog.%s TO callbackd_owner', oid::regprocedure)
FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace
    AND proname ~ '^(pg_(try_)?advisory_.*|pg_(cancel|terminate)_backend)$' \gexec
