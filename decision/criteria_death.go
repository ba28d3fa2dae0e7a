package decision

// primaryUnreachable passes when nothing that belongs to the writer gives a sign of life.
func primaryUnreachable(q *inquiry) Criterion {
	v, e := q.writer, q.e
	if v == nil {
		return q.of(nil, Unknown, "no writer is known")
	}
	name, value := v.node.Name, v.obs.Evidence().String()
	var c Criterion
	switch cl := e.class(v); {
	case v.node.Address != e.rec.Writer.Address:
		c, value = q.of(v, Unknown, "%s was the writer at %s, and is configured at %s now: nothing is known of the server there", name, e.rec.Writer.Address,
			v.node.Address), "unknown"
	case cl == classUnknown:
		c, value = q.of(v, Unknown, "nothing fresh is known of %s", name), "unknown"
	case cl == classStarting && e.failureStable(v):
		c = q.of(v, Pass, "%s has said for longer than primary_start_timeout that it does not serve", name)
	case cl != classFailing:
		c = q.of(v, Fail, "%s answers (%s)", name, detail(v.obs))
	case !v.failingSince.Known && e.plane.Heard.Known:
		c = q.of(v, Fail, "every probe of %s fails, but its backends send to clients", name)
	default:
		c = q.of(v, Pass, "every probe of %s fails (%s)", name, detail(v.obs))
	}
	c.Value, c.Threshold = value, "silent or refused"
	return c
}

// failureStable passes when the failure has lasted long enough.
func failureStable(q *inquiry) Criterion {
	v, e := q.writer, q.e
	if v == nil {
		return q.of(nil, Unknown, "no writer is known")
	}
	name := v.node.Name
	var c Criterion
	switch e.class(v) {
	case classUnknown:
		c = q.of(v, Unknown, "nothing fresh is known of %s", name)
	case classStarting:
		c = q.of(v, Fail, "%s lives: it starts up or shuts down", name)
		if e.failureStable(v) {
			c = q.of(v, Pass, "%s has not served for longer than primary_start_timeout", name)
		}
	case classFailing:
		d, ok := elapsed(v.failingSince, e.now)
		switch {
		case !ok:
			c = q.of(v, Fail, "a backend of %s was heard after the last failed probe; the count begins anew", name)
		case d < e.cfg.StableFor:
			c = q.of(v, Fail, "%s has failed for %s of %s", name, ageText(d), e.cfg.StableFor)
		default:
			c = q.of(v, Pass, "%s has failed for %s without interruption", name, ageText(d))
		}
		c.Value = ageText(d)
	default:
		c = q.of(v, Fail, "%s answers", name)
		c.Value = "0s"
	}
	c.Threshold = e.cfg.StableFor.String()
	return c
}

// primaryStartGrace passes unless the writer is within the time it is given to start.
func primaryStartGrace(q *inquiry) Criterion {
	v, e := q.writer, q.e
	if v == nil {
		return q.of(nil, Unknown, "no writer is known")
	}
	name := v.node.Name
	var c Criterion
	d, starting := elapsed(v.startingSince, e.now)
	switch cl := e.class(v); {
	case cl == classUnknown:
		c = q.of(v, Unknown, "nothing fresh is known of %s", name)
	case !starting || cl != classStarting:
		c = q.of(v, Pass, "%s does not say that it starts up or shuts down", name)
	case e.failureStable(v):
		c = q.of(v, Pass, "%s has said so for %s", name, ageText(d))
		c.Value = ageText(d)
	default:
		c = q.of(v, Fail, "%s has said for %s that it starts up or shuts down; it is given %s", name, ageText(d), e.cfg.PrimaryStartTimeout)
		c.Value = ageText(d)
	}
	c.Threshold = e.cfg.PrimaryStartTimeout.String()
	return c
}

// standbySeesPrimaryGone passes when the second witness has lost the writer too.
func standbySeesPrimaryGone(q *inquiry) Criterion {
	if q.candidate == nil {
		return q.of(nil, Unknown, "%s", q.noCandidate)
	}
	t := q.e.witness(q.candidate)
	if v := q.e.streamingStandby(); v != nil && v != q.candidate {
		t = q.e.witness(v)
		c := q.of(v, t.verdict, "%s", t.statements)
		c.Value, c.Threshold = t.value, t.threshold
		return c
	}
	c := q.of(q.candidate, t.verdict, "%s", t.statements)
	c.Value, c.Threshold = t.value, t.threshold
	return c
}
