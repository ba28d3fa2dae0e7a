package health

import (
	"strconv"
	"strings"
)

// The statements of a round, in the order in which they are sent, in one transaction. One that fails (because a site has revoked a function, say) leaves
// its facts unknown and spares the others, see askTogether.
const (
	askCore = iota
	askSystem
	askSettings
	askReceiver
	askSenders
	askPrivileges
	askRivals
	askLock
	askStartup
	statementCount
)

// micros turns an interval into microseconds: every duration travels as a whole number.
func micros(interval, as string) string {
	return "(EXTRACT(epoch FROM " + interval + ") * 1000000)::bigint AS " + as
}

// whereAmI tells a session's sign: the server and the role that it is in, and what it began with.
const whereAmI = "pg_is_in_recovery() AS in_recovery, current_setting('transaction_read_only') AS transaction_read_only, " +
	"(EXTRACT(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint AS started, " +
	"current_setting('default_transaction_read_only') AS default_transaction_read_only, current_setting('synchronous_commit') AS synchronous_commit"

// coreStatement asks for the role and the positions. The functions of the other role fail, so each is called in its own role only.
func coreStatement(major int) string {
	paused := "pg_get_wal_replay_pause_state()"
	if major < 14 {
		paused = "CASE WHEN pg_is_wal_replay_paused() THEN 'paused' ELSE 'not paused' END"
	}
	return "SELECT current_setting('server_version_num') AS version_num, " + whereAmI + ", " +
		micros("clock_timestamp() - pg_postmaster_start_time()", "started_ago") + ", " +
		inRole("NOT pg_is_in_recovery()", "pg_current_wal_lsn()", "current_lsn") + ", " +
		inRole("NOT pg_is_in_recovery()", "pg_current_wal_flush_lsn()", "flush_lsn") + ", " +
		inRole("NOT pg_is_in_recovery()", "pg_walfile_name(pg_current_wal_lsn())", "wal_file") + ", " +
		inRole("pg_is_in_recovery()", "pg_last_wal_receive_lsn()", "received_lsn") + ", " +
		inRole("pg_is_in_recovery()", "pg_last_wal_replay_lsn()", "replayed_lsn") + ", " +
		inRole("pg_is_in_recovery()", paused, "replay_paused") + ", " +
		micros("clock_timestamp() - pg_last_xact_replay_timestamp()", "replay_lag")
}

func inRole(condition, call, as string) string {
	return "CASE WHEN " + condition + " THEN " + call + " END AS " + as
}

// systemStatement asks for the identity. A site may have revoked the function.
const systemStatement = "SELECT system_identifier FROM pg_control_system()"

// settingNames are the parameters that a round reads. pg_settings gives numbers in the parameter's own unit, which never changes.
var settingNames = []string{
	"max_connections", "max_worker_processes", "max_wal_senders", "max_prepared_transactions", "max_locks_per_transaction",
	"wal_log_hints", "data_checksums", "synchronous_standby_names", "synchronous_commit", "default_transaction_read_only",
	"wal_receiver_timeout", "recovery_min_apply_delay", "data_directory", "port", "allow_alter_system",
}

// settingsStatement leaves out a synchronous_commit that the probe's own role or database has: what the server asks of others is not known then.
func settingsStatement(names []string) string {
	return "SELECT name, setting FROM pg_settings WHERE name IN ('" + strings.Join(names, "', '") + "') AND (name <> 'synchronous_commit' OR " +
		"source IN ('default', 'environment variable', 'configuration file', 'command line', 'global'))"
}

// datedSettingsStatement asks for the parameters of a round, and of when they are. The server makes a row of each of its 350 parameters for it, which is
// three quarters of what it does in a round.
var datedSettingsStatement = settingsStatement(settingNames) + " UNION ALL " + loadedStatement

// loadedStatement asks when the session has read the server's configuration. After its beginning nothing else changes its parameters.
const loadedStatement = "SELECT '" + loadedName + "' AS name, (EXTRACT(epoch FROM pg_conf_load_time()) * 1000000)::bigint::text AS setting"

// loadedName is no parameter's.
const loadedName = "pg_conf_load_time"

// confirmStatement asks for a session's sign alone. It names no table and no view: a new session would have to learn what those are.
const confirmStatement = "SELECT " + whereAmI

// receiverStatement: without pg_monitor every column but pid is NULL.
var receiverStatement = "SELECT pid, status, received_tli, latest_end_lsn, sender_host, sender_port, slot_name, " +
	micros("clock_timestamp() - last_msg_receipt_time", "message_age") + " FROM pg_stat_wal_receiver"

// startupStatement: a primary has no such process. Without pg_monitor the columns are NULL; while the process works there is no event.
const startupStatement = "SELECT pid, backend_start, wait_event FROM pg_stat_activity WHERE backend_type = 'startup' AND pg_is_in_recovery()"

// sendersStatement leaves out the replication connections of the probes. Without pg_monitor the state is NULL.
var sendersStatement = "SELECT application_name, host(client_addr) AS client_addr, state, sync_state, sent_lsn, write_lsn, flush_lsn, replay_lsn, " +
	micros("replay_lag", "replay_lag") + ", " + micros("clock_timestamp() - reply_time", "reply_age") +
	" FROM pg_stat_replication WHERE application_name IS NULL OR (application_name NOT LIKE '" + applicationPrefix + "%' " +
	"AND application_name NOT LIKE '" + passingPrefix + "%') ORDER BY pid LIMIT " +
	strconv.Itoa(maxSenders)

// maxSenders is far above any sensible max_wal_senders.
const maxSenders = 200

// relaxed matches a setting of a role, a database, a role in a database or all roles under which a commit does not wait for its flush, or not for the
// synchronous standby. With remote_write it waits for both: what a crash of the server takes, the standby has received. The server accepts no
// other spellings (guc_tables.c, synchronous_commit_options), and keeps the value as it was written.
const relaxed = "^synchronous_commit=(off|false|no|0|local)$"

// privilegesStatement asks what the role may do, and whose commits ask for less.
func privilegesStatement(major int) string {
	set := "false"
	if major >= 15 {
		set = "has_parameter_privilege('synchronous_standby_names', 'ALTER SYSTEM')"
	}
	return "SELECT has_function_privilege('pg_promote(boolean, integer)', 'EXECUTE') AS can_promote, " +
		set + " AND has_function_privilege('pg_reload_conf()', 'EXECUTE') AS can_set_sync_names, " +
		"(SELECT count(*) FROM pg_db_role_setting s WHERE EXISTS (SELECT FROM unnest(s.setconfig) c WHERE c ~* '" + relaxed + "')) AS relaxed_roles"
}

// rivalsStatement asks for the other pgtether processes that watch the node with the same role: their persistent connections name them. Sessions of
// its own role are shown to everybody, so it needs no privilege.
var rivalsStatement = "SELECT DISTINCT substr(application_name, " + strconv.Itoa(len(applicationPrefix)+1) + ") AS instance FROM pg_stat_activity " +
	"WHERE usename = current_user AND application_name LIKE '" + applicationPrefix + "%' " +
	"AND application_name <> current_setting('application_name') ORDER BY 1 LIMIT " + strconv.Itoa(maxRivals)

// maxRivals is how many are named; one is too many already.
const maxRivals = 20

// lockNamespace is "pgtether" in ASCII. The key of the advisory lock is the database system identifier XOR this, a 64-bit number that only
// pgtether takes. Advisory locks belong to one database of one server: two pgtether that probe through the same probe.database meet there.
const lockNamespace int64 = 0x7067746574686572

// lockStatement takes the lock of a primary, or learns that another session has it. It never waits. It must not be sent on a session that has the
// lock: a second one would need a second release. A session of our own that the network broke and the server has not missed yet is no other
// pgtether: while it has the lock the answer is NULL.
var lockStatement = "SELECT CASE WHEN pg_is_in_recovery() THEN NULL WHEN pg_try_advisory_lock(" + lockKey + ") THEN true " +
	"WHEN EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.objsubid = 1 " +
	"AND (l.classid::bigint << 32 | l.objid::bigint) = " + lockKey + " AND a.usename = current_user " +
	"AND a.application_name = current_setting('application_name')) THEN NULL ELSE false END AS held FROM pg_control_system() c"

// lockKey is the expression of the key over pg_control_system() c.
var lockKey = "(c.system_identifier # " + strconv.FormatInt(lockNamespace, 10) + "::bigint)"

// noLockStatement stands in its place where the lock is not to be taken.
const noLockStatement = "SELECT NULL::boolean AS held"

// statements are those of a round for a server of the given major version.
func statements(major int) []string {
	all := make([]string, statementCount)
	all[askCore] = coreStatement(major)
	all[askSystem] = systemStatement
	all[askSettings] = datedSettingsStatement
	all[askReceiver] = receiverStatement
	all[askSenders] = sendersStatement
	all[askPrivileges] = privilegesStatement(major)
	all[askStartup] = startupStatement
	all[askRivals] = rivalsStatement
	all[askLock] = noLockStatement
	return all
}
