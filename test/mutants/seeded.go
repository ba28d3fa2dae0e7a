package main

// mutant is a bug: in one file of the package, old is replaced by bad.
type mutant struct {
	name, file, old, bad string
}

// mutants are the bugs that the tests must catch: each breaks a promise of the engine, or a sentence of its documents.
func mutants() []mutant {
	return []mutant{
		{"too many connections counts as dead", "class.go", "return classBusy\n\tcase Silent, Refused:", "return classFailing\n\tcase Silent, Refused:"},
		{"starting up counts as dead", "class.go", "return classStarting\n", "return classFailing\n"},
		{"a late prober's silence counts", "class.go", "if !o.ProberStalled {", "if true {"},
		{"facts never grow stale", "engine.go", " && e.now.Sub(v.obs.Began) <= e.cfg.FreshFor()", ""},
		{"a stall is no reason to doubt", "absorb.go", "= at, at, gap\n", "= 0, at, 0\n"},
		{"what a backend sends is no sign of life", "absorb.go", "e.plane.Heard.V >= v.failingSince.V", "false"},
		{"what is unknown passes", "decide.go", "case c.Verdict != Pass && c.Verdict != NotNeeded:", "case c.Verdict == Fail:"},
		{"another standby that still receives is ignored", "criteria_death.go", "v != nil && v != q.candidate", "v != nil && false"},
		{"another system may be promoted", "criteria_standby.go", "case id != e.rec.Writer.SystemID:", "case id == \"\":"},
		{"no_split_brain can be overridden", "command.go", "[]string{\"no_split_brain\", ", "[]string{"},
		{"flapping blocks an operator", "criteria_permission.go", "case q.approval.Known || e.change.Known && !e.change.V.automatic:", "case false:"},
		{"a failed fence is good enough", "criteria_permission.go", "case under && !q.asked && c.fencedAt.Known:", "case false:"},
		{"the standby that has received least", "criteria.go", "return slices.MaxFunc(others", "return slices.MinFunc(others"},
		{"mode manual needs no approval", "criteria_permission.go", "c.Verdict, c.Explanation = Fail, \"mode is manual", "c.Verdict, c.Explanation = Pass, \"mode is manual"},
		{"the writer may be promoted beside itself elsewhere", "criteria_death.go", "case v.node.Address != e.rec.Writer.Address:", "case false:"},

		{"promotion without a cut", "change.go", "case e.cutDone < e.rec.Epoch:", "case false:"},
		{"the re-probe's answer is not waited for", "change.go", "return v != nil && c.cutAt.Known && v.seen && v.obs.Began > c.cutAt.V && e.class(v) != classUnknown", "return v != nil"},
		{"the criteria are not judged again", "change.go", "case len(failed) > 0:", "case false:"},
		{"a change waits for ever", "change.go", "late := c.settling(e.now) > settleWithin", "late := false"},
		{"the sample is from before the cut", "change.go", "!c.cutAt.Known || o.Began <= c.cutAt.V", "false"},
		{"the sample is from before the fence", "change.go", "c.sampled = c.fencedAt.Known && o.Began > c.fencedAt.V && ", "c.sampled = "},
		{"a fence that stops the writer undoes the switchover", "switchover.go", " || e.stopping() && (st == standFailing || st == standStarting)", ""},
		{"the standby must stream from a writer that the fence stops", "criteria_standby.go", "!q.asked && e.stopping():", "false:"},
		{"the sample need not stand still", "change.go", "o.Began.Sub(c.still) >= sampleStill", "true"},
		{"what is undone begins again at once", "change.go", "*since = Some(e.now)", "continue"},
		{"undone after the point of no return", "change.go", "e.judgePromotion()\n\t\treturn\n", "e.judgePromotion()\n"},
		{"mode observe does not undo", "change.go", "case e.cfg.Mode == ModeObserve:\n\t\treturn", "case false:\n\t\treturn"},
		{"a promotion by others does not undo", "change.go", "for _, i := range e.successors(e.rec.Writer) {\n\t\treturn", "for _, i := range []int(nil) {\n\t\treturn"},
		{"the last automatic failover is not kept", "change.go", "if c.automatic {\n\t\trec.LastAutomatic", "if false {\n\t\trec.LastAutomatic"},
		{"the last automatic failover is lost on a restart", "record.go", "r.LastAutomatic.V = r.LastAutomatic.V.Add(d)", "r.LastAutomatic = Opt[Instant]{}"},
		{"the target is another one after a restart", "change.go", "target: Node{p.Node, p.Address}, automatic: p.Automatic", "target: Node{p.Node, p.Address + \"0\"}, automatic: p.Automatic"},
		{"a pause is forgotten while a record is written", "absorb.go", "e.rec.Paused = paused //", "//"},
		{"an acknowledgement is forgotten while a record is written", "command.go", "p.rec.LastAutomatic, p.stale = Opt[Instant]{}, true", "p.stale = false"},
		{"an abort does not pause", "command.go", "e.rec.Paused, e.dirty = true, true\n\treturn \"the change is undone, and", "return \"the change is undone, and"},
		{"an abort beyond the point of no return", "command.go", "case e.rec.Phase == PhasePromoting || e.pending.Known && e.pending.V.rec.Phase == PhasePromoting:", "case false:"},

		{"promotion_requested twice", "promotion.go", "p.Noted = true\n", ""},
		{"promoted while the state cannot be written", "promotion.go", "c.promote.busy || e.diskErr != \"\"", "c.promote.busy"},
		{"promoted while another writer's record is written", "change.go", "case promoting && e.pending.Known && e.pending.V.turns:", "case false:"},
		{"opened without a write that commits", "change.go", "case promoting && c.verify.done:", "case promoting && (c.verify.done || e.identified(c, p) == \"\"):"},
		{"the fork is not looked at", "promotion.go", "case d == Pass && p.Replayed.Known && fork < p.Replayed.V:", "case false:"},
		{"a primary of the old timeline counts as promoted", "promotion.go", "case d == Pass && fork == 0:", "case false:"},
		{"a promotion never halts", "promotion.go", "case waited <= e.cfg.PromoteTimeout:", "case waited <= 1000*e.cfg.PromoteTimeout:"},
		{"a stall is the target's time", "absorb.go", "if e.step != Halted {", "if false {"},
		{"a target at another address is the target", "promotion.go", "case v == nil || v.node != c.target:\n\t\treturn fmt", "case v == nil:\n\t\treturn fmt"},
		{"the promised epoch is another node's", "change.go", "rec.Epoch++ //", "//"},
		{"resolve beside a second primary", "promotion.go", "if k != i && e.class(&e.views[k]) == classPrimary", "if false && e.class(&e.views[k]) == classPrimary"},
		{"resolve under another epoch", "command.go", "case c.Epoch != p.Epoch:", "case false:"},
		{"approval under another epoch", "command.go", "case c.Epoch != e.rec.Epoch:", "case false:"},
		{"the operator's word outlives what he saw", "promotion.go", "ok && e.notAlone(r) != \"\"", "ok && e.node(r.Name) < 0"},

		{"emptied names are not kept", "change.go", "rec.SyncNames = p.SyncNames", "rec.SyncNames = \"\""},
		{"names are put back on another node", "work.go", "rec.SyncNames = \"\" //", "//"},
		{"names are put back that name nobody", "syncnames.go", "if !namesStandby(names, row.ApplicationName) {", "if false {"},
		{"an answer for another writer's names", "absorb.go", "e.restore, e.syncSaid = errand{}, \"\"", "e.syncSaid = \"\""},
		{"relaxed commits are not counted", "loss.go", "if covered && l.relaxed == Some(uint64(0)) {", "if covered {"},
		{"the loss leaves out what was written since", "loss.go", "bound += grownBy(k.Rate.V, age)", "_ = grownBy(k.Rate.V, age)"},
		{"the loss is computed from any age", "loss.go", "case age > maxPositionAge:", "case age > 1000*maxPositionAge:"},
		{"a position that was not kept is never kept", "absorb.go", "if e.keepErr != \"\" && e.lastKnown.Known && e.now.Sub(e.keptAt) >= askAgain {", "if false {"},
		{"a timeline's number is enough", "sight.go", "d != Fail && v.node.Name == next.Node", "v.node.Name == next.Node"},
		{"a promotion by others that lacks commits is followed", "standing.go", "if !ok || fork < k.LSN {", "if !ok {"},
	}
}
