package health

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// The statements of a preflight, beyond those of a check. They need pg_monitor.
const (
	preflightPrepared = iota
	preflightSlots
	preflightArchive
	preflightArchiver
	preflightOpen
	preflightKept
	preflightSuper
	preflightMay
)

// longEnough is how old a transaction, and how old a failure of the archiver, must be to be worth a word.
const longEnough = "5 seconds"

// archiveBacklog is how many finished segments may wait for the archiver without a word: one or two always do.
const archiveBacklog = 3

// maxOpenShown bounds the transactions that are named.
const maxOpenShown = 20

var preflightStatements = []string{
	preflightPrepared: "SELECT count(*) AS n, coalesce(min(gid), '') AS one FROM pg_prepared_xacts",
	preflightSlots:    "SELECT slot_name, coalesce(plugin, '') AS plugin FROM pg_replication_slots WHERE slot_type = 'logical' ORDER BY 1 LIMIT 20",
	preflightArchive:  "SELECT count(*) AS n FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'",
	preflightArchiver: "SELECT coalesce(last_failed_wal, '') AS wal FROM pg_stat_archiver WHERE last_failed_time > coalesce(last_archived_time, '-infinity')",
	preflightOpen: "SELECT pid, usename, coalesce(datname, '') AS datname, coalesce(host(client_addr), 'a local socket') AS client, state, application_name, " +
		"extract(epoch FROM clock_timestamp() - xact_start)::bigint AS seconds FROM pg_stat_activity WHERE backend_type = 'client backend' " +
		"AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - interval '" + longEnough + "' ORDER BY xact_start LIMIT " + strconv.Itoa(maxOpenShown),
	preflightSuper: "SELECT count(*) AS n, coalesce(min(a.usename), '') AS one FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid WHERE r.rolsuper AND " + notOurs,
	preflightMay: "SELECT CASE WHEN current_setting('server_version_num')::int < 150000 THEN false ELSE has_function_privilege('pg_reload_conf()', 'EXECUTE') END " +
		"OR rolsuper AS may FROM pg_roles WHERE rolname = current_user",
	preflightKept: "SELECT setting FROM pg_settings WHERE name = 'wal_keep_size'",
}

// CheckSwitchover asks both nodes what Check asks, and the writer for what a planned change leaves behind or waits for: prepared transactions, logical
// slots, log that is not archived yet, transactions that have been open for long and who holds them, and whether it can be fenced at all, by SQL or (hook)
// by the operator's program. drain is how long open transactions would have. It changes nothing and returns within about twice the targets' timeout;
// what could not be asked is said.
func CheckSwitchover(ctx context.Context, writer, to Target, drain time.Duration, hook bool) []Finding {
	f := &findings{all: Check(ctx, []Target{writer, to})}
	err := with(ctx, "ask", writer, func(ctx context.Context, l *link) error {
		answers, err := l.ask(ctx, preflightStatements)
		if err != nil {
			return err
		}
		f.leftBehind(writer.Node, to.Node, answers)
		f.longOpen(writer.Node, drain, answers[preflightOpen])
		f.unfenceable(writer.Node, hook, single(answers[preflightSuper]), single(answers[preflightMay]))
		return nil
	})
	if err != nil {
		f.add(writer.Node, Warning, "prepared transactions, slots, archive and open transactions could not be asked for: "+err.Error(), hintRole)
	}
	return f.all
}

// Unfenceable asks a writer for what would keep a fence by SQL from being complete, and says it in words; empty when nothing is found, when there is a
// hook whose word counts instead, and when the node does not say.
func Unfenceable(ctx context.Context, writer Target, hook bool) string {
	f := &findings{}
	_ = with(ctx, "ask", writer, func(ctx context.Context, l *link) error {
		answers, err := l.ask(ctx, []string{preflightStatements[preflightSuper], preflightStatements[preflightMay]})
		if err == nil {
			f.unfenceable(writer.Node, hook, single(answers[0]), single(answers[1]))
		}
		return err
	})
	for _, found := range f.all {
		if found.Severity == Blocker {
			return found.What
		}
	}
	return ""
}

// leftBehind finds what exists on the old writer only.
func (f *findings) leftBehind(writer, to string, answers []answer) {
	for i, a := range answers {
		if a.err != nil {
			what := []string{"prepared transactions", "logical slots", "the archive's backlog", "the archiver", "open transactions", "wal_keep_size", "sessions of superusers", "privileges"}[i]
			f.add(writer, Warning, what+" could not be read: "+reason(a.err), hintRole)
		}
	}
	if single(answers[preflightKept])["setting"] == "0" {
		f.add(writer, Warning, "wal_keep_size is 0: a clean stop of this node afterwards removes the log that pg_rewind needs to make it a standby again",
			"ALTER SYSTEM SET wal_keep_size = '1GB'; SELECT pg_reload_conf().")
	}
	prepared := single(answers[preflightPrepared])
	if n := number(prepared, "n").V; n > 0 {
		f.add(writer, Warning, fmt.Sprintf("%s (one is %q): they go on on %s, with their locks, and are finished there", counted(n, "transaction is prepared", "transactions are prepared"),
			prepared["one"], to), "COMMIT PREPARED or ROLLBACK PREPARED first, or afterwards on the new writer.")
	}
	for _, s := range answers[preflightSlots].rows {
		f.add(writer, Warning, fmt.Sprintf("logical replication slot %q (%s) is not on %s unless it is synchronised there: its consumer loses its place", s["slot_name"], s["plugin"], to),
			"Let the consumer catch up, and create the slot anew on the new writer.")
	}
	if n := number(single(answers[preflightArchive]), "n").V; n > archiveBacklog {
		f.add(writer, Warning, fmt.Sprintf("%d finished segments wait to be archived: until they are, the archive has a gap at the change of timelines", n),
			"Wait for archive_command to catch up, or see why it does not.")
	}
	if rows := answers[preflightArchiver].rows; len(rows) > 0 {
		f.add(writer, Warning, "the archiver fails at "+rows[0]["wal"], "See pg_stat_archiver and the server's log.")
	}
}

// unfenceable finds what would keep a fence by SQL from being complete: then the switchover would be undone, after its sessions were ended.
func (f *findings) unfenceable(writer string, hook bool, super, may row) {
	severity := Blocker
	if hook {
		severity = Info // its word is the one that counts
	}
	if n := number(super, "n").V; n > 0 {
		f.add(writer, severity, fmt.Sprintf("%s (%q): pgtether cannot end them, and the fence of the old writer would be incomplete",
			counted(n, "session of a superuser is there", "sessions of superusers are there"), super["one"]), "End them, or set hooks.fence.")
	}
	if may["may"] == "f" {
		f.add(writer, severity, "the probe's role may not set default_transaction_read_only here: the old writer could not be fenced by SQL",
			hintRole+" PostgreSQL 13 and 14 need hooks.fence.")
	}
}

// longOpen names the transactions that a drain would wait for.
func (f *findings) longOpen(writer string, drain time.Duration, a answer) {
	for _, r := range a.rows {
		age := time.Duration(number(r, "seconds").V) * time.Second
		who := fmt.Sprintf("process %s of role %q in database %q from %s", r["pid"], r["usename"], r["datname"], r["client"])
		if r["application_name"] != "" {
			who += fmt.Sprintf(" (%s)", r["application_name"])
		}
		f.add(writer, Warning, fmt.Sprintf("a transaction has been open for %s (%s): %s; open transactions would have %s to end", age, r["state"], who, drain),
			"End it, or pg_terminate_backend("+r["pid"]+").")
	}
}

// Transactions says how long each of the node's client backends has had its transaction open, by process number. Backends without one are left out.
func (Operator) Transactions(ctx context.Context, t Target) (map[uint32]time.Duration, error) {
	open := map[uint32]time.Duration{}
	err := with(ctx, "ask", t, func(ctx context.Context, l *link) error {
		answers, err := l.ask(ctx, []string{"SELECT pid, extract(epoch FROM clock_timestamp() - xact_start) AS seconds FROM pg_stat_activity " +
			"WHERE backend_type = 'client backend' AND xact_start IS NOT NULL"})
		switch {
		case err != nil:
			return err
		case answers[0].err != nil:
			return answers[0].err
		}
		for _, r := range answers[0].rows {
			pid, err := strconv.ParseUint(r["pid"], 10, 32)
			seconds, err2 := strconv.ParseFloat(r["seconds"], 64)
			if err == nil && err2 == nil && seconds >= 0 {
				open[uint32(pid)] = time.Duration(seconds * float64(time.Second))
			}
		}
		return nil
	})
	return open, err
}
