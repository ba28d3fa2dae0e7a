package decision

import (
	"fmt"
	"strings"
)

// opt prints a fact that may be unknown.
func opt[T any](o Opt[T]) string {
	if !o.Known {
		return "null"
	}
	return fmt.Sprint(o.V)
}

func decisionText(d Decision) string {
	var b strings.Builder
	verdict := "BLOCKED"
	if d.Safe {
		verdict = "SAFE"
	}
	fmt.Fprintf(&b, "decision event=%q candidate=%s %s risk=%s lossless=%s loss=%s\n", d.Event, opt(d.Candidate), verdict, d.Risk, d.Lossless, opt(d.LossBytes))
	for _, c := range d.Criteria {
		fmt.Fprintf(&b, "  %-25s %-10s", c.Name, c.Verdict)
		if c.Node != "" {
			fmt.Fprintf(&b, " %s", c.Node)
		}
		if c.Age.Known {
			fmt.Fprintf(&b, " age %s", ageText(c.Age.V))
		}
		if c.Value != "" || c.Threshold != "" {
			fmt.Fprintf(&b, " [%s / %s]", c.Value, c.Threshold)
		}
		fmt.Fprintf(&b, " %s\n", c.Explanation)
	}
	fmt.Fprintf(&b, "  next: %s\n", d.NextAction)
	i := d.IfPrimaryDies
	fmt.Fprintf(&b, "  if primary dies: safe=%v risk=%s lossless=%s loss=%s blocking=%s", i.Safe, i.Risk, i.Lossless, opt(i.LossBytes), strings.Join(i.Blocking, ","))
	return b.String()
}

func statusText(s Status) string {
	var b strings.Builder
	fmt.Fprintf(&b, "status %s mode=%s automation=%s %s epoch=%s writer=%s writes=%s system=%s timeline=%s crash_loss=%s\n", Place{s.State, s.Step}, s.Mode, s.Automation,
		s.AutomationReason, opt(s.Epoch), opt(s.Writer), s.Writes, opt(s.SystemID), opt(s.Timeline), opt(s.CrashLossBytes))
	fmt.Fprintf(&b, "  message: %s\n", s.Message)
	for _, n := range s.Nodes {
		fmt.Fprintf(&b, "  %s %s %s [%s] tl=%s cur=%s recv=%s repl=%s lag=%s div=%s sync=%s streaming=%s age=%s\n", n.Name, n.Role, n.Evidence, n.EvidenceDetail,
			opt(n.Timeline), opt(n.CurrentLSN), opt(n.ReceivedLSN), opt(n.ReplayedLSN), opt(n.LagBytes), opt(n.DivergenceBytes), opt(n.SyncState), opt(n.Streaming), opt(n.ObservedAge))
	}
	if c, ok := s.LastChange.Get(); ok {
		fmt.Fprintf(&b, "  last change: %s %s -> %s epoch %d lossless=%s loss=%s %s..%s ended=%d steps=%v\n", c.Kind, c.From, c.To, c.Epoch, c.Lossless, opt(c.LossBytes),
			opt(c.LossFrom), opt(c.LossTo), c.Sessions.Ended, c.Steps)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
