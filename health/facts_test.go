package health

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtether/pgtether/decision"
)

// told are the answers of a healthy standby, as PostgreSQL gives them.
func told() []answer {
	answers := make([]answer, statementCount)
	answers[askCore].rows = []row{{"version_num": "150012", "in_recovery": "t", "transaction_read_only": "on", "started": "1700000000000000",
		"started_ago": "5000000", "received_lsn": "0/3000060", "replayed_lsn": "0/3000000", "replay_paused": "not paused", "replay_lag": "250000"}}
	answers[askSystem].rows = []row{{"system_identifier": "7400000000000000001"}}
	answers[askSettings].rows = []row{{"name": "max_connections", "setting": "100"}, {"name": "wal_log_hints", "setting": "on"},
		{"name": "wal_receiver_timeout", "setting": "5000"}, {"name": "data_directory", "setting": "/data"}, {"name": "port", "setting": "5432"},
		{"name": "synchronous_standby_names", "setting": ""}}
	answers[askStartup].rows = []row{{"pid": "9", "backend_start": "2026-01-01 00:00:00+00", "wait_event": "RecoveryWalStream"}}
	answers[askReceiver].rows = []row{{"pid": "7", "status": "streaming", "received_tli": "3", "latest_end_lsn": "0/3000060", "sender_host": "10.0.0.11",
		"sender_port": "5432", "slot_name": "b", "message_age": "1500000"}}
	answers[askPrivileges].rows = []row{{"can_promote": "t", "can_set_sync_names": "f", "relaxed_roles": "1"}}
	return answers
}

func TestFactsOfAStandby(t *testing.T) {
	f, err := readFacts(told())
	if err != nil {
		t.Fatal(err)
	}
	o := f.observation
	same(t, "role", o.Role, decision.RoleStandby)
	same(t, "received", o.ReceivedLSN, decision.Some(decision.LSN(0x3000060)))
	same(t, "replay lag", o.ReplayLag, decision.Some(250*time.Millisecond))
	same(t, "started ago", o.StartedAgo, decision.Some(5*time.Second))
	same(t, "server id", o.ServerID, decision.Some("1700000000000000:5432:/data"))
	same(t, "wal_receiver_timeout", o.Settings.WalReceiverTimeout, decision.Some(5*time.Second))
	same(t, "synchronous_standby_names", o.Settings.SynchronousStandbyNames, decision.Some(""))
	same(t, "not told", o.Settings.MaxWalSenders, decision.Opt[int]{})
	same(t, "replay waits", o.ReplayWaits, decision.Some("RecoveryWalStream"))
	same(t, "receiver", o.Receiver, decision.Some(decision.Receiver{Running: true, Status: "streaming", MessageAge: decision.Some(1500 * time.Millisecond),
		Timeline: decision.Some(uint32(3)), LatestEnd: decision.Some(decision.LSN(0x3000060)), SenderHost: "10.0.0.11", SenderPort: 5432, SlotName: "b"}))
	if o.Timeline.Known || o.History.Known {
		t.Error("a standby's timeline comes from IDENTIFY_SYSTEM alone")
	}
	same(t, "relaxed roles", o.Settings.RelaxedRoles, decision.Some(1))
}

func TestFactsThatAreNotThereAreUnknown(t *testing.T) {
	denied := &pgconn.PgError{Severity: "ERROR", Code: "42501"}
	for _, c := range []struct {
		name    string
		change  func([]answer)
		unknown func(decision.Observation) bool
	}{
		{"receiver without a status", func(a []answer) { delete(a[askReceiver].rows[0], "status") }, func(o decision.Observation) bool { return !o.Receiver.Known }},
		{"two receivers", func(a []answer) { a[askReceiver].rows = append(a[askReceiver].rows, row{"status": "streaming"}) }, func(o decision.Observation) bool { return !o.Receiver.Known }},
		{"receivers denied", func(a []answer) { a[askReceiver] = answer{err: denied} }, func(o decision.Observation) bool { return !o.Receiver.Known }},
		{"no message yet", func(a []answer) { delete(a[askReceiver].rows[0], "message_age") }, func(o decision.Observation) bool { return o.Receiver.Known && !o.Receiver.V.MessageAge.Known }},
		{"the startup process hidden", func(a []answer) { a[askStartup].rows = []row{{"pid": "9"}} }, func(o decision.Observation) bool { return !o.ReplayWaits.Known }},
		{"no startup process", func(a []answer) { a[askStartup].rows = nil }, func(o decision.Observation) bool { return !o.ReplayWaits.Known }},
		{"one sender without a state", func(a []answer) {
			a[askSenders].rows = []row{{"state": "streaming"}, {"application_name": "b"}}
		}, func(o decision.Observation) bool { return !o.Senders.Known }},
		{"senders denied", func(a []answer) { a[askSenders] = answer{err: denied} }, func(o decision.Observation) bool { return !o.Senders.Known }},
		{"identity denied", func(a []answer) { a[askSystem] = answer{err: denied} }, func(o decision.Observation) bool { return !o.SystemID.Known }},
		{"identity 0", func(a []answer) { a[askSystem].rows[0]["system_identifier"] = "0" }, func(o decision.Observation) bool { return !o.SystemID.Known }},
		{"settings denied", func(a []answer) { a[askSettings] = answer{err: denied} }, func(o decision.Observation) bool {
			return o.Settings.MaxConnections == decision.Opt[int]{} && !o.ServerID.Known
		}},
		{"privileges denied", func(a []answer) { a[askPrivileges] = answer{err: denied} }, func(o decision.Observation) bool {
			return !o.Settings.CanPromote.Known && !o.Settings.CanSetSyncNames.Known && !o.Settings.RelaxedRoles.Known
		}},
		{"data directory hidden", func(a []answer) { a[askSettings].rows = a[askSettings].rows[:3] }, func(o decision.Observation) bool { return !o.ServerID.Known }},
		{"nothing to replay", func(a []answer) { a[askCore].rows[0]["replayed_lsn"] = "0/3000060" }, func(o decision.Observation) bool { return !o.ReplayLag.Known }},
		{"received nothing since the start", func(a []answer) { delete(a[askCore].rows[0], "received_lsn") }, func(o decision.Observation) bool {
			return o.ReceivedLSN == decision.Some(decision.LSN(0x3000000))
		}},
		{"received less than replayed", func(a []answer) { a[askCore].rows[0]["received_lsn"] = "0/2000000" }, func(o decision.Observation) bool {
			return o.ReceivedLSN == decision.Some(decision.LSN(0x3000000)) && !o.ReplayLag.Known
		}},
		{"numbers that are none", func(a []answer) {
			a[askSettings].rows[0]["setting"], a[askSettings].rows[2]["setting"] = "many", "9999999999999999"
			a[askCore].rows[0]["replay_lag"], a[askCore].rows[0]["version_num"] = "9223372036854775807", "-1"
		}, func(o decision.Observation) bool {
			return !o.Settings.MaxConnections.Known && !o.Settings.WalReceiverTimeout.Known && !o.ReplayLag.Known && !o.VersionNum.Known
		}},
		{"position 0", func(a []answer) { a[askReceiver].rows[0]["latest_end_lsn"] = "0/0" }, func(o decision.Observation) bool { return !o.Receiver.V.LatestEnd.Known }},
		{"a value without end", func(a []answer) { a[askCore].rows[0]["replay_paused"] = strings.Repeat("x", maxText+1) }, func(o decision.Observation) bool { return !o.ReplayPaused.Known }},
		{"a clock set back", func(a []answer) { a[askReceiver].rows[0]["message_age"] = "-3000000" }, func(o decision.Observation) bool {
			return o.Receiver.V.MessageAge == decision.Some(time.Duration(0))
		}},
		{"ALTER SYSTEM forbidden", func(a []answer) {
			a[askPrivileges].rows[0]["can_set_sync_names"] = "t"
			a[askSettings].rows = append(a[askSettings].rows, row{"name": "allow_alter_system", "setting": "off"})
		}, func(o decision.Observation) bool { return o.Settings.CanSetSyncNames == decision.Some(false) }},
	} {
		answers := told()
		c.change(answers)
		f, err := readFacts(answers)
		if err != nil || !c.unknown(f.observation) {
			t.Errorf("%s: %v %+v", c.name, err, f.observation)
		}
	}
}

func TestWithoutARoleThereAreNoFacts(t *testing.T) {
	for name, change := range map[string]func([]answer){
		"the statement failed":   func(a []answer) { a[askCore] = answer{err: &pgconn.PgError{Code: "57014"}} },
		"no row":                 func(a []answer) { a[askCore].rows = nil },
		"two rows":               func(a []answer) { a[askCore].rows = append(a[askCore].rows, a[askCore].rows[0]) },
		"recovery is NULL":       func(a []answer) { delete(a[askCore].rows[0], "in_recovery") },
		"recovery is a nonsense": func(a []answer) { a[askCore].rows[0]["in_recovery"] = "maybe" },
	} {
		answers := told()
		change(answers)
		if f, err := readFacts(answers); err == nil || f.observation.Role != decision.RoleUnknown {
			t.Errorf("%s: role %s, error %v", name, f.observation.Role, err)
		}
	}
}

func TestTimelineOfAWALFile(t *testing.T) {
	for name, want := range map[string]decision.Opt[uint32]{
		"000000020000000000000003": decision.Some(uint32(2)), "0000000A0000000000000003": decision.Some(uint32(10)), "FFFFFFFF0000000000000003": decision.Some(uint32(1<<32 - 1)),
		"": {}, "00000002": {}, "000000000000000000000003": {}, "+00000020000000000000003": {}, "0x0000020000000000000003": {},
	} {
		same(t, name, walFileTimeline(name), want)
	}
}

func TestMajorVersion(t *testing.T) {
	for version, want := range map[string]int{
		"15.12 (Debian 15.12-0+deb12u2)": 15, "18beta1": 18, "13.0": 13, "9.6.24": 9, "": oldestMajor, "x": oldestMajor, "999999999999999999999": 999,
	} {
		same(t, version, majorVersion(version), want)
	}
}

func TestStatementsFitTheVersion(t *testing.T) {
	for major := 13; major <= 18; major++ {
		all := strings.Join(append(statements(major), checkStatements(major)...), "\n")
		same(t, "pause state", strings.Contains(all, "pg_get_wal_replay_pause_state"), major >= 14)
		same(t, "parameter privileges", strings.Contains(all, "has_parameter_privilege"), major >= 15)
	}
}

// FuzzFacts: no answer of a server makes the reading panic or a fact out of nothing.
func FuzzFacts(f *testing.F) {
	f.Add("t", "0/3000000", "150012", "streaming", "5000")
	f.Add("f", "FFFFFFFF/FFFFFFFF", "-1", "", "9223372036854775807")
	f.Fuzz(func(t *testing.T, recovery, position, count, status, millis string) {
		answers := told()
		core := answers[askCore].rows[0]
		core["in_recovery"], core["current_lsn"], core["received_lsn"], core["version_num"], core["wal_file"] = recovery, position, position, count, position
		core["started_ago"], core["replay_lag"] = millis, millis
		answers[askReceiver].rows[0]["status"], answers[askReceiver].rows[0]["received_tli"] = status, count
		answers[askSettings].rows[2]["setting"] = millis
		got, err := readFacts(answers)
		if (err == nil) != (recovery == "t" || recovery == "f" || recovery == "on" || recovery == "off" || recovery == "true" || recovery == "false") {
			t.Fatalf("in_recovery %q: %v", recovery, err)
		}
		o := got.observation
		if o.ReplayLag.V < 0 || o.StartedAgo.V < 0 || o.Settings.WalReceiverTimeout.V < 0 || o.VersionNum.V < 0 {
			t.Errorf("negative: %+v", o)
		}
		if o.CurrentLSN.Known && o.ReceivedLSN.Known {
			t.Errorf("positions of both roles: %+v", o)
		}
	})
}
