package failover

import (
	"bytes"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
	"github.com/pgtether/pgtether/test/tellers"
)

// fewClients write where it does not matter how many do.
const fewClients = 8

// relayed leads everything of pgtether, probes, sessions and commands, through a relay for each node.
func (w *world) relayed() (a, b *lab.Relay) {
	w.Helper()
	a, err := w.a.Relay()
	w.must(err)
	b, err = w.b.Relay()
	w.must(err)
	w.nodes = []rig.Node{{Name: lab.RegionA, Addr: a.Addr()}, {Name: lab.RegionB, Addr: b.Addr()}}
	return a, b
}

// before runs do once, before the first bytes with a text pass through a relay to its node.
func before(r *lab.Relay, text string, do func()) {
	var once sync.Once
	r.Observe(func(e lab.Event) {
		if e.Direction == lab.ToTarget && bytes.Contains(e.Bytes, []byte(text)) {
			once.Do(do)
		}
	})
}

// crashPoint is a step of a switchover and how pgtether is killed in it.
type crashPoint struct {
	// step names the test; atStep: it is killed when /status shows that step.
	step   string
	atStep bool
	// arrange is called before pgtether is started; kill may be called from a relay.
	arrange func(w *world, a, b *lab.Relay, kill func())
	// open: a transaction is open, so that it drains.
	open bool
	// heal undoes before the restart what arrange did.
	heal func(a, b *lab.Relay)
	// movable: its sessions are on the move when the new epoch is open.
	movable bool
	// completed: the switchover is carried on after the restart; else it is undone. cut: the old epoch was at its end.
	completed, cut bool
}

// killedOn has an event's first line kill pgtether, through the event hook.
func killedOn(kind string) func(*world, *lab.Relay, *lab.Relay, func()) {
	return func(w *world, _, _ *lab.Relay, _ func()) {
		mark := w.dir + ".killed"
		w.extra += "[hooks]\non_event = " + strconv.Quote(`grep -q '"kind":"`+kind+`"' && [ -e `+mark+`.armed ] && [ ! -e `+mark+` ] && { touch `+mark+
			`; kill -9 $PPID; }; true`) + "\n"
	}
}

var crashPoints = []crashPoint{
	{step: "checking", atStep: true, heal: func(_, b *lab.Relay) { _ = b.Heal() }},
	{step: "draining", atStep: true, open: true},
	{step: "cutting", cut: true, arrange: killedOn("cut")},
	{step: "fencing", cut: true, arrange: func(_ *world, a, _ *lab.Relay, kill func()) {
		before(a, "ALTER SYSTEM SET default_transaction_read_only", kill)
	}},
	{step: "sampling", atStep: true, cut: true, heal: func(_, b *lab.Relay) { _ = b.Heal() }, arrange: func(_ *world, a, b *lab.Relay, _ func()) {
		before(a, "ALTER SYSTEM SET default_transaction_read_only", func() { b.Blackhole(lab.FromTarget) }) // what it has replayed is not heard
	}},
	{step: "promoting", cut: true, completed: true, arrange: func(_ *world, _, b *lab.Relay, kill func()) { before(b, "pg_promote(false", kill) }},
	{step: "verifying", cut: true, completed: true, arrange: func(_ *world, _, b *lab.Relay, kill func()) { before(b, "pg_logical_emit_message", kill) }},
	{step: "opening", cut: true, completed: true, arrange: killedOn("opened")},
	{step: "moving", movable: true, cut: true, completed: true, arrange: killedOn("opened")},
}

// TestAPgtetherKilledInASwitchoverLosesNothing kills it at each step and starts it again.
func TestAPgtetherKilledInASwitchoverLosesNothing(t *testing.T) {
	for _, p := range crashPoints {
		t.Run(p.step, func(t *testing.T) {
			t.Parallel()
			p.run(t)
		})
	}
}

func (p crashPoint) run(t *testing.T) {
	w := newPlanned(t, lab.Options{})
	a, b := w.relayed()
	var kill sync.Once
	killed := make(chan struct{}) // closed when it is dead
	die := func() { kill.Do(func() { w.proxy.Kill(); close(killed) }) }
	if p.arrange != nil {
		p.arrange(w, a, b, die)
	}
	if p.movable {
		w.verifiable()
	}
	w.startOpen()
	load := w.crowdOf(fewClients)
	if p.open {
		w.holds()
	}
	w.arm()
	if p.step == "checking" {
		b.Blackhole(lab.FromTarget) // the standby is asked once more and does not answer
	}
	w.must(w.proxy.Switch(w.ctx, lab.RegionB, ""))
	if p.atStep {
		w.await("it is "+p.step, func(s rig.Status) bool { return s.Step == p.step })
		die()
	}
	p.awaitDeath(w, killed, die)
	if p.heal != nil {
		p.heal(a, b)
	}
	w.start()
	p.judge(w, load)
}

// arm lets the event hook kill from now on.
func (w *world) arm() {
	w.Helper()
	w.must(touch(w.dir + ".killed.armed"))
}

// awaitDeath waits until pgtether is dead, also where something else than the test kills it.
func (p crashPoint) awaitDeath(w *world, killed <-chan struct{}, die func()) {
	w.Helper()
	for {
		select {
		case <-killed:
			return
		case <-w.ctx.Done():
			w.Fatalf("it was never killed while %s", p.step)
		case <-time.After(20 * time.Millisecond):
			if exists(w.dir + ".killed") {
				die() // it is dead already; this waits for it
			}
		}
	}
}

// judge fails unless one node is the writer, has every acknowledged row, and the events say how it came to that.
func (p crashPoint) judge(w *world, load *tellers.Crowd) {
	w.Helper()
	writer, other, epoch := w.a, w.b, uint64(1)
	if p.cut {
		epoch = 2
	}
	if p.completed {
		writer, other = w.b, w.a
	}
	s := w.awaitOpen(writer.Name())
	if *s.Epoch != epoch {
		w.Errorf("it is epoch %d, want %d", *s.Epoch, epoch)
	}
	w.must(load.Await(w.ctx, fewClients, time.Now()))
	for _, e := range load.Ends(time.Time{}) {
		if e.Code == "25006" {
			w.Errorf("client %d was sent to a node that is fenced, at %s", e.Client, e.Place)
		}
	}
	if p.completed {
		w.proven(s, other, writer)
		w.promotedOnce(writer.Name())
	} else {
		if why := w.undone(); !strings.Contains(why, "pgtether was started again in the middle of it") {
			w.Errorf("it was undone because %s", why)
		}
		w.notPromoted()
		w.must(w.a.Await(w.ctx, "current_setting('default_transaction_read_only') = 'off'"))
	}
	w.sound(load, writer)
	w.Logf("killed while %s: %s", p.step, w.story())
}

// story is what has happened since the order, in short.
func (w *world) story() string {
	w.Helper()
	all, err := w.proxy.Events(w.ctx)
	w.must(err)
	var told []string
	for _, e := range all {
		if e.Kind == "command" {
			told = nil
		}
		told = append(told, strings.TrimSuffix(e.Kind+" "+e.Step, " "))
	}
	return strings.Join(told, ", ")
}
