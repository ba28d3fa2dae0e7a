package decision

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// world is a small cluster of PostgreSQL servers with a shell around the engine, on simulated time. It knows nothing about how the engine
// decides; what it knows is how servers, probes, disks and data planes behave.
type world struct {
	cfg     Config
	e       *Engine
	now     Instant
	servers []*server
	pace    time.Duration

	disk      string // why writes fail; empty when they succeed
	cutErr    string
	drainErr  string
	unflushed bool        // the fence cannot flush what was committed
	left      uint64      // sessions in a transaction
	draining  Opt[uint64] // the Drain that waits for them
	heard     Opt[Instant]
	relaxed   Opt[uint64]
	noTick    bool
	sparing   bool           // Ticks come when the engine asks for them, and not at every step
	ticked    Instant        // when the last Tick was
	every     time.Duration  // how often they came then
	file      Record         // the state file
	kept      Opt[LastKnown] // the last known position beside it
	routed    string         // node to which logins go, empty while held
	openPath  map[uint64]string
	cutPaths  uint64

	// What the operator's hook and the standby do when they are asked; how long a promotion takes.
	hookErr, promoteErr, verifyErr, restoreErr string
	promoteDeaf                                bool          // pg_promote answers, and nothing happens
	promoteTakes                               time.Duration // until the standby is out of recovery
	promoted                                   map[string]Instant
	requested                                  map[uint64]int // promotion_requested by epoch
	promotes                                   []string       // nodes that were asked
	answers                                    []Answer
	commands                                   uint64
	promoteLost                                bool                      // pg_promote takes effect, and its answer is lost
	slow                                       map[string]bool           // outcomes of that kind are not reported until they are let go
	held                                       map[string][]func() Event // those that are kept back
	diskLost                                   bool                      // the record is written, and that is not reported
	log                                        func(string)
	verbose                                    bool
	failed                                     []string // broken promises
	notes                                      []Note
}

// server is one PostgreSQL server as it really is.
type server struct {
	node                                 Node
	role                                 Role
	sys, id                              string
	tl                                   uint32
	hist                                 []TimelineSwitch
	noHist                               bool
	lsn                                  LSN // written, or received
	gap                                  uint64
	rate                                 uint64 // bytes per second, of a primary
	upstream                             string // node that a standby receives from; empty for none
	lag                                  uint64 // what a standby lacks
	fresh                                Attempt
	persistent                           Attempt
	replication                          Attempt
	stalled                              bool
	paused                               string
	syncState                            string
	sync                                 string // synchronous_commit
	set                                  Settings
	blindFacts, noReceiver, blindMonitor bool
	startedAgo                           time.Duration
	next                                 Instant // next probe
	flying                               Opt[Observation]
	lands                                Instant
	receiverAge                          time.Duration
	receiverStatus                       string
	partitioned                          bool     // standby cannot reach its upstream
	unprobed                             bool     // its prober has died
	cascades                             bool     // it receives from another standby
	waits                                string   // what replay waits for
	rivals                               []string // other pgtether processes that watch it
	locked                               bool     // another one holds the lock
}

// rowsHit counts the rows of the table that were taken, by the place they lead to and their text.
var rowsHit = map[string]int{}

var good = Attempt{Evidence: Answers}

func newWorld(cfg Config, rec Record, last Opt[LastKnown]) *world {
	w := &world{cfg: cfg, file: rec, kept: last, openPath: map[uint64]string{}, log: func(string) {}, pace: cfg.ProbeInterval,
		promoted: map[string]Instant{}, requested: map[uint64]int{}, slow: map[string]bool{}, held: map[string][]func() Event{}}
	w.e = New(cfg, rec, last)
	for i, n := range cfg.Nodes {
		s := &server{node: n, role: RoleStandby, sys: "7000000000000000001", id: fmt.Sprintf("server-%s", n.Name), tl: 1, lsn: 0x3000000, paused: "not paused",
			fresh: good, persistent: good, replication: good, sync: "on", syncState: "async", startedAgo: time.Hour, upstream: cfg.Nodes[0].Name}
		s.set = Settings{MaxConnections: Some(100), MaxWorkerProcesses: Some(8), MaxWalSenders: Some(10), MaxPreparedTransactions: Some(0),
			MaxLocksPerTransaction: Some(64), SynchronousStandbyNames: Some(""), SynchronousCommit: Some("on"), WalReceiverTimeout: Some(5 * time.Second),
			RecoveryMinApplyDelay: Some(time.Duration(0)), RelaxedRoles: Some(0), CanPromote: Some(true), CanSetSyncNames: Some(true)}
		if i == 0 {
			s.role, s.upstream = RolePrimary, ""
		}
		s.receiverStatus = receiverStreaming
		w.servers = append(w.servers, s)
	}
	return w
}

func (w *world) server(name string) *server {
	for _, s := range w.servers {
		if s.node.Name == name {
			return s
		}
	}
	return nil
}

// down says whether nothing of the server answers anybody.
func (s *server) down() bool {
	for _, a := range []Attempt{s.fresh, s.persistent, s.replication} {
		if a.Evidence != Silent && a.Evidence != Refused {
			return false
		}
	}
	return true
}

// serving says whether the server does its work, whatever the prober sees of it.
func (s *server) serving() bool {
	return s.partitioned || !s.down() && s.fresh.SQLState != "57P03"
}

// flow moves write-ahead log for d.
func (w *world) flow(d time.Duration) {
	for name, at := range w.promoted {
		if s := w.server(name); w.now >= at && s.role == RoleStandby && !s.down() {
			w.promote(s)
			delete(w.promoted, name)
		}
	}
	for _, s := range w.servers {
		if s.role == RolePrimary && s.serving() {
			s.lsn += LSN(float64(s.rate) * d.Seconds())
		}
		s.startedAgo += d
	}
	for _, s := range w.servers {
		if s.role != RoleStandby || !s.serving() {
			continue
		}
		if u := w.upstreamOf(s); u != nil {
			s.receiverAge = 0
			if got := u.lsn - LSN(min(s.lag, uint64(u.lsn))); got > s.lsn {
				s.lsn = got
			}
		} else {
			s.receiverAge += d
		}
	}
}

// upstreamOf is the primary that a standby receives from now.
func (w *world) upstreamOf(s *server) *server {
	u := w.server(s.upstream)
	if u == nil || s.noReceiver || u.role != RolePrimary && !s.cascades || u.sys != s.sys || u.tl != s.tl || !u.serving() {
		return nil
	}
	return u
}

// probe is what a round of the prober finds.
func (w *world) probe(s *server) Observation {
	o := Observation{Node: s.node.Name, Began: w.now, Fresh: s.fresh, Persistent: s.persistent, Replication: s.replication, ProberStalled: s.stalled}
	if o.Evidence() != Answers {
		return o
	}
	o.SystemID, o.Timeline = Some(s.sys), Some(s.tl)
	if !s.noHist {
		o.History = Some(slices.Clone(s.hist))
	}
	if s.fresh.Evidence != Answers && s.persistent.Evidence != Answers || s.blindFacts {
		return o
	}
	o.Role, o.ServerID, o.VersionNum, o.StartedAgo = s.role, Some(s.id), Some(150012), Some(s.startedAgo)
	o.Settings, o.Rivals, o.AdvisoryLock = s.set, Some(s.rivals), Some(!s.locked)
	if s.role == RolePrimary {
		o.CurrentLSN, o.FlushLSN = Some(s.lsn), Some(s.lsn)
		var rows []Sender
		for _, b := range w.servers {
			if b.role == RoleStandby && w.upstreamOf(b) == s {
				rows = append(rows, Sender{ApplicationName: b.node.Name, State: receiverStreaming, SyncState: b.syncState})
			}
		}
		if !s.blindMonitor {
			o.Senders = Some(rows)
		}
		return o
	}
	o.ReceivedLSN, o.ReplayedLSN, o.ReplayPaused = Some(s.lsn), Some(s.lsn-LSN(s.gap)), Some(s.paused)
	if s.waits != "" {
		o.ReplayWaits = Some(s.waits)
	}
	if s.blindMonitor {
		return o
	}
	r := Receiver{}
	up := w.upstreamOf(s)
	limit := s.set.WalReceiverTimeout.V
	if up != nil || !s.noReceiver && s.upstream != "" && w.server(s.upstream) != nil && w.server(s.upstream).fresh.Evidence == Silent && s.receiverAge < limit {
		r = Receiver{Running: true, Status: s.receiverStatus, MessageAge: Some(s.receiverAge), Timeline: Some(s.tl)}
		if up != nil {
			r.LatestEnd, r.SenderHost, r.SenderPort = Some(up.lsn), hostOf(up.node), 5432
		}
	}
	o.Receiver = Some(r)
	return o
}

// step hands one event in and does what the engine asks for.
func (w *world) step(ev Event) {
	queue := []Event{ev}
	for n := 0; len(queue) > 0; n++ {
		if n > 1000 {
			panic("engine and shell answer each other without end")
		}
		ev, queue = queue[0], queue[1:]
		for _, a := range stepEngine(w.e, ev) {
			queue = append(queue, w.perform(a)...)
		}
	}
}

// perform does one action and returns the events that it leads to.
func (w *world) perform(a Action) (next []Event) {
	done := func(kind string, outcome func() Outcome) {
		id := a.Head().ID
		if w.slow[kind] {
			w.held[kind] = append(w.held[kind], func() Event { return Completed{At: w.now, ActionID: id, Outcome: outcome()} })
			return
		}
		next = append(next, Completed{At: w.now, ActionID: id, Outcome: outcome()})
	}
	quiet := false
	switch a := a.(type) {
	case Persist:
		if w.diskLost {
			w.file = a.Record
		}
		done("disk", func() Outcome {
			if w.disk == "" {
				w.file = a.Record
			}
			return Outcome{Err: w.disk}
		})
	case Remember:
		quiet = true
		if w.disk == "" {
			w.kept = Some(a.LastKnown)
		}
		next = append(next, Completed{At: w.now, ActionID: a.ID, Outcome: Outcome{Err: w.disk}})
	case Hold:
		w.routed = ""
	case Open:
		w.checkOpen(a)
		w.routed = a.Node
		w.openPath[a.Epoch] = a.Node + "@" + a.Address
	case Drain:
		if _, open := w.openPath[a.Epoch]; !open || a.Epoch <= w.cutPaths {
			w.failed = append(w.failed, fmt.Sprintf("drain of %d, which is not open", a.Epoch))
		}
		if w.left > 0 && w.drainErr == "" {
			w.draining = Some(a.ID)
			break
		}
		done("drain", func() Outcome { return Outcome{Err: w.drainErr} })
	case Undrain:
		if a.Epoch <= w.cutPaths {
			w.failed = append(w.failed, fmt.Sprintf("sessions of %d are to go on after its cut", a.Epoch))
		}
		w.draining = Opt[uint64]{}
	case Cut:
		w.draining = Opt[uint64]{}
		done("cut", func() Outcome { return w.cutThrough(a.Epoch) })
	case Pace:
		quiet = true
		w.pace = a.Interval
		for _, s := range w.servers {
			s.next = min(s.next, w.now.Add(w.pace))
		}
	case ProbeNow:
		quiet = true
		if s := w.server(a.Node); s != nil && !s.flying.Known {
			s.next = w.now
			next = append(next, w.launch(s)...)
		}
	case Fence:
		done("hook", func() Outcome { return w.fences(a) })
	case Promote:
		o := w.askPromotion(a)
		done("promotion", func() Outcome { return o })
	case Verify:
		done("verify", func() Outcome { return Outcome{Err: w.verifies(a)} })
	case Unfence:
		done("unfence", func() Outcome {
			w.server(a.Node).set.DefaultReadOnly = Some(false)
			return Outcome{}
		})
	case EndConflicts:
		w.server(a.Node).gap, w.server(a.Node).waits = 0, "RecoveryWalStream"
	case RestoreSync:
		done("restore", func() Outcome {
			if w.restoreErr == "" {
				w.server(a.Node).set.SynchronousStandbyNames = Some(a.Names)
			}
			return Outcome{Err: w.restoreErr}
		})
	case Checkpoint:
		quiet = true
	case Answer:
		w.answers = append(w.answers, a)
	case Note:
		if a.Kind == NotePromotionRequested {
			w.requested[a.Epoch.V]++
			if w.requested[a.Epoch.V] > 1 {
				w.failed = append(w.failed, fmt.Sprintf("promotion_requested twice for epoch %d", a.Epoch.V))
			}
		}
		w.notes = append(w.notes, a)
		rowsHit[Place{a.To, a.Step}.String()+" "+a.Message]++
	}
	if !quiet || w.verbose {
		w.log(describe(a))
	}
	return next
}

// letGo reports the outcomes that were kept back.
func (w *world) letGo(kind string) {
	w.slow[kind] = false
	held := w.held[kind]
	w.held[kind] = nil
	for _, h := range held {
		w.step(h())
	}
}

// plane is what the data plane knows.
func (w *world) plane() DataPlane {
	p := DataPlane{Heard: w.heard, Relaxed: w.relaxed}
	if w.draining.Known {
		p.Left = Some(SessionsLeft{Waiting: 5, InTransaction: w.left})
	}
	return p
}

// transacting sets how many sessions are in a transaction; a drain ends with the last of them.
func (w *world) transacting(n uint64) {
	w.left = n
	if id := w.draining; n == 0 && id.Known {
		w.draining = Opt[uint64]{}
		w.step(Completed{At: w.now, ActionID: id.V})
	}
}

// cutThrough closes the paths of every epoch up to the given one.
func (w *world) cutThrough(epoch uint64) Outcome {
	if w.cutErr == "" {
		for e := range w.openPath {
			if e <= epoch {
				delete(w.openPath, e)
			}
		}
		w.cutPaths = max(w.cutPaths, epoch)
	}
	return Outcome{Err: w.cutErr, LastByte: w.heard, Sessions: SessionCounts{Ended: 3}}
}

// fences is what the operator's program, and the old writer itself, say.
func (w *world) fences(a Fence) Outcome {
	switch {
	case w.hookErr != "":
		return Outcome{Err: w.hookErr}
	case a.Hook:
		o := Outcome{Detail: "hooks.fence exit 0"}
		if a.SQL && !w.unflushed {
			o.End = Some(w.server(a.Node).lsn)
		}
		return o
	case w.server(a.Node).down():
		return Outcome{Err: "connect: connection refused"}
	}
	return Outcome{Detail: "its sessions are ended and it is read only", End: Some(w.server(a.Node).lsn)}
}

// askPromotion is pg_promote(false) on a node, held against what must never be asked.
func (w *world) askPromotion(a Promote) Outcome {
	p := w.file.Promotion
	switch {
	case w.file.Phase != PhasePromoting || p.V.Node != a.Node || p.V.Epoch != a.Epoch:
		w.failed = append(w.failed, fmt.Sprintf("promotion of %s for %d, the state file says %s of %s", a.Node, a.Epoch, w.file.Phase, p.V.Node))
	case len(w.openPath) > 0:
		w.failed = append(w.failed, fmt.Sprintf("promotion of %s while %v is not cut", a.Node, w.openPath))
	case w.requested[a.Epoch] == 0:
		w.failed = append(w.failed, fmt.Sprintf("promotion of %s without an event before it", a.Node))
	}
	w.promotes = append(w.promotes, a.Node)
	s := w.server(a.Node)
	switch {
	case w.promoteErr != "":
		return Outcome{Err: w.promoteErr}
	case s == nil || s.node.Address != a.Address || s.down():
		return Outcome{Err: "connect: connection refused"}
	case s.role == RolePrimary:
		return Outcome{Err: "recovery is not in progress (SQLSTATE 55000)"}
	}
	if _, under := w.promoted[a.Node]; !under && !w.promoteDeaf {
		w.promoted[a.Node] = w.now.Add(w.promoteTakes)
	}
	if w.promoteLost {
		return Outcome{Err: "read: connection reset by peer"}
	}
	return Outcome{}
}

// verifies says why the promoted node does not commit; empty when it does.
func (w *world) verifies(a Verify) string {
	s := w.server(a.Node)
	switch {
	case w.verifyErr != "":
		return w.verifyErr
	case s == nil || s.down():
		return "connect: connection refused"
	case s.role != RolePrimary || s.tl <= a.Above || s.sys != a.SystemID:
		return "not the primary that was asked for"
	}
	if a.EmptySyncNames {
		s.set.SynchronousStandbyNames = Some("")
	}
	return ""
}

// checkOpen holds the engine's Open against what a data plane must never see.
func (w *world) checkOpen(a Open) {
	fail := func(format string, args ...any) { w.failed = append(w.failed, fmt.Sprintf(format, args...)) }
	if a.Epoch <= w.cutPaths {
		fail("epoch %d opened after cut of %d", a.Epoch, w.cutPaths)
	}
	if w.file.Epoch != a.Epoch || w.file.Phase != PhaseOpen || w.file.Writer.Node != a.Node {
		fail("epoch %d opened on %s, the state file says %d %s %s", a.Epoch, a.Node, w.file.Epoch, w.file.Phase, w.file.Writer.Node)
	}
	for e, path := range w.openPath {
		if path != a.Node+"@"+a.Address {
			fail("epoch %d opened on %s while %s of epoch %d is not cut", a.Epoch, a.Node, path, e)
		}
	}
}

// launch begins a probe round; a round that is not silent lands at once.
func (w *world) launch(s *server) []Event {
	if s.unprobed {
		return nil
	}
	o := w.probe(s)
	s.next = w.now.Add(w.pace)
	if o.Fresh.Evidence == Silent || o.Persistent.Evidence == Silent {
		o.Took = w.cfg.ProbeTimeout
		s.flying, s.lands = Some(o), w.now.Add(w.cfg.ProbeTimeout)
		return nil
	}
	return []Event{Observed{At: w.now, Observation: o}}
}

// run lets time pass, with probes and ticks as a shell makes them.
func (w *world) run(d time.Duration) {
	end := w.now.Add(d)
	for {
		for _, s := range w.servers {
			if s.flying.Known && s.lands <= w.now {
				o := s.flying.V
				s.flying = Opt[Observation]{}
				w.step(Observed{At: w.now, Observation: o})
			}
			if !s.flying.Known && s.next <= w.now {
				for _, ev := range w.launch(s) {
					w.step(ev)
				}
			}
		}
		w.tick()
		if w.now >= end {
			return
		}
		step := min(w.cfg.TickInterval, end.Sub(w.now))
		w.now = w.now.Add(step)
		w.flow(step)
	}
}

// tick gives the engine a Tick, if one is due.
func (w *world) tick() {
	every := w.e.TickEvery()
	if !w.noTick && (!w.sparing || every < w.every || w.now.Sub(w.ticked) >= every) {
		w.step(Tick{At: w.now, DataPlane: w.plane()})
		w.ticked = w.now
	}
	w.every = w.e.TickEvery()
}

// jump lets time pass without an event: the process stood still.
func (w *world) jump(d time.Duration) {
	w.now = w.now.Add(d)
	w.flow(d)
}

// restart ends the process and starts another one after d, on a clock of its own.
func (w *world) restart(d time.Duration) {
	w.flow(d)
	shift := -time.Duration(w.now) - d
	rec, last := w.file.Shift(shift), w.kept
	if last.Known {
		last.V = last.V.Shift(shift)
	}
	w.now, w.routed, w.openPath, w.cutPaths, w.pace = 0, "", map[uint64]string{}, 0, w.cfg.ProbeInterval
	w.notes = nil // their instants are on the clock that ended
	w.draining = Opt[uint64]{}
	w.heard, w.held, w.slow, w.diskLost = Opt[Instant]{}, map[string][]func() Event{}, map[string]bool{}, false
	if rec.Promotion.Known {
		rec.Promotion.V.Noted = w.requested[rec.Promotion.V.Epoch] > 0
	}
	for name := range w.promoted {
		w.promoted[name] = 0
	}
	for _, s := range w.servers {
		s.next, s.flying = 0, Opt[Observation]{}
	}
	w.e = New(w.cfg, rec, last)
}

// promote makes a standby a primary of a new timeline.
func (w *world) promote(s *server) {
	s.role, s.upstream = RolePrimary, ""
	s.hist = append(slices.Clone(s.hist), TimelineSwitch{s.tl, s.lsn})
	s.tl++
}

// follow makes a server a standby of another one.
func (w *world) follow(s *server, up string) {
	s.role, s.upstream, s.receiverAge, s.cascades = RoleStandby, up, 0, false
	if u := w.server(up); u != nil {
		s.tl, s.hist, s.sys, s.lsn = u.tl, slices.Clone(u.hist), u.sys, u.lsn-LSN(min(s.lag, uint64(u.lsn)))
	}
}

// describe prints an action in one line.
func describe(a Action) string {
	switch a := a.(type) {
	case Note:
		from, to := a.From.String(), Place{a.To, a.Step}.String()
		where := to
		if a.From != a.To {
			where = from + " -> " + to
		}
		var ops []string
		for _, o := range a.Operands {
			ops = append(ops, fmt.Sprintf("%s=%v", o.Key, o.Value))
		}
		text := fmt.Sprintf("note %s %s: %s", a.Kind, where, a.Message)
		if len(ops) > 0 {
			text += "\n       " + strings.Join(ops, " ")
		}
		return text
	case Persist:
		r := a.Record
		text := fmt.Sprintf("persist epoch=%d %s writer=%s timeline=%d", r.Epoch, r.Phase, r.Writer.Node, r.Writer.Timeline)
		if r.Next.Known {
			text += fmt.Sprintf(" next=%s/%d", r.Next.V.Node, r.Next.V.Timeline)
		}
		if r.Previous != "" {
			text += " previous=" + r.Previous
		}
		if p := r.Promotion; p.Known {
			text += fmt.Sprintf(" promotion=%d of %s received=%s", p.V.Epoch, p.V.Node, p.V.Received.V)
		}
		if p := r.Planned; p.Known {
			text += fmt.Sprintf(" planned=%s drain=%s", p.V.Node, p.V.Drain)
		}
		if r.Paused {
			text += " paused"
		}
		if r.SyncNames != "" {
			text += fmt.Sprintf(" sync_names=%q", r.SyncNames)
		}
		if r.Fenced != "" {
			text += " fenced=" + r.Fenced
		}
		return text
	case Fence:
		return fmt.Sprintf("fence %s hook=%v sql=%v target=%s", a.Node, a.Hook, a.SQL, a.Target)
	case Promote:
		return fmt.Sprintf("promote %s for epoch %d", a.Node, a.Epoch)
	case Verify:
		text := fmt.Sprintf("verify %s above timeline %d", a.Node, a.Above)
		if a.EmptySyncNames {
			text += ", synchronous_standby_names emptied"
		}
		return text
	case Unfence:
		return "unfence " + a.Node
	case EndConflicts:
		return "end conflicts on " + a.Node
	case RestoreSync:
		return fmt.Sprintf("restore synchronous_standby_names=%q on %s", a.Names, a.Node)
	case Answer:
		if a.Refusal.Known {
			text := fmt.Sprintf("answer: refused (%s): %s", a.Refusal.V.Code, a.Refusal.V.Message)
			if a.Refusal.V.Hint != "" {
				text += " | hint: " + a.Refusal.V.Hint
			}
			return text
		}
		return "answer: " + a.Message
	case Remember:
		return fmt.Sprintf("remember %s %s", a.LastKnown.Node, a.LastKnown.LSN)
	case Hold:
		if a.Refuse {
			return "refuse " + string(a.Why)
		}
		return "hold " + string(a.Why)
	case Open:
		return fmt.Sprintf("open epoch=%d on %s (%s)", a.Epoch, a.Node, a.Address)
	case Drain:
		return fmt.Sprintf("drain epoch=%d", a.Epoch)
	case Undrain:
		return fmt.Sprintf("undrain epoch=%d", a.Epoch)
	case Cut:
		return fmt.Sprintf("cut epoch=%d %s", a.Epoch, a.Reason)
	case Pace:
		return fmt.Sprintf("pace %s", a.Interval)
	case ProbeNow:
		return "probe " + a.Node
	}
	return fmt.Sprintf("unknown action %T", a)
}
