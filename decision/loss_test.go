package decision

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// lossOf brings an engine to an epoch whose writer's last known position is k, and asks what the candidate lacks.
func lossOf(k Opt[LastKnown], received Opt[LSN], change func(*Engine)) loss {
	rec := NewRecord()
	rec.Epoch, rec.Phase = 3, PhaseOpen
	rec.Writer = Writer{Node: "region-a", Address: "10.0.0.11:5432", SystemID: ourSystem, Timeline: 1, History: Some([]TimelineSwitch(nil))}
	e := New(testConfig("region-a", "region-b"), rec, Opt[LastKnown]{})
	e.lastKnown, e.opened, e.state, e.step = k, 3, PrimaryActive, StepNone
	e.now = Instant(100 * time.Second)
	if change != nil {
		change(e)
	}
	return e.lossAt("region-b", received)
}

func TestTheLossIsPositionPlusRateTimesAgeMinusWhatWasReceived(t *testing.T) {
	at := func(s float64) Opt[Instant] { return Some(Instant(s * float64(time.Second))) }
	known := func(age float64, rate Opt[uint64]) Opt[LastKnown] {
		return Some(LastKnown{Epoch: 3, Node: "region-a", LSN: 1000, At: at(100 - age), Rate: rate})
	}
	cut := func(silent float64) func(*Engine) {
		return func(e *Engine) {
			e.rec.Phase, e.cutDone, e.state, e.step, e.silentFrom = PhaseDrain, 3, PrimaryFailed, Adopting, at(silent)
		}
	}
	failed := func(heard, told float64) func(*Engine) {
		return func(e *Engine) {
			e.state, e.step = PrimaryFailed, Confirming
			e.plane, e.planeAt = DataPlane{Heard: at(heard)}, at(told).V
		}
	}
	rate := func(n uint64) Opt[uint64] { return Some(n) }
	var none Opt[uint64]
	for name, c := range map[string]struct {
		k        Opt[LastKnown]
		received Opt[LSN]
		change   func(*Engine)
		want     Lossless
		bytes    uint64
	}{
		"the contract's formula": {known(2, rate(100)), Some(LSN(900)), nil, LosslessBounded, 310},
		"rounded up":             {known(0.001, rate(1)), Some(LSN(1000)), nil, LosslessBounded, 1},
		"never below 0":          {known(2, rate(100)), Some(LSN(5000)), nil, LosslessBounded, 0},
		"an idle writer":         {known(9, rate(0)), Some(LSN(1000)), nil, LosslessBounded, 0},
		"exactly ten seconds":    {known(10, rate(1)), Some(LSN(1000)), nil, LosslessBounded, 11},
		"older than ten seconds": {known(10.001, rate(1)), Some(LSN(1000)), nil, LosslessUnknown, 0},
		"no rate":                {known(1, none), Some(LSN(1000)), nil, LosslessUnknown, 0},
		"no rate is needed for an age of nothing": {known(0, none), Some(LSN(400)), nil, LosslessBounded, 600},
		"no position":                                   {Opt[LastKnown]{}, Some(LSN(1)), nil, LosslessUnknown, 0},
		"no instant":                                    {Some(LastKnown{LSN: 1000, Rate: rate(1)}), Some(LSN(1)), nil, LosslessUnknown, 0},
		"nothing known of the candidate":                {known(1, rate(1)), Opt[LSN]{}, nil, LosslessUnknown, 0},
		"the age ends with the cut":                     {known(50, rate(10)), Some(LSN(1000)), cut(53), LosslessBounded, 31},
		"the age ends with the last byte before it":     {known(50, rate(10)), Some(LSN(1000)), cut(50.5), LosslessBounded, 6},
		"a byte before the position is no age":          {known(50, rate(10)), Some(LSN(900)), cut(40), LosslessBounded, 100},
		"a position after the cut needs no estimate":    {known(50, none), Some(LSN(900)), cut(40), LosslessBounded, 100},
		"before the cut, the last byte that was heard":  {known(5, rate(10)), Some(LSN(1000)), failed(96, 100), LosslessBounded, 11},
		"and what may have come since it was looked at": {known(5, rate(10)), Some(LSN(1000)), failed(96, 99), LosslessBounded, 21},
		"an earlier run's paths ended with it": {known(101, rate(10)), Some(LSN(1000)), func(e *Engine) {
			e.opened, e.state, e.step = 0, PrimaryFailed, Confirming
		}, LosslessBounded, 11},
		"what a standby heard of the writer counts too": {known(1, rate(1)), Some(LSN(1000)), func(e *Engine) {
			o := condStandby1.observation("region-b", e.now)
			o.Receiver.V.LatestEnd = Some(LSN(1500))
			e.views[1].take(e.now, o, false)
		}, LosslessBounded, 500},
		"but not of another timeline": {known(1, rate(1)), Some(LSN(1000)), func(e *Engine) {
			o := condStandby2.observation("region-b", e.now)
			o.Receiver.V.LatestEnd = Some(LSN(1500))
			e.views[1].take(e.now, o, false)
		}, LosslessBounded, 2},
	} {
		got := lossOf(c.k, c.received, c.change)
		if got.lossless != c.want || got.bytes.Known != (c.want != LosslessUnknown) || got.bytes.V != c.bytes || got.why == "" {
			t.Errorf("%s: %s %v (%s), want %s %d", name, got.lossless, got.bytes, got.why, c.want, c.bytes)
		}
		if got.bytes.V > 0 && (got.from != c.received || uint64(got.to.V-got.from.V) != got.bytes.V) {
			t.Errorf("%s: from %v to %v for %d bytes", name, got.from, got.to, got.bytes.V)
		}
	}
}

func TestOnlyAWatchedSynchronousStandbyProvesThatNothingIsLost(t *testing.T) {
	sound := func() (LastKnown, DataPlane) {
		return LastKnown{Epoch: 3, Node: "region-a", LSN: 1000, At: Some(Instant(99 * time.Second)), Rate: Some(uint64(10)), Sync: Some([]string{"region-b"}),
			Settings: healthySettings()}, DataPlane{Relaxed: Some(uint64(0))}
	}
	gone := func(e *Engine) {
		e.rec.Phase, e.cutDone, e.state, e.step, e.silentFrom = PhaseDrain, 3, PrimaryFailed, Adopting, Some(Instant(100*time.Second))
	}
	for name, c := range map[string]struct {
		change   func(*LastKnown, *DataPlane)
		received LSN
		want     Lossless
	}{
		"proven":                               {nil, 1000, LosslessProven},
		"remote_apply":                         {func(k *LastKnown, _ *DataPlane) { k.Settings.SynchronousCommit = Some("remote_apply") }, 1000, LosslessProven},
		"some commits asked for less":          {func(_ *LastKnown, p *DataPlane) { p.Relaxed = Some(uint64(2)) }, 1000, LosslessRelaxed},
		"nobody counted them":                  {func(_ *LastKnown, p *DataPlane) { p.Relaxed = Opt[uint64]{} }, 1000, LosslessBounded},
		"a role asks for less":                 {func(k *LastKnown, _ *DataPlane) { k.Settings.RelaxedRoles = Some(1) }, 1000, LosslessBounded},
		"roles could not be read":              {func(k *LastKnown, _ *DataPlane) { k.Settings.RelaxedRoles = Opt[int]{} }, 1000, LosslessBounded},
		"the server asks for less":             {func(k *LastKnown, _ *DataPlane) { k.Settings.SynchronousCommit = Some("local") }, 1000, LosslessBounded},
		"the server's level could not be read": {func(k *LastKnown, _ *DataPlane) { k.Settings.SynchronousCommit = Opt[string]{} }, 1000, LosslessBounded},
		"another standby was synchronous":      {func(k *LastKnown, _ *DataPlane) { k.Sync = Some([]string{"region-c"}) }, 1000, LosslessBounded},
		"none was":                             {func(k *LastKnown, _ *DataPlane) { k.Sync = Some([]string(nil)) }, 1000, LosslessBounded},
		"the senders could not be read":        {func(k *LastKnown, _ *DataPlane) { k.Sync = Opt[[]string]{} }, 1000, LosslessBounded},
		"it lacks what was known":              {nil, 999, LosslessBounded},
	} {
		k, p := sound()
		if c.change != nil {
			c.change(&k, &p)
		}
		got := lossOf(Some(k), Some(c.received), func(e *Engine) {
			gone(e)
			e.plane, e.confirmed = p, []confirmation{{lsn: 990, at: Instant(90 * time.Second)}}
		})
		if got.lossless != c.want {
			t.Errorf("%s: %s (%s), want %s", name, got.lossless, got.why, c.want)
		}
		if got.lossless == LosslessRelaxed && got.relaxed != Some(uint64(2)) {
			t.Errorf("%s: their number is %v", name, got.relaxed)
		}
	}
}

// TestTheReportedLossCoversTheTruth kills writers of all kinds under load, promotes the standby by hand, and compares the reported bound with
// what the old writer really wrote before it fell silent.
func TestTheReportedLossCoversTheTruth(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	bounded := 0
	for i := range 300 {
		cfg := testConfig("region-a", "region-b")
		w := newWorld(cfg, NewRecord(), Opt[LastKnown]{})
		w.sparing = i%2 == 1
		a, b := w.server("region-a"), w.server("region-b")
		a.rate, b.lag = r.Uint64N(8<<20), r.Uint64N(4<<20)
		w.run(time.Duration(2+r.IntN(20)) * time.Second)
		w.run(time.Duration(r.IntN(5)) * cfg.TickInterval)
		// The writer works on unseen for a while: its probes are lost before its last byte is.
		serverCommand(t, w, []string{"region-a", "unseen"})
		w.run(time.Duration(r.IntN(20)) * cfg.TickInterval)
		w.heard = Some(w.now)
		truth := a.lsn
		a.partitioned, b.noReceiver = false, true
		w.run(time.Duration(r.IntN(40)) * cfg.TickInterval)
		w.promote(b)
		fork := b.hist[len(b.hist)-1].At
		w.run(10 * time.Second)
		s := w.e.Status()
		c, ok := s.LastChange.Get()
		if !ok || s.Writer != Some("region-b") {
			t.Fatalf("seed %d, run %d: the promoted node was not followed: %s", seed, i, s.Message)
		}
		lost := uint64(max(truth, fork) - fork)
		if c.LossBytes.Known {
			bounded++
			if c.LossBytes.V < lost {
				t.Fatalf("seed %d, run %d: %d bytes are lost, %d were reported", seed, i, lost, c.LossBytes.V)
			}
		}
	}
	if bounded < 150 {
		t.Errorf("seed %d: a figure was given in %d of 300 runs only", seed, bounded)
	}
}

func TestSendersAreMatchedToNodes(t *testing.T) {
	row := func(app, addr string) Sender {
		return Sender{ApplicationName: app, ClientAddr: addr, State: receiverStreaming, SyncState: "sync"}
	}
	names := func(nodes []Node, senders ...Sender) string {
		cfg := testConfig("x")
		cfg.Nodes = nodes
		rec := NewRecord()
		rec.Epoch, rec.Phase, rec.Writer = 1, PhaseOpen, Writer{Node: "region-a", Address: nodes[0].Address, SystemID: ourSystem, Timeline: 1}
		return fmt.Sprint(New(cfg, rec, Opt[LastKnown]{}).syncNodes(senders, Some("FIRST 1 (region-b)")))
	}
	two := testConfig("region-a", "region-b").Nodes
	three := testConfig("region-a", "region-b", "region-c").Nodes
	local := []Node{{"region-a", "127.0.0.1:5001"}, {"region-b", "127.0.0.1:5002"}, {"region-c", "[::1]:5003"}}
	catching := row("region-b", "")
	catching.State = "catchup"
	async := row("region-b", "")
	async.SyncState = "async"
	for name, c := range map[string]struct {
		got, want string
	}{
		"by application name":                  {names(three, row("region-b", "")), "[region-b]"},
		"by address":                           {names(three, row("walreceiver", "10.0.0.13"), row("walreceiver", "10.9.9.9")), "[region-c]"},
		"by its IPv6 address":                  {names(local, row("walreceiver", "::1"), row("walreceiver", "127.0.0.1")), "[region-c]"},
		"the only one of a pair":               {names(two, row("walreceiver", "10.9.9.9")), "[region-b]"},
		"one address for two nodes":            {names(local, row("walreceiver", "127.0.0.1")), "[]"},
		"two rows with one name":               {names(three, row("region-b", ""), row("region-b", "")), "[]"},
		"two unknown rows in a pair":           {names(two, row("x", ""), row("y", "")), "[]"},
		"one unknown row among three":          {names(three, row("walreceiver", "")), "[]"},
		"a standby that catches up is no sync": {names(two, catching), "[]"},
		"an asynchronous one is no sync":       {names(two, async), "[]"},
		"nobody":                               {names(two), "[]"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", name, c.got, c.want)
		}
	}
}

// One of a quorum may lack what the others have confirmed: an archive, for instance, that receives write-ahead log under one of the names.
func TestOneOfAQuorumHasEveryCommitOnlyWhenTheQuorumIsAll(t *testing.T) {
	for value, c := range map[Opt[string]]struct {
		quorum int
		want   string
	}{
		Some("ANY 1 (region-b)"):          {1, "[region-b]"},
		Some(`any 1 ( "region-b" )`):      {1, "[region-b]"},
		Some("ANY 2 (region-b, archive)"): {2, "[region-b]"},
		Some("ANY 2(region-b,archive)"):   {1, "[region-b]"},
		Some("ANY 1 (region-b, archive)"): {2, "[]"},
		Some("ANY 1 (archive, region-b)"): {1, "[]"}, // the archive may have come and gone since
		Some(" ANY 1 (region-b) "):        {2, "[]"}, // two receive under the one name
		Some("ANY 2 (region-b, *)"):       {2, "[]"},
		Some("ANY 1 (*)"):                 {1, "[]"},
		Some("ANY x (region-b)"):          {1, "[]"},
		Some("ANY (region-b)"):            {1, "[]"},
		Some("ANY 2 3 (region-b)"):        {1, "[]"},
		Some("ANY 1 (region-b"):           {1, "[]"},
		Some("FIRST 1 (region-b)"):        {1, "[]"}, // not yet so when it was asked for its senders
		Some("region-b"):                  {1, "[]"},
		Some(""):                          {1, "[]"},
		{}:                                {1, "[]"},
	} {
		rec := NewRecord()
		rec.Epoch, rec.Phase, rec.Writer = 1, PhaseOpen, Writer{Node: "region-a", Address: "10.0.0.11:5432", SystemID: ourSystem, Timeline: 1}
		senders := []Sender{{ApplicationName: "region-b", State: receiverStreaming, SyncState: "quorum"}}
		for range c.quorum - 1 {
			senders = append(senders, Sender{ApplicationName: "archive", State: receiverStreaming, SyncState: "quorum"})
		}
		got := fmt.Sprint(New(testConfig("region-a", "region-b"), rec, Opt[LastKnown]{}).syncNodes(senders, value))
		if got != c.want {
			t.Errorf("%v with %d receiving: %s, want %s", value, c.quorum, got, c.want)
		}
	}
}

func TestTheRateOfAnEarlierRunServesUntilThisRunHasItsOwn(t *testing.T) {
	cfg := testConfig("region-a", "region-b")
	w := newWorld(cfg, NewRecord(), Opt[LastKnown]{})
	w.server("region-a").rate = 4 << 20
	w.run(10 * time.Second)
	w.restart(2 * time.Second)
	w.server("region-a").rate = 0
	w.run(2 * time.Second)
	if k, ok := w.e.Status().LastKnown.Get(); !ok || k.Rate.V < 4<<20-100 {
		t.Errorf("right after the restart the rate is %+v", k.Rate)
	}
	w.run(2 * time.Minute)
	if k, ok := w.e.Status().LastKnown.Get(); !ok || k.Rate != Some(uint64(0)) {
		t.Errorf("long after the restart the rate of an idle writer is %+v", k.Rate)
	}
}

func TestARestartBesideADeadWriterStillKnowsWhatItHadWritten(t *testing.T) {
	cfg := testConfig("region-a", "region-b")
	w := newWorld(cfg, NewRecord(), Opt[LastKnown]{})
	w.server("region-a").rate = 1 << 20
	w.run(5 * time.Second)
	serverCommand(t, w, []string{"region-a", "dies"})
	w.restart(3 * time.Second)
	w.server("region-b").noReceiver = true
	w.run(time.Second)
	d := w.e.Decide(Question{})
	if d.Lossless != LosslessBounded || !d.LossBytes.Known || d.LossBytes.V > 8<<20 {
		t.Errorf("after a short absence: %s %v", d.Lossless, d.LossBytes)
	}
	if slices.Contains(d.Blocking, "promotable") {
		t.Error("the dead writer's parameters were forgotten")
	}
	w.restart(time.Minute)
	w.run(time.Second)
	if d := w.e.Decide(Question{}); d.Lossless != LosslessUnknown || d.LossBytes.Known {
		t.Errorf("after a long absence: %s %v", d.Lossless, d.LossBytes)
	}
}
