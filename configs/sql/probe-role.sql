-- The role with which pgtether watches and promotes: creates it, or brings an existing one up to date. PostgreSQL 13 to 18, safe to repeat.
--
--   psql -v password=... [-v role=pgtether] -f probe-role.sql
--
-- Run it once, as a superuser, on the writer (roles and grants reach the standby by replication), in the database that pgtether's
-- probe.database names (default "postgres"): the right to execute a function belongs to one database. "password" may also be a
-- ready SCRAM-SHA-256 verifier. The statements that carry it are kept out of the server's log. To keep it out of the list of processes
-- too, start psql and give it \set password `cat FILE` and \i probe-role.sql instead.
--
-- pg_hba.conf on both nodes must let the role in twice, from every host that runs pgtether:
--
--   host  postgres     pgtether  <address>  scram-sha-256
--   host  replication  pgtether  <address>  scram-sha-256

\set ON_ERROR_STOP on
\set QUIET on
\if :{?role}
\else
  \set role pgtether
\endif

-- 1. Refuse what cannot work, before anything is changed.
\if :{?password}
\else
  DO $$BEGIN RAISE EXCEPTION 'the password of the probe role is missing'
    USING HINT = 'Run: psql -v password=... -f probe-role.sql'; END$$;
\endif
SELECT :'role' = '' AS no_role,
       pg_catalog.pg_is_in_recovery() AS on_standby,
       pg_catalog.current_setting('is_superuser') <> 'on' AS not_superuser,
       pg_catalog.current_setting('server_version_num')::int < 130000 AS too_old,
       pg_catalog.current_setting('server_version_num')::int >= 150000 AS has_parameter_grants,
       EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'role' AND rolsuper) AS is_superuser_role
\gset
\if :no_role
  DO $$BEGIN RAISE EXCEPTION 'the name of the probe role is empty'
    USING HINT = 'Leave -v role=... away to get "pgtether".'; END$$;
\endif
\if :too_old
  DO $$BEGIN RAISE EXCEPTION 'this server is older than PostgreSQL 13, which pgtether does not support'; END$$;
\endif
\if :on_standby
  DO $$BEGIN RAISE EXCEPTION 'this server is a standby (it is in recovery), where no role can be created'
    USING HINT = 'Run the file on the primary: roles and grants reach the standby by replication.'; END$$;
\endif
\if :not_superuser
  DO $$BEGIN RAISE EXCEPTION 'you are not a superuser'
    USING HINT = 'Only a superuser may grant REPLICATION and the execution of pg_promote.'; END$$;
\endif
\if :is_superuser_role
  DO $$BEGIN RAISE EXCEPTION 'the role that was named is a superuser, which the probe role must not be'
    USING HINT = 'Name a role of its own with -v role=... Nothing was changed.'; END$$;
\endif

BEGIN;
SET LOCAL client_min_messages = 'warning';

-- 2. The role. Its password must not be readable in the server's log or in the statistics of statements.
SET LOCAL log_statement = 'none';
SET LOCAL log_min_duration_statement = -1;
SET LOCAL log_min_duration_sample = -1;
SET LOCAL log_transaction_sample_rate = 0;
SET LOCAL log_min_error_statement = 'panic';
SET LOCAL pg_stat_statements.track_utility = off;
SET LOCAL pgaudit.log = 'none';
SET LOCAL password_encryption = 'scram-sha-256';

SELECT :'password' = '' AS empty_password \gset
\if :empty_password
  DO $$BEGIN RAISE EXCEPTION 'the password of the probe role is empty'
    USING HINT = 'Run: psql -v password=... -f probe-role.sql'; END$$;
\endif

SELECT pg_catalog.format('CREATE ROLE %I', :'role')
 WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = :'role') \gexec

-- LOGIN: the ordinary probes. REPLICATION: a physical replication connection still answers when all ordinary ones are taken, and tells
-- the true timeline and its history (IDENTIFY_SYSTEM, TIMELINE_HISTORY). Nothing else: never a superuser.
ALTER ROLE :"role" LOGIN REPLICATION INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :'password';
\echo probe-role: LOGIN: to probe
\echo probe-role: REPLICATION: for the timeline and its history, and to be answered when all connections are taken

-- CONNECT is everybody's right unless it was revoked.
SELECT pg_catalog.format('GRANT CONNECT ON DATABASE %I TO %I', pg_catalog.current_database(), :'role')
 WHERE NOT pg_catalog.has_database_privilege(:'role', pg_catalog.current_database(), 'CONNECT') \gexec

-- 3. To see.
-- Without pg_monitor the columns of pg_stat_wal_receiver and pg_stat_replication and parameters such as primary_conninfo are NULL:
-- unknown to pgtether, and what is unknown never passes a criterion.
GRANT pg_monitor TO :"role";
\echo probe-role: pg_monitor: to see the WAL receiver, the WAL senders and the parameters that decide a promotion

-- 4. To act.
-- Ends sessions that hold replay back on the standby, and those left on an old writer that is being fenced. Not those of superusers.
GRANT pg_signal_backend TO :"role";
\echo probe-role: pg_signal_backend: to end sessions on a writer that is being left, and queries that hold replay back

-- Promotes the standby without being superuser.
GRANT EXECUTE ON FUNCTION pg_catalog.pg_promote(boolean, integer) TO :"role";
\echo probe-role: EXECUTE pg_promote: to promote the standby

-- Writes a few bytes of WAL that no table holds: shows that a new writer can commit. Its parameters differ between versions.
SELECT pg_catalog.format('GRANT EXECUTE ON FUNCTION %s TO %I', p.oid::pg_catalog.regprocedure, :'role')
  FROM pg_catalog.pg_proc p
 WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND p.proname = 'pg_logical_emit_message'
   AND p.proargtypes[2] = 'pg_catalog.text'::pg_catalog.regtype \gexec
\echo probe-role: EXECUTE pg_logical_emit_message: to show that a new writer can commit

\if :has_parameter_grants
  -- Fence of an old writer that still answers: its next transactions become read-only.
  GRANT ALTER SYSTEM ON PARAMETER default_transaction_read_only TO :"role";
  \echo probe-role: ALTER SYSTEM default_transaction_read_only: to fence an old writer that still answers
  -- A promoted standby usually inherits the names of a pair, and would wait for ever for the node it replaced.
  GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO :"role";
  \echo probe-role: ALTER SYSTEM synchronous_standby_names: to let a promoted standby commit without the node it replaced
  -- Freezes what a standby has received before it is promoted, and lets a node follow the other one.
  GRANT ALTER SYSTEM ON PARAMETER primary_conninfo TO :"role";
  \echo probe-role: ALTER SYSTEM primary_conninfo: to stop a standby from receiving before it is promoted
  GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO :"role";
  \echo probe-role: EXECUTE pg_reload_conf: to make those three take effect
  -- A checkpoint right after a promotion shows the new timeline to pg_rewind and to tools that read the control file.
  GRANT pg_checkpoint TO :"role";
  \echo probe-role: pg_checkpoint: to checkpoint before a switchover and after a promotion
\endif

COMMIT;

\if :has_parameter_grants
\else
  \echo probe-role: MISSING on PostgreSQL 13 and 14, where only a superuser may do it: ALTER SYSTEM on default_transaction_read_only,
  \echo probe-role:   synchronous_standby_names and primary_conninfo, pg_reload_conf, CHECKPOINT. There pgtether fences an old writer by
  \echo probe-role:   ending its sessions and by hooks.fence, and prints the commands that a person must run.
\endif
\echo probe-role: done in database :DBNAME (this must be probe.database) for role :role
