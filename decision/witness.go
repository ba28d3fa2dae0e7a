package decision

import (
	"fmt"
	"slices"
	"time"
)

const (
	// defaultReceiverTimeout is PostgreSQL's default of wal_receiver_timeout, used where the setting could not be read.
	defaultReceiverTimeout = 60 * time.Second
	// witnessSlack is added to what the standby's settings allow.
	witnessSlack = 2 * time.Second
)

// testimony is what a standby says about the writer's life: Pass when it has lost it, Fail when it still hears it.
type testimony struct {
	verdict                      Verdict
	value, threshold, statements string
}

// witness asks a standby about the writer. A receiver that is there but could not be read, or is not following, proves nothing; nor does a
// missing one before it had the time to start.
func (e *Engine) witness(v *view) testimony {
	name := v.node.Name
	if e.class(v) != classStandby {
		return testimony{verdict: Unknown, statements: name + " is not seen as a standby, so that it is no witness"}
	}
	r, ok := v.obs.Receiver.Get()
	if !ok {
		return testimony{verdict: Unknown, statements: fmt.Sprintf("the WAL receiver of %s could not be read (is pg_monitor granted?)", name)}
	}
	if i := slices.IndexFunc(e.views, func(o view) bool { return o.node.Address == v.upstream }); i >= 0 && e.views[i].node.Name != e.rec.Writer.Node {
		return testimony{verdict: Unknown, value: "follows " + e.views[i].node.Name,
			statements: fmt.Sprintf("%s receives from %s, not from the writer, so that it is no witness", name, e.views[i].node.Name)}
	}
	timeout, known := v.obs.Settings.WalReceiverTimeout.Get()
	if !known {
		timeout = defaultReceiverTimeout
	}
	if !r.Running {
		if d, ok := v.obs.StartedAgo.Get(); !v.streamed && (!ok || d < timeout+witnessSlack) {
			return testimony{verdict: Unknown, value: "no WAL receiver", statements: fmt.Sprintf("%s was started a moment ago and has not streamed since", name)}
		}
		return testimony{verdict: Pass, value: "no WAL receiver", statements: fmt.Sprintf("the WAL receiver of %s is gone", name)}
	}
	if r.Status != receiverStreaming {
		return testimony{verdict: Unknown, value: r.Status, statements: fmt.Sprintf("the WAL receiver of %s is %q, it does not follow", name, r.Status)}
	}
	limit := timeout/2 + witnessSlack
	age, ok := r.MessageAge.Get()
	if !ok {
		return testimony{verdict: Unknown, value: "streaming", threshold: ageText(limit), statements: fmt.Sprintf("%s does not say when it last heard the writer", name)}
	}
	age += max(0, e.now.Sub(v.obs.Began))
	t := testimony{value: "streaming, heard " + ageText(age) + " ago", threshold: ageText(limit)}
	switch {
	case timeout == 0 && age > defaultReceiverTimeout/2+witnessSlack:
		t.verdict, t.threshold = Unknown, ""
		t.statements = fmt.Sprintf("wal_receiver_timeout is off on %s, so that a silent writer is never noticed there", name)
	case timeout == 0:
		t.verdict, t.threshold = Fail, ""
		t.statements = fmt.Sprintf("%s heard the writer %s ago", name, ageText(age))
	case age > limit:
		t.verdict, t.statements = Pass, fmt.Sprintf("%s last heard the writer %s ago", name, ageText(age))
	default:
		t.verdict, t.statements = Fail, fmt.Sprintf("%s still receives from the writer", name)
	}
	return t
}
