package decision

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// burst is added to an age above 0: within milliseconds a writer can write faster than in any whole second.
const burst = 100 * time.Millisecond

// maxPositionAge is the age of the last known position above which no loss can be computed from it.
const maxPositionAge = 10 * time.Second

// loss is what a change of writer costs.
type loss struct {
	lossless Lossless
	bytes    Opt[uint64]
	// from and to bound the write-ahead log that may be lost; known when bytes is above 0.
	from, to Opt[LSN]
	relaxed  Opt[uint64]
	// age is that of the position that the figure rests on.
	age Opt[time.Duration]
	// why says, for an unknown, what is missing, and else what the figure rests on.
	why string
}

// remember keeps what the writer last said about itself, in memory and in the state directory. After the cut its own word replaces the
// estimate: nothing that it wrote from then on was acknowledged through pgtether.
func (e *Engine) remember(v *view) {
	if e.rec.Phase == PhaseNone || v.node.Name != e.rec.Writer.Node {
		return
	}
	pos, ok := v.obs.CurrentLSN.Get()
	if st := e.standing(e.rec.Writer, v); st != standProven || !ok {
		return
	}
	k := LastKnown{Epoch: e.rec.Epoch, Node: v.node.Name, LSN: pos, At: Some(v.obs.Began), Rate: e.writeRate(v), Settings: v.settings, Relaxed: e.plane.Relaxed}
	e.confirm(k)
	if senders, ok := v.obs.Senders.Get(); ok {
		k.Sync = Some(e.syncNodes(senders, v.settings.SynchronousStandbyNames))
	}
	e.lastKnown = Some(k)
	e.keep()
}

// keep has the last known position kept where a restart finds it.
func (e *Engine) keep() {
	r := Remember{Header: e.head("observed"), LastKnown: e.lastKnown.V.clone()}
	e.rememberID, e.keptAt = r.ID, e.now
	e.emit(r)
}

// writeRate is the writer's greatest rate of the last minute, or that of an earlier run while this run has none.
func (e *Engine) writeRate(v *view) Opt[uint64] {
	r := v.written.rate(e.now)
	if !r.Known || e.restored.Known && e.now.Sub(0) < trackSpan && e.restored.V > r.V {
		r = e.restored
	}
	return r
}

// syncNodes names the nodes whose standby every commit of the writer waits for. One of a quorum is that only when the quorum is all of them.
func (e *Engine) syncNodes(senders []Sender, names Opt[string]) []string {
	quorum := 0
	for _, s := range senders {
		if s.SyncState == "quorum" {
			quorum++
		}
	}
	all := names.Known && quorumIsAll(names.V, quorum)
	var nodes []string
	for i := range e.views {
		s := e.senderOf(senders, e.views[i].node)
		if s != nil && s.State == receiverStreaming && (s.SyncState == "sync" || s.SyncState == "quorum" && all) {
			nodes = append(nodes, e.views[i].node.Name)
		}
	}
	return nodes
}

// senderOf finds a node's row in pg_stat_replication: by its application_name, else by its address when only one row has it, else, in a
// pair, the only row there is. nil when it cannot be told.
func (e *Engine) senderOf(senders []Sender, n Node) *Sender {
	only := func(match func(Sender) bool) *Sender {
		i := slices.IndexFunc(senders, match)
		if i < 0 || slices.IndexFunc(senders[i+1:], match) >= 0 {
			return nil
		}
		return &senders[i]
	}
	if s := only(func(s Sender) bool { return s.ApplicationName == n.Name }); s != nil {
		return s
	}
	host := hostOf(n)
	if s := only(func(s Sender) bool { return s.ClientAddr != "" && s.ClientAddr == host }); s != nil && !e.sharedHost(n, host) {
		return s
	}
	if len(senders) == 1 && len(e.cfg.Nodes) == 2 && n.Name != e.rec.Writer.Node {
		return &senders[0]
	}
	return nil
}

// sharedHost says whether another node has the same host, so that an address does not tell them apart.
func (e *Engine) sharedHost(n Node, host string) bool {
	return slices.ContainsFunc(e.cfg.Nodes, func(o Node) bool {
		return o.Name != n.Name && hostOf(o) == host
	})
}

// hostOf is the host of a node's address.
func hostOf(n Node) string {
	host := n.Address
	if i := strings.LastIndex(host, ":"); i >= 0 {
		host = host[:i]
	}
	return strings.Trim(host, "[]")
}

// lossAt states what is lost if the candidate takes over with everything up to received. While the writer is open the question is what its
// death at this moment would cost.
func (e *Engine) lossAt(candidate string, received Opt[LSN]) loss {
	l := loss{lossless: LosslessUnknown}
	k, ok := e.lastKnown.Get()
	r, has := received.Get()
	l.relaxed = e.unconfirmed(received)
	switch {
	case !ok:
		l.why = "no position of the writer was ever seen in this epoch"
		return l
	case !has:
		l.why = "what the candidate has received is not known"
		return l
	case !k.At.Known:
		l.why = "how old the writer's last known position is cannot be said"
		return l
	}
	age := max(0, e.lastHeard().Sub(k.At.V))
	l.age = Some(age)
	bound := k.LSN
	switch {
	case age == 0:
	case age > maxPositionAge:
		l.why = "the writer's last known position is " + ageText(age) + " old, more than " + ageText(maxPositionAge)
		return l
	case !k.Rate.Known:
		l.why = "the writer's write rate is not known yet"
		return l
	default:
		bound += grownBy(k.Rate.V, age+burst)
	}
	bound = max(bound, e.latestEnd())
	covered, why := e.coveredBySync(candidate, k, r)
	if covered && l.relaxed == Some(uint64(0)) {
		l.lossless, l.bytes, l.why = LosslessProven, Some(uint64(0)), why
		return l
	}
	l.lossless, l.bytes = LosslessBounded, Some(uint64(max(bound, r)-r))
	if covered && l.relaxed.Known {
		l.lossless = LosslessRelaxed
		l.why = fmt.Sprintf("%d commits since the last confirmed position asked for less; ", l.relaxed.V)
	} else if !covered && why != "" {
		l.why = why + "; "
	}
	l.why += "last known position " + k.LSN.String() + ", " + ageText(age) + " old"
	if k.Rate.Known {
		l.why += ", at most " + sizeText(k.Rate.V) + "/s"
	}
	l.why += "; received " + r.String()
	if l.bytes.V > 0 {
		l.from, l.to = Some(r), Some(bound)
	}
	return l
}

// confirmation is a position of the writer with the relaxed commits that had been counted by then.
type confirmation struct {
	lsn     LSN
	relaxed uint64
	at      Instant
}

// writtenWithin is how long a commit that does not wait for the disk can be beyond the position that its server tells: three times
// wal_writer_delay, which is 200 ms unless somebody has changed it, and some more.
const writtenWithin = time.Second

// maxConfirmations is how many positions are kept; the standby is rarely that many probe rounds behind.
const maxConfirmations = 64

// confirm keeps the writer's position together with the count of relaxed commits.
func (e *Engine) confirm(k LastKnown) {
	n, ok := k.Relaxed.Get()
	if !ok || e.rec.Phase != PhaseOpen || e.opened != e.rec.Epoch {
		return
	}
	kept := e.confirmed
	if len(kept) >= maxConfirmations {
		kept = kept[1:]
	}
	e.confirmed = append(slices.Clone(kept), confirmation{k.LSN, n, e.now})
}

// unconfirmed counts the relaxed commits that may be missing on a node which has received so much. Without a position that it certainly has,
// commits of an earlier run may be missing too, and no number can be given.
func (e *Engine) unconfirmed(received Opt[LSN]) Opt[uint64] {
	total, ok := e.plane.Relaxed.Get()
	r, known := received.Get()
	if !ok || !known {
		return Opt[uint64]{}
	}
	for i := len(e.confirmed) - 1; i >= 0; i-- {
		if c := e.confirmed[i]; c.lsn <= r {
			return e.countedSince(c.at.Add(-writtenWithin), total)
		}
	}
	return Opt[uint64]{}
}

// countedSince is how many relaxed commits have been counted since then: those before are certainly within the position told later.
func (e *Engine) countedSince(then Instant, total uint64) Opt[uint64] {
	for i := len(e.confirmed) - 1; i >= 0; i-- {
		if c := e.confirmed[i]; c.at <= then && c.relaxed <= total {
			return Some(total - c.relaxed)
		}
	}
	if then < 0 {
		return Opt[uint64]{} // an earlier run's may be among them
	}
	return Some(total)
}

// grownBy is how far a position can have moved in d, rounded up: a bound must not be too small.
func grownBy(rate uint64, d time.Duration) LSN { return LSN(math.Ceil(float64(rate) * d.Seconds())) }

// lastHeard is when the writer can last have acknowledged anything through pgtether.
func (e *Engine) lastHeard() Instant {
	switch {
	case e.rec.Phase != PhaseOpen && e.cutDone >= e.rec.Epoch && e.silentFrom.Known:
		return e.silentFrom.V
	case e.rec.Phase == PhaseOpen && e.opened != e.rec.Epoch:
		return 0 // not opened in this run: whatever was acknowledged was acknowledged by an earlier one
	case e.state.open() || !e.plane.Heard.Known:
		return e.now
	}
	// Bytes that came after the data plane last looked are allowed for.
	return min(e.now, e.plane.Heard.V.Add(e.now.Sub(e.planeAt)))
}

// latestEnd is the greatest position of the writer that a standby heard of.
func (e *Engine) latestEnd() (end LSN) {
	for i := range e.views {
		r, ok := e.views[i].obs.Receiver.Get()
		if ok && r.LatestEnd.Known && r.Timeline == Some(e.rec.Writer.Timeline) && e.views[i].obs.SystemID == Some(e.rec.Writer.SystemID) {
			end = max(end, r.LatestEnd.V)
		}
	}
	return end
}

// coveredBySync says whether synchronous replication to the candidate proves that no acknowledged commit is missing there. Commits that
// asked for less than that must have been counted, else nothing is proven.
func (e *Engine) coveredBySync(candidate string, k LastKnown, received LSN) (bool, string) {
	if !k.Sync.Known || !slices.Contains(k.Sync.V, candidate) {
		return false, ""
	}
	switch level, _ := k.Settings.SynchronousCommit.Get(); level {
	case "on", "remote_write", "remote_apply":
	default:
		return false, ""
	}
	switch n, known := k.Settings.RelaxedRoles.Get(); {
	case !known:
		return false, "whether a role or database asks for less could not be read"
	case n > 0:
		return false, fmt.Sprintf("%d roles or databases ask for less by their own settings, and their commits cannot be counted", n)
	}
	// While the writer is open its commits wait for the candidate; that it has received the rest is for the moment of the change.
	if !e.state.open() && received < k.LSN {
		return false, ""
	}
	return true, candidate + " was the synchronous standby in the last observation, and every commit waited for it"
}
