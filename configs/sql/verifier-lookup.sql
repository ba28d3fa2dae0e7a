-- A function that gives pgtether the SCRAM verifier of a login role: what it needs to move idle sessions to another server, and to answer
-- SCRAM itself (auth.scram = "proxy"). PostgreSQL 13 to 18, safe to repeat.
--
--   psql [-v role=pgtether] [-v md5=on] -f verifier-lookup.sql
--
-- Run it after probe-role.sql, as a superuser, on the writer, in probe.database; then set
--
--   [auth]
--   verifier_lookup = "pgtether.scram_verifier"
--
-- What it gives away: a verifier is not the password and cannot be used to log in to PostgreSQL, but whoever holds it can try
-- passwords against it offline and can pretend to be the server to that role. So the function
--   * may be executed by the probe role alone (and by superusers);
--   * answers for ordinary login roles only: never for superusers or for roles with REPLICATION, and so not for the probe role;
--   * answers NULL for a role that may not log in, whose password has expired (VALID UNTIL), or whose password is not SCRAM:
--     whoever authenticates in the server's place must keep the server's rules;
--   * answers with an MD5 hash only where it is created with -v md5=on: such a hash is as good as the password, so that the probe role could log in
--     as every ordinary role that has one. Better to give these roles a SCRAM password;
--   * runs as its owner, a superuser, with a fixed search_path, and runs no text that it was given.

\set ON_ERROR_STOP on
\set QUIET on
\if :{?role}
\else
  \set role pgtether
\endif

\if :{?md5}
\else
  \set md5 off
\endif

SELECT pg_catalog.pg_is_in_recovery() AS on_standby,
       pg_catalog.current_setting('is_superuser') <> 'on' AS not_superuser,
       NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'role') AS no_such_role,
       EXISTS (SELECT FROM pg_catalog.pg_namespace n, pg_catalog.pg_roles o
                WHERE n.nspname = 'pgtether' AND NOT o.rolsuper
                  AND (o.oid = n.nspowner OR pg_catalog.has_schema_privilege(o.oid, n.oid, 'CREATE'))) AS foreign_schema
\gset
\if :on_standby
  DO $$BEGIN RAISE EXCEPTION 'this server is a standby (it is in recovery), where no function can be created'
    USING HINT = 'Run the file on the primary: functions reach the standby by replication.'; END$$;
\endif
\if :not_superuser
  DO $$BEGIN RAISE EXCEPTION 'you are not a superuser'
    USING HINT = 'The function reads pg_authid with the rights of its owner.'; END$$;
\endif
\if :no_such_role
  DO $$BEGIN RAISE EXCEPTION 'the probe role does not exist'
    USING HINT = 'Run probe-role.sql first, or name the role with -v role=...'; END$$;
\endif
\if :foreign_schema
  DO $$BEGIN RAISE EXCEPTION 'somebody who is not a superuser owns schema pgtether or may create objects in it, and could put another function in the way'
    USING HINT = 'ALTER SCHEMA pgtether OWNER TO a superuser, and REVOKE CREATE ON SCHEMA pgtether FROM all others.'; END$$;
\endif

BEGIN;
SET LOCAL client_min_messages = 'warning';

CREATE SCHEMA IF NOT EXISTS pgtether;
REVOKE ALL ON SCHEMA pgtether FROM PUBLIC;
GRANT USAGE ON SCHEMA pgtether TO :"role";

-- Dropped first: CREATE OR REPLACE would keep the owner and the grants of a function that was there before.
DROP FUNCTION IF EXISTS pgtether.scram_verifier(text);
CREATE FUNCTION pgtether.scram_verifier(role text) RETURNS text
  LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp
  AS $$
    SELECT a.rolpassword
      FROM pg_catalog.pg_authid a
     WHERE a.rolname = $1
       AND a.rolcanlogin
       AND NOT a.rolsuper
       AND NOT a.rolreplication
       AND (a.rolvaliduntil IS NULL OR a.rolvaliduntil >= pg_catalog.clock_timestamp())
       AND a.rolpassword LIKE 'SCRAM-SHA-256$%'
  $$;
\if :md5
CREATE OR REPLACE FUNCTION pgtether.scram_verifier(role text) RETURNS text
  LANGUAGE sql VOLATILE STRICT PARALLEL UNSAFE SECURITY DEFINER
  SET search_path = pg_catalog, pg_temp
  AS $$
    SELECT a.rolpassword
      FROM pg_catalog.pg_authid a
     WHERE a.rolname = $1
       AND a.rolcanlogin
       AND NOT a.rolsuper
       AND NOT a.rolreplication
       AND (a.rolvaliduntil IS NULL OR a.rolvaliduntil >= pg_catalog.clock_timestamp())
       AND a.rolpassword ~ '^(SCRAM-SHA-256[$]|md5[0-9a-f]{32}$)'
  $$;
\endif
COMMENT ON FUNCTION pgtether.scram_verifier(text) IS
  'SCRAM verifier of an ordinary login role whose password is valid now, else NULL. For pgtether alone.';
REVOKE ALL ON FUNCTION pgtether.scram_verifier(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pgtether.scram_verifier(text) TO :"role";

COMMIT;

\echo verifier-lookup: pgtether.scram_verifier(role text) is ready in database :DBNAME for role :role
