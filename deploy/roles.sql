-- The roles and the database of callbackd, made once by an administrator:
--
--   psql -h HOST -U postgres -f deploy/roles.sql
--
-- Then give each login role a password (in psql: \password callbackd_owner),
-- and run `callbackd migrate up` as callbackd_owner.

-- The two roles that hold the rights. `callbackd migrate up` grants them what
-- they need; where they do not exist, it makes them, which takes CREATEROLE.
CREATE ROLE callbackd_receiver NOLOGIN;
CREATE ROLE jumio_reader NOLOGIN;

-- Owns the schema: runs the migrations, nothing else.
CREATE ROLE callbackd_owner LOGIN;

-- Instances with workers, and the commands refetch and rejected. Inherits the
-- owner's rights on the tables.
CREATE ROLE callbackd_worker LOGIN IN ROLE callbackd_owner;

-- Receive-only instances: what faces the internet cannot read a passport.
CREATE ROLE callbackd_receive LOGIN IN ROLE callbackd_receiver;

-- One login role for each service that reads the results.
CREATE ROLE results LOGIN IN ROLE jumio_reader;

CREATE DATABASE callbackd OWNER callbackd_owner ENCODING 'UTF8' TEMPLATE template0;
REVOKE CONNECT ON DATABASE callbackd FROM PUBLIC;
GRANT CONNECT ON DATABASE callbackd TO callbackd_owner, callbackd_receiver, jumio_reader;
