package decision

func proberTrustworthy(q *inquiry) Criterion {
	e := q.e
	if e.stalledFor > 0 {
		return Criterion{Verdict: Fail, Value: ageText(e.stalledFor), Threshold: e.cfg.StallAfter().String(),
			Explanation: "pgtether was stalled, and not every node has been probed since"}
	}
	for i := range e.views {
		v := &e.views[i]
		switch {
		case !v.seen:
			return q.of(v, Unknown, "%s has not been probed yet", v.node.Name)
		case !e.fresh(v):
			return q.of(v, Unknown, "the last probe of %s is %s old", v.node.Name, ageText(e.age(v).V))
		case v.obs.ProberStalled:
			return q.of(v, Fail, "the latest probe of %s was late by pgtether's own fault", v.node.Name)
		}
	}
	return Criterion{Verdict: Pass, Explanation: "no probe was late by pgtether's own fault"}
}

func stateDurable(q *inquiry) Criterion {
	if why := q.e.durableReason(); why != "" {
		return Criterion{Verdict: Fail, Explanation: "the state cannot be written: " + why}
	}
	return Criterion{Verdict: Pass, Explanation: "the state can be written"}
}

func automationOn(q *inquiry) Criterion {
	why := q.e.automationReason()
	if q.event == EventSwitchover {
		why = q.e.hindrance() // a pause is about what pgtether does on its own
	}
	if why != "" {
		return Criterion{Verdict: Fail, Value: AutomationOff.String(), Explanation: why}
	}
	return Criterion{Verdict: Pass, Value: AutomationOn.String(), Explanation: "nothing keeps pgtether from acting on its own"}
}

func approved(q *inquiry) Criterion {
	c := Criterion{Value: q.e.cfg.Mode.String(), Threshold: ModeAuto.String()}
	switch mode := q.e.cfg.Mode; {
	case q.approval.Known:
		c.Verdict, c.Explanation = Pass, "an operator has approved the promotion of "+q.approval.V.target
	case mode == ModeAuto:
		c.Verdict, c.Explanation = Pass, "mode is auto: no approval is needed"
	case mode == ModeManual && q.event == EventSwitchover:
		c.Verdict, c.Explanation = Pass, "a switchover is an operator's own word"
	case mode == ModeManual:
		c.Verdict, c.Explanation = Fail, "mode is manual: an operator has not approved"
	default:
		c.Verdict, c.Explanation = Fail, "mode is observe: pgtether follows, it does not promote"
	}
	return c
}

func lossAllowed(q *inquiry) Criterion {
	c := Criterion{Verdict: Pass, Value: string(q.loss.lossless)}
	switch {
	case !q.e.cfg.RequireLossless:
		c.Explanation = "require_lossless is off"
	case q.loss.lossless == LosslessProven:
		c.Threshold, c.Explanation = string(LosslessProven), "the change is proven lossless: "+q.loss.why
	case q.event == EventSwitchover && !q.asked && q.e.change.Known && q.loss.lossless == LosslessUnknown:
		c.Verdict, c.Threshold, c.Explanation = Unknown, string(LosslessProven), "require_lossless is on, and it is not proven yet: "+q.loss.why
	default:
		c.Verdict, c.Threshold, c.Explanation = Fail, string(LosslessProven), "require_lossless is on, and the change is not proven lossless: "+q.loss.why
	}
	return c
}

func notFlapping(q *inquiry) Criterion {
	e := q.e
	last, ok := e.rec.LastAutomatic.Get()
	switch {
	case q.event == EventSwitchover || q.approval.Known || e.change.Known && !e.change.V.automatic:
		return Criterion{Verdict: Pass, Threshold: e.cfg.AntiFlap.String(), Explanation: "an operator decided: only automatic failovers are kept apart"}
	case e.rec.Promotion.Known && !q.asked:
		return Criterion{Verdict: Pass, Threshold: e.cfg.AntiFlap.String(), Explanation: "this failover has begun already; the next one is kept apart from it"}
	case e.cfg.AntiFlap == 0:
		return Criterion{Verdict: Pass, Threshold: "0s", Explanation: "anti_flap is off"}
	case !ok:
		return Criterion{Verdict: Pass, Threshold: e.cfg.AntiFlap.String(), Explanation: "there has been no automatic failover"}
	}
	since := max(0, e.now.Sub(last))
	c := Criterion{Verdict: Pass, Value: ageText(since), Threshold: e.cfg.AntiFlap.String(), Explanation: "the last automatic failover is long enough ago"}
	if since < e.cfg.AntiFlap {
		c.Verdict, c.Explanation = Fail, "the last automatic failover was "+ageText(since)+" ago"
	}
	return c
}

func quorum(*inquiry) Criterion {
	return Criterion{Verdict: NotNeeded, Explanation: "there is one proxy"}
}

func oldWriterFenced(q *inquiry) Criterion {
	c, under := q.e.change.Get()
	fenced, tried := c.fenced.Get()
	switch {
	case !q.e.cfg.RequireFence:
		return Criterion{Verdict: NotNeeded, Explanation: "require_fence is off"}
	case under && !q.asked && tried && fenced:
		return Criterion{Verdict: Pass, Value: c.fenceSay, Explanation: "the old writer is fenced"}
	case under && !q.asked && c.fencedAt.Known:
		return Criterion{Verdict: Fail, Value: c.fenceSay, Explanation: "require_fence is on, and the old writer could not be fenced"}
	case q.event == EventSwitchover:
		return Criterion{Verdict: Pass, Explanation: "the old writer is fenced once the paths are closed; without that the switchover is undone"}
	case q.e.cfg.FenceHook:
		return Criterion{Verdict: Pass, Value: "hooks.fence", Explanation: "hooks.fence is run once the paths are closed; without its success nothing is promoted"}
	}
	return Criterion{Verdict: Fail, Explanation: "require_fence is on, and there is no hooks.fence that could fence the old writer"}
}
