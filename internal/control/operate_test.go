package control

import (
	"bytes"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// TestAPromotionGoesOnWhenItsEventsCanBeWrittenAgain: past the point of no return no event comes by itself with which they would be tried again.
func TestAPromotionGoesOnWhenItsEventsCanBeWrittenAgain(t *testing.T) {
	var mend func()
	full := make(chan struct{})
	p := startPair(t, t.TempDir(), decision.ModeAuto, func(p *pair) {
		save := p.store.ops.writeSync
		p.store.ops.writeSync = func(path string, b []byte) error {
			err := save(path, b)
			if mend == nil && bytes.Contains(b, []byte(`"phase":"promoting"`)) {
				mend = fillDisk(t, p.events)
				close(full)
			}
			return err
		}
	})
	p.ready()
	p.set(func() { p.dead = true })
	p.await("the point of no return is passed", p.look, func(View) bool {
		select {
		case <-full:
			return true
		default:
			return false
		}
	})
	until := time.Now().Add(1500 * time.Millisecond) // it is asked for once a second
	p.await("it was asked for more than once", p.look, func(View) bool { return time.Now().After(until) })
	p.set(func() {
		if len(p.promotes) > 0 {
			t.Fatal("pg_promote was sent while its event was not on disk")
		}
	})
	mend()
	well := time.Now()
	p.await("the standby is the writer", p.look, onB)
	p.set(func() {
		if d := p.promotes[0].Sub(well); d > 2*time.Second {
			t.Errorf("pg_promote was sent %s after the disk was well", d)
		}
	})
}
