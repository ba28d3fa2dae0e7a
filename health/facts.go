package health

import (
	"cmp"
	"strconv"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// Rows are read leniently: a column that is NULL, missing or not what it should be is an unknown fact.

// maxText is far above any honest value of a column; a longer one is not shortened, which would make it another value.
const maxText = 4096

func text(r row, column string) decision.Opt[string] {
	v, ok := r[column]
	if !ok || len(v) > maxText {
		return decision.Opt[string]{}
	}
	return decision.Some(v)
}

func lsn(r row, column string) decision.Opt[decision.LSN] {
	at, err := decision.ParseLSN(r[column])
	if err != nil || at == 0 {
		return decision.Opt[decision.LSN]{}
	}
	return decision.Some(at)
}

func number(r row, column string) decision.Opt[int] {
	n, err := strconv.ParseInt(r[column], 10, 64)
	if err != nil || n < 0 {
		return decision.Opt[int]{}
	}
	return decision.Some(int(n))
}

func timeline(r row, column string) decision.Opt[uint32] {
	n, err := strconv.ParseUint(r[column], 10, 32)
	if err != nil || n == 0 {
		return decision.Opt[uint32]{}
	}
	return decision.Some(uint32(n))
}

func boolean(r row, column string) decision.Opt[bool] {
	switch r[column] {
	case "t", "on", "true":
		return decision.Some(true)
	case "f", "off", "false":
		return decision.Some(false)
	default:
		return decision.Opt[bool]{}
	}
}

// maxMicros keeps the product with a microsecond inside an int64.
const maxMicros = int64(1<<63-1) / int64(time.Microsecond)

// age reads whole microseconds. A negative one (the node's clock was set back in between) counts as 0.
func age(r row, column string) decision.Opt[time.Duration] {
	n, err := strconv.ParseInt(r[column], 10, 64)
	if err != nil || n > maxMicros {
		return decision.Opt[time.Duration]{}
	}
	return decision.Some(time.Duration(max(n, 0)) * time.Microsecond)
}

// facts are what the SQL of one way in told.
type facts struct {
	observation decision.Observation
	sign
	// lock is whether this session got the advisory lock; unknown where it did not ask.
	lock decision.Opt[bool]
}

// readFacts reads the answers to statements(). It fails when not even the node's role was told.
func readFacts(answers []answer) (facts, error) {
	var f facts
	if err := answers[askCore].err; err != nil {
		return f, err
	}
	core := single(answers[askCore])
	var ok bool
	if f.sign, ok = readSign(core); !ok {
		return f, errNoFacts
	}
	o := &f.observation
	o.Role = f.role
	o.VersionNum = number(core, "version_num")
	o.StartedAgo = age(core, "started_ago")
	o.TransactionReadOnly = f.transactionReadOnly
	if o.Role == decision.RoleStandby {
		readStandby(o, core)
	} else {
		o.CurrentLSN, o.FlushLSN = lsn(core, "current_lsn"), lsn(core, "flush_lsn")
		o.Timeline = walFileTimeline(core["wal_file"])
	}
	if id := single(answers[askSystem])["system_identifier"]; isSystemID(id) {
		o.SystemID = decision.Some(id)
	}
	settings := readSettings(answers[askSettings])
	o.Settings = settingsOf(settings)
	o.ServerID = serverID(f.started, settings)
	o.Receiver = readReceiver(answers[askReceiver])
	o.ReplayWaits = readReplayWaits(answers[askStartup])
	o.Senders = readSenders(answers[askSenders])
	o.Rivals = readRivals(answers[askRivals])
	f.lock = boolean(single(answers[askLock]), "held")
	readPrivileges(&o.Settings, single(answers[askPrivileges]), settings)
	return f, nil
}

// single is the only row of an answer, or an empty one.
func single(a answer) row {
	if a.err != nil || len(a.rows) != 1 {
		return row{}
	}
	return a.rows[0]
}

// readStandby: after a restart the received position starts again below the replayed one, or is NULL; the greater counts.
func readStandby(o *decision.Observation, core row) {
	received, replayed := lsn(core, "received_lsn"), lsn(core, "replayed_lsn")
	o.ReplayedLSN = replayed
	o.ReceivedLSN = decision.Opt[decision.LSN]{V: max(received.V, replayed.V), Known: received.Known || replayed.Known}
	o.ReplayPaused = text(core, "replay_paused")
	if o.ReceivedLSN.Known && o.ReceivedLSN.V > replayed.V {
		o.ReplayLag = age(core, "replay_lag")
	}
}

// walFileTimeline is the first 8 hexadecimal digits of a WAL file's name.
func walFileTimeline(name string) decision.Opt[uint32] {
	if len(name) != 24 {
		return decision.Opt[uint32]{}
	}
	n, err := strconv.ParseUint(name[:8], 16, 32)
	if err != nil || n == 0 {
		return decision.Opt[uint32]{}
	}
	return decision.Some(uint32(n))
}

// readSettings makes one row of the parameters, by name. Those that the role may not see are missing.
func readSettings(a answer) row {
	values := row{}
	if a.err != nil {
		return values
	}
	for _, r := range a.rows {
		if value, ok := text(r, "setting").Get(); ok {
			values[r["name"]] = value
		}
	}
	return values
}

func settingsOf(v row) decision.Settings {
	return decision.Settings{
		MaxConnections:          number(v, "max_connections"),
		MaxWorkerProcesses:      number(v, "max_worker_processes"),
		MaxWalSenders:           number(v, "max_wal_senders"),
		MaxPreparedTransactions: number(v, "max_prepared_transactions"),
		MaxLocksPerTransaction:  number(v, "max_locks_per_transaction"),
		WalLogHints:             boolean(v, "wal_log_hints"),
		DataChecksums:           boolean(v, "data_checksums"),
		SynchronousStandbyNames: text(v, "synchronous_standby_names"),
		SynchronousCommit:       text(v, "synchronous_commit"),
		DefaultReadOnly:         boolean(v, "default_transaction_read_only"),
		WalReceiverTimeout:      millis(v, "wal_receiver_timeout"),
		RecoveryMinApplyDelay:   millis(v, "recovery_min_apply_delay"),
	}
}

// millis reads a parameter whose unit is the millisecond.
func millis(v row, name string) decision.Opt[time.Duration] {
	n, ok := number(v, name).Get()
	if !ok || int64(n) > maxMicros/1000 {
		return decision.Opt[time.Duration]{}
	}
	return decision.Some(time.Duration(n) * time.Millisecond)
}

// serverID is the same under every address of one server, and differs between two servers and between two starts of one.
func serverID(started decision.Opt[string], settings row) decision.Opt[string] {
	dir, dirOK := settings["data_directory"]
	port, portOK := settings["port"]
	if !started.Known || !dirOK || !portOK {
		return decision.Opt[string]{}
	}
	return decision.Some(started.V + ":" + port + ":" + dir)
}

// readReceiver: no row means that no receiver runs; a row without a status means that the role may not see it.
func readReceiver(a answer) decision.Opt[decision.Receiver] {
	switch {
	case a.err != nil, len(a.rows) > 1:
		return decision.Opt[decision.Receiver]{}
	case len(a.rows) == 0:
		return decision.Some(decision.Receiver{})
	}
	r := a.rows[0]
	status, ok := text(r, "status").Get()
	if !ok {
		return decision.Opt[decision.Receiver]{}
	}
	return decision.Some(decision.Receiver{
		Running: true, Status: printable(status),
		MessageAge: age(r, "message_age"),
		Timeline:   timeline(r, "received_tli"),
		LatestEnd:  lsn(r, "latest_end_lsn"),
		SenderHost: printable(r["sender_host"]), SenderPort: number(r, "sender_port").V,
		SlotName: printable(r["slot_name"]),
	})
}

// readReplayWaits: a row without backend_start means that the role may not see the process. It has no wait_event while it works.
func readReplayWaits(a answer) decision.Opt[string] {
	if a.err != nil || len(a.rows) != 1 {
		return decision.Opt[string]{}
	}
	if _, ok := text(a.rows[0], "backend_start").Get(); !ok {
		return decision.Opt[string]{}
	}
	return decision.Some(printable(a.rows[0]["wait_event"]))
}

// readSenders: one row without a state means that the role may not see them, so the whole list is unknown.
func readSenders(a answer) decision.Opt[[]decision.Sender] {
	if a.err != nil {
		return decision.Opt[[]decision.Sender]{}
	}
	senders := make([]decision.Sender, 0, len(a.rows))
	for _, r := range a.rows {
		state, ok := text(r, "state").Get()
		if !ok {
			return decision.Opt[[]decision.Sender]{}
		}
		senders = append(senders, decision.Sender{
			ApplicationName: printable(r["application_name"]), ClientAddr: printable(r["client_addr"]),
			State: printable(state), SyncState: printable(r["sync_state"]),
			Sent: lsn(r, "sent_lsn"), Write: lsn(r, "write_lsn"), Flush: lsn(r, "flush_lsn"), Replay: lsn(r, "replay_lsn"),
			ReplayLag: age(r, "replay_lag"), ReplyAge: age(r, "reply_age"),
		})
	}
	return decision.Some(senders)
}

func readRivals(a answer) decision.Opt[[]string] {
	if a.err != nil {
		return decision.Opt[[]string]{}
	}
	rivals := make([]string, 0, len(a.rows))
	for _, r := range a.rows {
		rivals = append(rivals, printable(r["instance"]))
	}
	return decision.Some(rivals)
}

func readPrivileges(s *decision.Settings, r row, settings row) {
	s.CanPromote = boolean(r, "can_promote")
	s.CanSetSyncNames = boolean(r, "can_set_sync_names")
	if settings["allow_alter_system"] == "off" { // PostgreSQL 17 and later
		s.CanSetSyncNames = decision.Some(false)
	}
	s.RelaxedRoles = number(r, "relaxed_roles")
}

// majorVersion reads server_version as the server reports it at login ("15.12 (Debian 15.12-0+deb12u2)", "18beta1").
func majorVersion(serverVersion string) int {
	end := 0
	for end < len(serverVersion) && end < 3 && serverVersion[end] >= '0' && serverVersion[end] <= '9' {
		end++
	}
	major, _ := strconv.Atoi(serverVersion[:end]) // no digits: 0
	return cmp.Or(major, oldestMajor)
}

// oldestMajor is assumed of a server that does not tell its version: its statements run on all later ones.
const oldestMajor = 13
