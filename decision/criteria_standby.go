package decision

import (
	"fmt"
	"time"
)

const (
	// replayWithin is how long the replay of a gap may take.
	replayWithin = 5 * time.Second
	// replayAtOnce is a gap that any server replays within a second, whatever its rate was so far.
	replayAtOnce = 1 << 20
)

func standbyHealthy(q *inquiry) Criterion {
	v, e := q.candidate, q.e
	if v == nil && e.rec.Phase == PhaseNone {
		return q.of(nil, Unknown, "%s", q.noCandidate)
	}
	if v == nil {
		return q.of(nil, Fail, "%s", q.noCandidate)
	}
	name := v.node.Name
	var c Criterion
	st := e.standing(e.rec.Writer, q.writer)
	r, known := v.obs.Receiver.Get()
	switch cl := e.class(v); {
	case cl == classUnknown:
		c = q.of(v, Unknown, "nothing fresh is known of %s", name)
	case v.quarantine != "":
		c = q.of(v, Fail, "%s is quarantined: %s", name, v.quarantine)
	case cl == classPrimary:
		c = q.of(v, Fail, "%s answers as primary, not as a standby", name)
	case cl != classStandby:
		c = q.of(v, Fail, "%s does not answer as a standby (%s)", name, detail(v.obs))
	case v.obs.Fresh.Evidence != Answers:
		c = q.of(v, Fail, "%s does not take new connections (%s)", name, detail(v.obs))
	case st != standProven && st != standServing:
		c = q.of(v, Pass, "%s answers and is in recovery", name)
	case !known:
		c = q.of(v, Unknown, "whether %s streams could not be read (is pg_monitor granted?)", name)
	case (!r.Running || r.Status != receiverStreaming) && !q.asked && e.stopping():
		c = q.of(v, Pass, "%s answers and is in recovery; it does not stream while hooks.fence stops the writer", name)
	case !r.Running || r.Status != receiverStreaming:
		c = q.of(v, Fail, "%s does not stream although the writer lives", name)
	default:
		c = q.of(v, Pass, "%s answers, is in recovery and streams", name)
	}
	c.Value = e.class(v).String()
	return c
}

func sameSystem(q *inquiry) Criterion {
	v, e := q.candidate, q.e
	if a, b := e.twoSystems(); a != nil {
		c := q.of(b, Fail, "%s and %s are not one cluster", a.node.Name, b.node.Name)
		c.Value, c.Threshold = b.obs.SystemID.V, a.obs.SystemID.V
		return c
	}
	if v == nil || e.class(v) == classUnknown || !v.obs.SystemID.Known {
		_, c := q.standby()
		if c.Explanation == "" {
			c = q.of(v, Unknown, "the system identifier of %s is not known", v.node.Name)
		}
		return c
	}
	c := q.of(v, Pass, "%s has the cluster's system identifier", v.node.Name)
	switch id := v.obs.SystemID.V; {
	case id != e.rec.Writer.SystemID:
		c = q.of(v, Fail, "%s is another database system than the writer", v.node.Name)
	case q.writer != nil && e.sameServer(e.node(v.node.Name), e.node(q.writer.node.Name)):
		c = q.of(v, Fail, "%s and %s are two addresses of one server", v.node.Name, q.writer.node.Name)
	}
	c.Value, c.Threshold = v.obs.SystemID.V, e.rec.Writer.SystemID
	return c
}

func timelineDescends(q *inquiry) Criterion {
	v, c := q.standby()
	if v == nil {
		return c
	}
	w := q.e.rec.Writer
	verdict, fork, why := descent(w, v.obs.Timeline, v.obs.History)
	if verdict == Pass && fork != 0 {
		verdict, why = Fail, why+": it follows another primary"
	}
	c = q.of(v, verdict, "%s: %s", v.node.Name, why)
	if v.obs.Timeline.Known {
		c.Value = fmt.Sprint(v.obs.Timeline.V)
	}
	c.Threshold = fmt.Sprint(w.Timeline)
	return c
}

func noSplitBrain(q *inquiry) Criterion {
	e := q.e
	var primaries []string
	var unsure *view
	for i := range e.views {
		v := &e.views[i]
		if p, ok := e.rec.Promotion.Get(); ok && v.node == (Node{p.Node, p.Address}) {
			continue // it is to become a primary
		}
		if e.duplicateOf(i) >= 0 || e.rec.Phase != PhaseNone && (v.node.Name == e.rec.Writer.Node || v.obs.SystemID.Known && v.obs.SystemID.V != e.rec.Writer.SystemID) {
			continue
		}
		switch cl := e.class(v); {
		case cl == classPrimary:
			primaries = append(primaries, v.node.Name)
		case !v.seen || v.quarantine != "" && !cl.tellsRole():
			unsure = v
		}
	}
	limit := 0
	if e.rec.Phase == PhaseNone {
		limit = 1
	}
	switch {
	case len(primaries) > limit && limit == 1:
		return Criterion{Verdict: Fail, Value: fmt.Sprint(len(primaries)), Threshold: "1", Node: primaries[1],
			Explanation: fmt.Sprintf("%s and %s both answer as primary", primaries[0], primaries[1])}
	case len(primaries) > limit:
		v := e.viewOf(primaries[0])
		c := q.of(v, Fail, "%s answers as primary beside the writer %s", primaries[0], e.rec.Writer.Node)
		if d, ok := e.divergence(v).Get(); ok {
			c.Explanation += fmt.Sprintf("; it has written %s since timeline %d was left", sizeText(d), v.obs.Timeline.V)
		}
		c.Value, c.Threshold = fmt.Sprint(len(primaries)), "0"
		return c
	case unsure != nil:
		return q.of(unsure, Unknown, "whether %s is a primary too is not known", unsure.node.Name)
	case e.rec.Phase == PhaseNone:
		return Criterion{Verdict: Pass, Value: fmt.Sprint(len(primaries)), Threshold: "1", Explanation: "at most one node answers as primary"}
	}
	return Criterion{Verdict: Pass, Value: "0", Threshold: "0", Explanation: "no node but the writer answers as primary"}
}

// awaitsWAL says whether the standby's startup process waits for more write-ahead log: then it has replayed every whole record that is there.
func awaitsWAL(o Observation) bool {
	return o.ReplayWaits == Some("RecoveryWalStream") || o.ReplayWaits == Some("RecoveryRetrieveRetryInterval")
}

func replayCaughtUp(q *inquiry) Criterion {
	v, c := q.standby()
	if v == nil {
		return c
	}
	received, ok1 := v.obs.ReceivedLSN.Get()
	replayed, ok2 := v.obs.ReplayedLSN.Get()
	if !ok1 || !ok2 {
		return q.of(v, Unknown, "what %s has received and replayed is not known", v.node.Name)
	}
	gap := uint64(max(received, replayed) - replayed)
	rate := v.replayed.rate(q.e.now)
	still := q.e.now.Sub(v.replayed.moved)
	switch {
	case gap == 0:
		c = q.of(v, Pass, "%s has replayed all it has received", v.node.Name)
	case awaitsWAL(v.obs):
		// A server that dies in the middle of sending leaves the beginning of a record behind, which no standby can ever replay.
		c = q.of(v, Pass, "%s has replayed every whole record that it has received; the last %s are the beginning of one", v.node.Name, sizeText(gap))
	case still > replayWithin:
		c = q.of(v, Fail, "%s has %s to replay and has replayed nothing for %s (a conflict with a query on it?)", v.node.Name, sizeText(gap), ageText(still))
	case gap <= replayAtOnce || rate.Known && float64(gap) <= float64(rate.V)*replayWithin.Seconds():
		c = q.of(v, Pass, "%s has %s to replay, which takes it seconds", v.node.Name, sizeText(gap))
	case !rate.Known:
		c = q.of(v, Unknown, "%s has %s to replay, and how fast it replays is not known yet", v.node.Name, sizeText(gap))
	default:
		c = q.of(v, Fail, "%s has %s to replay at %s/s at best", v.node.Name, sizeText(gap), sizeText(rate.V))
	}
	c.Value, c.Threshold = sizeText(gap), "replayed within "+replayWithin.String()
	return c
}

// lagWithinLimit compares positions of the same moment while the writer lives: its last position is brought forward to when the standby was
// asked. Once the writer is gone, or is taken to be, it is the loss that counts.
func lagWithinLimit(q *inquiry) Criterion {
	v, c := q.standby()
	if v == nil {
		return c
	}
	e := q.e
	received, ok := v.obs.ReceivedLSN.Get()
	k, seen := e.lastKnown.Get()
	limit := sizeText(e.cfg.MaxLagBytes)
	st := e.standing(e.rec.Writer, q.writer)
	living := (st == standProven || st == standServing) && q.event != EventPrimaryDead
	switch {
	case !ok:
		c = q.of(v, Unknown, "what %s has received is not known", v.node.Name)
	case !living && q.loss.lossless == LosslessUnknown:
		c = q.of(v, Unknown, "how much %s lacks cannot be said: %s", v.node.Name, q.loss.why)
	case !living:
		c = q.lag(v, q.loss.bytes.V, q.loss.why)
	case !seen || !k.At.Known:
		c = q.of(v, Unknown, "no position of the writer has been seen in this epoch")
	default:
		pos := k.LSN
		if later := v.obs.Began.Sub(k.At.V); later > 0 && k.Rate.Known {
			pos += grownBy(k.Rate.V, later)
		} else if later > e.cfg.FreshFor() {
			return q.of(v, Unknown, "the writer's position is %s older than the standby's", ageText(later))
		}
		c = q.lag(v, uint64(max(pos, received)-received), "writer at "+k.LSN.String()+", received "+received.String())
		c.Age = Some(max(0, e.now.Sub(min(k.At.V, v.obs.Began))))
	}
	c.Threshold = limit
	return c
}

// lag compares a number of bytes with the limit.
func (q *inquiry) lag(v *view, bytes uint64, why string) Criterion {
	limit := q.e.cfg.MaxLagBytes
	c := q.of(v, Pass, "%s lacks at most %s (%s)", v.node.Name, sizeText(bytes), why)
	if bytes > limit {
		c = q.of(v, Fail, "%s may lack %s, more than %s (%s)", v.node.Name, sizeText(bytes), sizeText(limit), why)
	}
	c.Value = sizeText(bytes)
	return c
}

func replayNotPaused(q *inquiry) Criterion {
	v, c := q.standby()
	if v == nil {
		return c
	}
	state, ok := v.obs.ReplayPaused.Get()
	switch {
	case !ok:
		return q.of(v, Unknown, "whether replay is paused on %s is not known", v.node.Name)
	case state == "not paused":
		c = q.of(v, Pass, "replay runs on %s", v.node.Name)
	default:
		c = q.of(v, Fail, "replay is paused on %s, by a person or by a parameter that is lower than the writer's", v.node.Name)
	}
	c.Value = state
	return c
}

func promotable(q *inquiry) Criterion {
	v, c := q.standby()
	if v == nil {
		return c
	}
	k, ok := q.e.lastKnown.Get()
	if !ok {
		return q.of(v, Unknown, "the writer's parameters were never read in this epoch")
	}
	s, w := v.obs.Settings, k.Settings
	unknown := ""
	for _, p := range []struct {
		name           string
		theirs, needed Opt[int]
	}{
		{"max_connections", s.MaxConnections, w.MaxConnections}, {"max_worker_processes", s.MaxWorkerProcesses, w.MaxWorkerProcesses},
		{"max_wal_senders", s.MaxWalSenders, w.MaxWalSenders}, {"max_prepared_transactions", s.MaxPreparedTransactions, w.MaxPreparedTransactions},
		{"max_locks_per_transaction", s.MaxLocksPerTransaction, w.MaxLocksPerTransaction},
	} {
		switch {
		case !p.theirs.Known || !p.needed.Known:
			unknown = p.name
		case p.theirs.V < p.needed.V:
			c = q.of(v, Fail, "%s is %d on %s and %d on the writer: %s would shut down when promoted", p.name, p.theirs.V, v.node.Name, p.needed.V, v.node.Name)
			c.Value, c.Threshold = fmt.Sprint(p.theirs.V), fmt.Sprint(p.needed.V)
			return c
		}
	}
	if on, ok := s.DefaultReadOnly.Get(); ok && on {
		c = q.of(v, Fail, "default_transaction_read_only is on at %s: it would refuse every write after a promotion", v.node.Name)
		c.Value, c.Threshold = "on", "off"
		return c
	}
	may, known := s.CanPromote.Get()
	delay, delayKnown := s.RecoveryMinApplyDelay.Get()
	switch {
	case known && !may:
		return q.of(v, Fail, "the probe's role may not execute pg_promote on %s (run configs/sql/probe-role.sql)", v.node.Name)
	case delayKnown && delay > 0:
		c = q.of(v, Fail, "recovery_min_apply_delay is %s on %s", delay, v.node.Name)
		c.Value, c.Threshold = delay.String(), "0s"
		return c
	case unknown != "":
		return q.of(v, Unknown, "%s is not known on both nodes", unknown)
	case !known || !delayKnown:
		return q.of(v, Unknown, "whether %s may be promoted, and without delay, could not be read", v.node.Name)
	}
	return q.of(v, Pass, "%s has the parameters to run as primary, and pg_promote may be executed", v.node.Name)
}

func targetCanCommit(q *inquiry) Criterion {
	v, c := q.standby()
	if v == nil {
		return c
	}
	names, ok := v.obs.Settings.SynchronousStandbyNames.Get()
	may, known := v.obs.Settings.CanSetSyncNames.Get()
	switch {
	case !ok:
		return q.of(v, Unknown, "synchronous_standby_names of %s could not be read", v.node.Name)
	case names == "":
		c = q.of(v, Pass, "commits on %s will wait for nobody", v.node.Name)
	case known && may:
		c = q.of(v, Pass, "synchronous_standby_names is set on %s; pgtether may empty it there after the promotion", v.node.Name)
	case !known:
		c = q.of(v, Unknown, "synchronous_standby_names is set on %s, and whether pgtether may empty it could not be read", v.node.Name)
	default:
		c = q.of(v, Fail, "synchronous_standby_names is set on %s: every commit would hang after a promotion", v.node.Name)
	}
	c.Value = names
	return c
}
