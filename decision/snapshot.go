package decision

import "fmt"

// Status returns a snapshot that shares no memory with the engine.
func (e *Engine) Status() Status {
	s := Status{At: e.now, Mode: e.cfg.Mode, State: e.state, Step: e.step, Since: e.since, Epoch: e.epoch(), Message: e.look().message}
	if why := e.automationReason(); why != "" {
		s.Automation, s.AutomationReason = AutomationOff, why
	}
	if e.rec.Paused {
		s.Automation = AutomationPaused
	}
	if e.step == Halted {
		s.Writes = WritesRefused
	}
	if e.rec.Phase != PhaseNone {
		s.SystemID, s.Timeline = Some(e.rec.Writer.SystemID), Some(e.rec.Writer.Timeline)
	}
	if e.state.open() {
		s.Writer, s.Writes = Some(e.rec.Writer.Node), WritesOpen
	}
	rec := e.rec.clone()
	s.LastChange = rec.LastChange
	s.Planned = e.plannedStatus()
	if k, ok := e.lastKnown.Get(); ok {
		s.LastKnown = Some(k.clone())
	}
	s.CrashLossBytes = e.ask(EventPrimaryDead, true, "").loss.bytes
	s.Degraded = e.degraded()
	for i := range e.views {
		s.Nodes = append(s.Nodes, e.nodeStatus(&e.views[i]))
	}
	return s
}

// nodeStatus renders one node. Facts that are no longer fresh are unknown; how old they are is still said.
func (e *Engine) nodeStatus(v *view) NodeStatus {
	n := NodeStatus{Name: v.node.Name, Address: v.node.Address, Quarantine: v.quarantine, ObservedAge: e.age(v), DivergenceBytes: e.divergence(v)}
	if !e.fresh(v) {
		if v.seen {
			n.EvidenceDetail = "the last probe is " + ageText(n.ObservedAge.V) + " old"
		} else {
			n.EvidenceDetail = "not probed yet"
		}
		return n
	}
	o := &v.obs
	n.Role, n.Evidence, n.EvidenceDetail = o.Role, o.Evidence(), detail(*o)
	n.SystemID, n.Timeline = o.SystemID, o.Timeline
	n.CurrentLSN, n.ReceivedLSN, n.ReplayedLSN, n.ReplayLag = o.CurrentLSN, o.ReceivedLSN, o.ReplayedLSN, o.ReplayLag
	if v.class != classStandby {
		return n
	}
	if r, ok := o.Receiver.Get(); ok {
		n.Streaming = Some(r.Running && r.Status == receiverStreaming)
	}
	if k, ok := e.lastKnown.Get(); ok && o.ReceivedLSN.Known {
		n.LagBytes = Some(uint64(max(k.LSN, o.ReceivedLSN.V) - o.ReceivedLSN.V))
	}
	if w := e.writerView(); w != nil && e.fresh(w) && w.obs.Senders.Known {
		if s := e.senderOf(w.obs.Senders.V, v.node); s != nil {
			n.SyncState = Some(s.SyncState)
		}
	}
	return n
}

// degraded lists what is wrong with a writer that is served all the same.
func (e *Engine) degraded() (out []string) {
	v := e.writerView()
	if v == nil || !e.state.open() {
		return nil
	}
	switch c := e.class(v); {
	case c == classUnknown && e.fresh(v):
		out = append(out, fmt.Sprintf("the last probe of %s proved nothing (%s)", v.node.Name, detail(v.obs)))
	case c == classUnknown:
		out = append(out, fmt.Sprintf("the last probe of %s is %s old", v.node.Name, ageText(e.age(v).V)))
	case c == classPrimary && v.obs.Fresh.Evidence != Answers:
		out = append(out, fmt.Sprintf("%s answers on open connections and does not take new ones (%s)", v.node.Name, detail(v.obs)))
	case c != classPrimary:
		out = append(out, fmt.Sprintf("%s lives and does not say what it is (%s)", v.node.Name, detail(v.obs)))
	}
	if why := e.durableReason(); why != "" {
		out = append(out, "the state cannot be written: "+why)
	}
	return out
}
