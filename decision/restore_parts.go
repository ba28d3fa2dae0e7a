package decision

import "slices"

func (v view) snapshot() NodeSnapshot {
	return NodeSnapshot{
		Node: v.node, Seen: v.seen, Observation: v.obs, Class: uint8(v.class), Told: v.told,
		FailingSince: v.failingSince, StartingSince: v.startingSince, PrimarySince: v.primarySince, MuteSince: v.muteSince,
		ServerID: v.serverID, LastRole: v.lastRole, LastTimeline: v.lastTimeline, Upstream: v.upstream, Streamed: v.streamed,
		Written: v.written.snapshot(), Replayed: v.replayed.snapshot(), Settings: v.settings, Blind: v.blind, Quarantine: v.quarantine,
	}
}

func (n NodeSnapshot) view() view {
	return view{
		node: n.Node, seen: n.Seen, obs: n.Observation, class: class(n.Class), told: n.Told,
		failingSince: n.FailingSince, startingSince: n.StartingSince, primarySince: n.PrimarySince, muteSince: n.MuteSince,
		serverID: n.ServerID, lastRole: n.LastRole, lastTimeline: n.LastTimeline, upstream: n.Upstream, streamed: n.Streamed,
		written: n.Written.track(), replayed: n.Replayed.track(), settings: n.Settings, blind: n.Blind, quarantine: n.Quarantine,
	}
}

func (t track) snapshot() TrackSnapshot {
	return TrackSnapshot{At: slices.Clone(t.at[:t.n]), Pos: slices.Clone(t.pos[:t.n]), Last: t.last, Moved: t.moved, Newest: t.newest}
}

// whole says whether a track can have this form.
func (t TrackSnapshot) whole() bool {
	n := len(t.At)
	return n <= trackSize && len(t.Pos) == n && t.Last >= 0 && (t.Last < n || n == 0 && t.Last == 0)
}

func (t TrackSnapshot) track() track {
	out := track{n: len(t.At), last: t.Last, moved: t.Moved, newest: t.Newest}
	copy(out.at[:], t.At)
	copy(out.pos[:], t.Pos)
	return out
}

func (p pendingPersist) snapshot() PersistSnapshot {
	return PersistSnapshot{ID: p.id, Record: p.rec.clone(), Turns: p.turns, Stale: p.stale}
}

func (p PersistSnapshot) pending() pendingPersist {
	return pendingPersist{id: p.ID, rec: p.Record.clone(), turns: p.Turns, stale: p.Stale}
}

func (a approval) snapshot() ApprovalSnapshot {
	return ApprovalSnapshot{Target: a.target, Overrides: slices.Clone(a.overrides)}
}

func (a ApprovalSnapshot) approval() approval {
	return approval{target: a.Target, overrides: slices.Clone(a.Overrides)}
}

func (r errand) snapshot() ErrandSnapshot {
	return ErrandSnapshot{ID: r.id, Busy: r.busy, Sent: r.sent, Done: r.done, Err: r.err}
}

func (r ErrandSnapshot) errand() errand {
	return errand{id: r.ID, busy: r.Busy, sent: r.Sent, done: r.Done, err: r.Err}
}

func (c change) snapshot() ChangeSnapshot {
	return ChangeSnapshot{
		Kind: c.kind, Target: c.target, Automatic: c.automatic, Approval: both(c.approval, approval.snapshot), Began: c.began,
		Drain: c.drain.snapshot(), End: c.end, EndSeen: c.endSeen, Flushed: c.flushed, CutAt: c.cutAt, Fence: c.fence.snapshot(), FencedAt: c.fencedAt, Fenced: c.fenced, FenceSay: c.fenceSay,
		Received: c.received, Replayed: c.replayed, Still: c.still, Sampled: c.sampled,
		Promote: c.promote.snapshot(), Verify: c.verify.snapshot(), Requested: c.requested, Polled: c.polled,
		Contradiction: c.contradiction, Resolved: c.resolved, Steps: slices.Clone(c.steps),
	}
}

func (c ChangeSnapshot) change() change {
	return change{
		kind: c.Kind, target: c.Target, automatic: c.Automatic, approval: both(c.Approval, ApprovalSnapshot.approval), began: c.Began,
		drain: c.Drain.errand(), end: c.End, endSeen: c.EndSeen, flushed: c.Flushed, cutAt: c.CutAt, fence: c.Fence.errand(), fencedAt: c.FencedAt, fenced: c.Fenced, fenceSay: c.FenceSay,
		received: c.Received, replayed: c.Replayed, still: c.Still, sampled: c.Sampled,
		promote: c.Promote.errand(), verify: c.Verify.errand(), requested: c.Requested, polled: c.Polled,
		contradiction: c.Contradiction, resolved: c.Resolved, steps: slices.Clone(c.Steps),
	}
}
