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
	if why := q.e.automationReason(); why != "" {
		return Criterion{Verdict: Fail, Value: AutomationOff.String(), Explanation: why}
	}
	return Criterion{Verdict: Pass, Value: AutomationOn.String(), Explanation: "nothing keeps pgtether from acting on its own"}
}

func approved(q *inquiry) Criterion {
	c := Criterion{Value: q.e.cfg.Mode.String(), Threshold: ModeAuto.String()}
	switch q.e.cfg.Mode {
	case ModeAuto:
		c.Verdict, c.Explanation = Pass, "mode is auto: no approval is needed"
	case ModeManual:
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
	default:
		c.Verdict, c.Threshold, c.Explanation = Fail, string(LosslessProven), "require_lossless is on, and the change is not proven lossless: "+q.loss.why
	}
	return c
}

func notFlapping(q *inquiry) Criterion {
	e := q.e
	last, ok := e.rec.LastAutomatic.Get()
	switch {
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
	if !q.e.cfg.RequireFence {
		return Criterion{Verdict: NotNeeded, Explanation: "require_fence is off"}
	}
	return Criterion{Verdict: Unknown, Explanation: "require_fence is on, and no fence has been tried"}
}
