package control

import (
	"context"
	"encoding/json"
	"log/slog"

	"github.com/pgtether/pgtether/decision"
)

// perform does one action. Outcomes that the engine waits for are returned with true; each of them exactly once.
func (l *Loop) perform(a decision.Action) (decision.Outcome, bool) {
	switch a := a.(type) {
	case decision.Persist:
		return l.persist(a), true
	case decision.Remember:
		if err := l.cfg.Store.SaveLastKnown(a.LastKnown, l.cfg.Clock.stamp()); err != nil {
			l.cfg.Log.Warn("the last known position is not on disk", "err", err)
			return decision.Outcome{Err: err.Error()}, true
		}
	case decision.Note:
		l.note(a)
	case decision.Hold:
		if a.Refuse {
			l.cfg.Router.Refuse(a.Why)
		} else {
			l.cfg.Router.Hold(a.Why)
		}
	case decision.Open:
		l.cfg.Router.Open(a.Epoch, a.Node, a.Address, a.Lossless, func(n decision.SessionCounts) {
			l.over <- decision.Completed{ActionID: a.ID, Outcome: decision.Outcome{Sessions: n}}
		})
	case decision.Drain:
		l.cfg.Router.Drain(a.Epoch, func() { l.over <- decision.Completed{ActionID: a.ID} })
	case decision.Undrain:
		l.cfg.Router.Undrain(a.Epoch)
	case decision.Cut:
		return l.cut(a), true
	case decision.Pace:
		l.cfg.Prober.Pace(a.Interval)
	case decision.ProbeNow:
		l.cfg.Prober.Kick(a.Node)
	case decision.Answer:
		if r := l.replies[a.CommandID]; r != nil {
			r.Refusal, r.Message = a.Refusal, a.Message
		}
	default:
		return l.operate(a)
	}
	return decision.Outcome{}, false
}

func (l *Loop) persist(a decision.Persist) decision.Outcome {
	if err := l.cfg.Store.SaveRecord(a.Record, l.cfg.Clock.stamp()); err != nil {
		l.cfg.Log.Error("the state is not on disk", "epoch", a.Record.Epoch, "err", err)
		return decision.Outcome{Err: err.Error()}
	}
	return decision.Outcome{}
}

func (l *Loop) cut(a decision.Cut) decision.Outcome {
	r := l.cfg.Router.Cut(a.Epoch, a.Reason)
	o := decision.Outcome{Sessions: decision.SessionCounts{Ended: uint64(r.Ended)}}
	if r.LastByteAge >= 0 {
		o.LastByte = decision.Some(l.now().Add(-r.LastByteAge))
	}
	return o
}

// note makes an event durable and logs it with every operand. When the disk is full the event is kept in memory, said once, and written
// later: what the engine does for safety must not wait for it, and what needs durability waits for Persist.
func (l *Loop) note(n decision.Note) {
	ev := Event{
		At: l.cfg.Clock.Wall(n.At).UTC(), StateFrom: n.From.String(), StateTo: n.To.String(), Step: n.Step.String(),
		Kind: string(n.Kind), Cause: n.Cause, Message: n.Message, Operands: make(map[string]json.RawMessage, len(n.Operands)),
	}
	if n.Epoch.Known {
		ev.Epoch = &n.Epoch.V
	}
	attrs := []slog.Attr{slog.String("cause", n.Cause), slog.String("state", ev.StateTo), slog.String("step", ev.Step)}
	if n.From != n.To {
		attrs = append(attrs, slog.String("from", ev.StateFrom))
	}
	if ev.Epoch != nil {
		attrs = append(attrs, slog.Uint64("epoch", *ev.Epoch))
	}
	for _, op := range n.Operands {
		b, err := json.Marshal(op.Value)
		if err != nil {
			b = []byte("null") // the engine's operands are strings, numbers and booleans
		}
		ev.Operands[op.Key] = b
		attrs = append(attrs, slog.Any(op.Key, op.Value))
	}
	_, err := l.cfg.Events.Append(ev)
	l.wrote(err)
	if n.Kind == decision.NoteStalled {
		l.cfg.Metrics.Stalls.Inc()
	}
	attrs = append(attrs, slog.String("why", n.Message))
	l.cfg.Log.LogAttrs(context.Background(), level(n.Kind), string(n.Kind), attrs...)
}

// wrote keeps in mind what came of writing events.
func (l *Loop) wrote(err error) {
	switch {
	case err != nil && !l.eventsLate:
		l.cfg.Log.Error("events are not on disk", "err", err)
		l.eventsLate = true
	case err == nil && l.eventsLate:
		l.cfg.Log.Info("events are on disk again")
		l.eventsLate = false
	}
}

// eventsOnDisk reports whether every event is durable. Those that are not are tried again first: while nothing happens nobody else does.
func (l *Loop) eventsOnDisk() bool {
	if l.eventsLate {
		l.wrote(l.cfg.Events.Flush())
	}
	return !l.eventsLate
}

// level is the log level of an event: what an operator should look at stands out.
func level(k decision.NoteKind) slog.Level {
	switch k {
	case decision.NoteCut, decision.NoteQuarantined, decision.NoteStalled:
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}
