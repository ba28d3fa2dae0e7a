package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/admin"
	"github.com/pgtether/pgtether/internal/control"
	"github.com/pgtether/pgtether/internal/metrics"
)

var updateEvidence = flag.Bool("update-evidence", false,
	"record testdata/evidence anew: needed when the engine decides, or says, something else than before, or when the bundle's form has changed")

// TestTheRecordedFailoverIsReproduced holds today's engine against a failover that was recorded once.
func TestTheRecordedFailoverIsReproduced(t *testing.T) {
	const bundle, story = "testdata/evidence/failover.json", "testdata/evidence/failover.txt"
	if *updateEvidence {
		if err := os.WriteFile(bundle, recordFailover(t), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var stdout, stderr bytes.Buffer
	if code := run([]string{"decision", "--replay", bundle}, &stdout, &stderr); code != exitDone {
		t.Fatalf("exit code %d: %s\nif the engine was meant to change: go test ./cmd/pgtether -run TheRecordedFailover -update-evidence", code, stderr.String())
	}
	if *updateEvidence {
		if err := os.WriteFile(story, stdout.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(story)
	if err != nil || stdout.String() != string(want) {
		t.Errorf("the story differs from %s (%v):\n%s", story, err, stdout.String())
	}
}

// prepareEvidence puts copies of the recorded failover, each spoiled in its way, into a script's folder.
func prepareEvidence(dir string) error {
	whole, err := os.ReadFile("testdata/evidence/failover.json")
	if err != nil {
		return err
	}
	var f struct {
		Format int             `json:"pgtether_evidence"`
		Sum    string          `json:"sha256"`
		Body   json.RawMessage `json:"body"`
	}
	if err := json.Unmarshal(whole, &f); err != nil {
		return err
	}
	sealed := func(old, new string) []byte {
		body := bytes.Replace(f.Body, []byte(old), []byte(new), 1)
		var compact bytes.Buffer
		if err := json.Compact(&compact, body); err != nil || bytes.Equal(body, f.Body) {
			panic(fmt.Sprintf("%q is not in the recorded bundle, or %v", old, err))
		}
		sum := sha256.Sum256(append([]byte("1\n\n"), compact.Bytes()...))
		return fmt.Appendf(nil, `{"pgtether_evidence":1,"sha256":%q,"body":%s}`, hex.EncodeToString(sum[:]), body)
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "failover.json"), whole, 0o600),
		os.WriteFile(filepath.Join(dir, "cut-short.json"), whole[:len(whole)/2], 0o600),
		os.WriteFile(filepath.Join(dir, "edited.json"), bytes.Replace(whole, []byte("connection refused"), []byte("connection reset"), 1), 0o600),
		os.WriteFile(filepath.Join(dir, "later.json"), bytes.Replace(whole, []byte(`"pgtether_evidence": 1`), []byte(`"pgtether_evidence": 2`), 1), 0o600),
		os.WriteFile(filepath.Join(dir, "other-engine.json"), sealed(`"snapshot": {"Version":`, `"snapshot": {"Version":99`), 0o600),
		os.WriteFile(filepath.Join(dir, "other-digest.json"), sealed(`"sha256":"`, `"sha256":"beef`), 0o600),
		os.WriteFile(filepath.Join(dir, "other-decision.json"), sealed(`"verdict":"SAFE"`, `"verdict":"BLOCKED"`), 0o600),
	)
}

// stagedPair is a pair of nodes that are not there: the loop is told what the test wants it to see.
type stagedPair struct {
	loop     *control.Loop
	clock    *control.Clock
	promoted atomic.Bool
}

func (*stagedPair) Open(uint64, string, string, decision.Lossless, func(decision.SessionCounts)) {
}
func (*stagedPair) Hold(decision.HoldReason)    {}
func (*stagedPair) Refuse(decision.HoldReason)  {}
func (*stagedPair) Undrain(uint64)              {}
func (*stagedPair) Drain(_ uint64, done func()) { done() }
func (*stagedPair) Cut(uint64, decision.CutReason) control.CutReport {
	return control.CutReport{Ended: 3, LastByteAge: -1}
}
func (*stagedPair) DataPlane() control.DataPlane { return control.DataPlane{HeardAge: -1, Relaxed: 0} }
func (*stagedPair) Kick(string)                  {}
func (*stagedPair) Pace(time.Duration)           {}
func (*stagedPair) Fence(context.Context, decision.Fence) (string, decision.Opt[decision.LSN], error) {
	return "fenced", decision.Opt[decision.LSN]{}, nil
}
func (*stagedPair) Verify(context.Context, decision.Verify) error     { return nil }
func (*stagedPair) Unfence(context.Context, string) error             { return nil }
func (*stagedPair) EndConflicts(context.Context, string) error        { return nil }
func (*stagedPair) RestoreSync(context.Context, string, string) error { return nil }
func (*stagedPair) Checkpoint(context.Context, string) error          { return nil }
func (s *stagedPair) Promote(context.Context, string) error           { s.promoted.Store(true); return nil }
func (s *stagedPair) show(dead bool) {
	standby, primary := s.node("region-b", decision.RoleStandby), s.node("region-a", decision.RolePrimary)
	standby.Receiver = decision.Some(decision.Receiver{Running: !dead})
	if dead {
		no := decision.Attempt{Evidence: decision.Refused, Detail: "connection refused"}
		primary = decision.Observation{Node: "region-a", Began: s.clock.Now(), Persistent: no, Fresh: no, Replication: no}
	} else {
		standby.Receiver.V.Status, standby.Receiver.V.MessageAge, standby.Receiver.V.Timeline = "streaming", decision.Some(time.Duration(0)), decision.Some(uint32(1))
	}
	if s.promoted.Load() {
		standby = s.node("region-b", decision.RolePrimary)
		standby.Timeline, standby.History = decision.Some(uint32(2)), decision.Some([]decision.TimelineSwitch{{Timeline: 1, At: 0x4000000}})
	}
	s.loop.Observe(primary)
	s.loop.Observe(standby)
	time.Sleep(200 * time.Millisecond)
}

func (s *stagedPair) node(name string, role decision.Role) decision.Observation {
	ok, at := decision.Attempt{Evidence: decision.Answers, Took: 3 * time.Millisecond}, decision.Some(decision.LSN(0x4000000))
	o := decision.Observation{
		Node: name, Began: s.clock.Now(), Took: 4 * time.Millisecond, Persistent: ok, Fresh: ok, Replication: ok, Role: role,
		SystemID: decision.Some("7300000000000000000"), Timeline: decision.Some(uint32(1)), History: decision.Some([]decision.TimelineSwitch{}),
		ServerID: decision.Some(name), VersionNum: decision.Some(170005), StartedAgo: decision.Some(time.Hour),
		TransactionReadOnly: decision.Some(role == decision.RoleStandby), Rivals: decision.Some([]string{}),
		Settings: decision.Settings{
			MaxConnections: decision.Some(100), MaxWorkerProcesses: decision.Some(8), MaxWalSenders: decision.Some(10), MaxPreparedTransactions: decision.Some(0),
			MaxLocksPerTransaction: decision.Some(64), SynchronousStandbyNames: decision.Some(""), SynchronousCommit: decision.Some("on"),
			WalReceiverTimeout: decision.Some(5 * time.Second), RelaxedRoles: decision.Some(0), RecoveryMinApplyDelay: decision.Some(time.Duration(0)),
			CanPromote: decision.Some(true), CanSetSyncNames: decision.Some(true),
		},
	}
	if role == decision.RolePrimary {
		o.CurrentLSN, o.FlushLSN = at, at
		o.Senders = decision.Some([]decision.Sender{{ApplicationName: "region-b", State: "streaming", SyncState: "async"}})
	} else {
		o.ReceivedLSN, o.ReplayedLSN, o.ReplayPaused = at, at, decision.Some("not paused")
	}
	return o
}

// recordFailover has a loop fail over and returns the bundle that it leaves.
func recordFailover(t *testing.T) []byte {
	t.Helper()
	s, dir := &stagedPair{clock: control.NewClock()}, t.TempDir()
	store, rec, last, err := control.OpenStore(dir, s.clock)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	events, err := control.OpenEventLog(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.loop, err = control.New(control.Config{
		Engine: decision.Config{
			Nodes: []decision.Node{{Name: "region-a", Address: "10.0.0.11:5432"}, {Name: "region-b", Address: "10.0.0.12:5432"}}, Mode: decision.ModeAuto,
			TickInterval: 200 * time.Millisecond, ProbeInterval: 500 * time.Millisecond, ProbeTimeout: 500 * time.Millisecond, StableFor: time.Second,
			PrimaryStartTimeout: time.Minute, PromoteTimeout: time.Minute, DrainTimeout: 10 * time.Second, HoldSession: 15 * time.Second, AntiFlap: time.Hour, MaxLagBytes: 16 << 20,
		},
		Store: store, Events: events, Router: s, Prober: s, Operator: s, Clock: s.clock, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Metrics: metrics.New(prometheus.NewRegistry(), metrics.Labels{}).Control, Record: rec, LastKnown: last,
		Evidence: control.Evidence{Version: "v0.0.0-testdata", Render: admin.DecisionJSON},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.loop.Run(ctx) }()
	for range 20 {
		s.show(false)
	}
	for until := time.Now().Add(30 * time.Second); s.loop.View().Status.Writer != decision.Some("region-b") && time.Now().Before(until); {
		s.show(true)
	}
	stop()
	<-ended
	files, err := filepath.Glob(filepath.Join(dir, "evidence", "*.json"))
	if err != nil || len(files) != 1 || events.Close() != nil {
		t.Fatalf("files %q, %v", files, err)
	}
	bundle, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return bundle
}
