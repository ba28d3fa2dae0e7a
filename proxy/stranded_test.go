package proxy

import (
	"net"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

// strandAll drains and cuts epoch 1 and keeps its sessions for the next writer, as if their state had been taken, for so long.
func (h *harness) strandAll(sessions int, wait time.Duration) {
	h.t.Helper()
	over := h.startDrain(1)
	eventually(h.t, "every session waits", func() bool { return over() == 1 && h.waiting() == sessions })
	h.control.Lock()
	defer h.control.Unlock()
	_, waiting := h.rest.end(1)
	for session := range waiting {
		session.baggage = baggage{since: time.Now(), until: time.Now().Add(wait)}
	}
	h.cutLocked(1, pgwire.Drained)
	h.strand(waiting)
}

func TestSessionsWhoseTimeIsUpAreToldAtOnceAlthoughNoClientReads(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := startServer(t, testConfig(), Deps{})
	h.open(pg.route(1))
	const sessions = 20 // their last words one after the other would take longer than the test has patience
	for range sessions {
		h.login()
	}
	h.strandAll(sessions, 10*time.Millisecond)
	eventually(t, "every session has ended", func() bool { return h.metric("pgtether_sessions_total", "writer_lost") == sessions })
}

func TestOpeningARouteAgainDoesNotDecideAgainAboutTheSessionsThatMoveThere(t *testing.T) {
	cfg := testConfig()
	cfg.Continuity.Mode, cfg.Continuity.MovesAtOnce = MoveLossless, 1
	pg := startFakePG(t, aPrimary)
	h := startServer(t, cfg, Deps{})
	reloaded := cfg
	reloaded.Continuity.Mode = MoveOff // nothing is asked of a server that knows no SQL
	if err := h.Reload(reloaded); err != nil {
		t.Fatal(err)
	}
	h.open(pg.route(1))
	h.login()
	h.login()
	h.strandAll(2, 2*time.Second)
	if err := h.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	refusing, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = refusing.Close()
	route := Route{Epoch: 2, Node: "region-b", Address: refusing.Addr().String()}
	h.open(route)
	first := make(chan Relocated, 1)
	h.Relocate(2, LosslessProven, func(r Relocated) { first <- r })
	h.Hold("promoting")
	h.open(route)
	h.Relocate(2, LosslessUnknown, func(Relocated) { t.Error("the sessions were decided about twice") })
	eventually(t, "both ended when their time was up", func() bool { return h.metric("pgtether_sessions_moved_total", moveTimedOut) == 2 })
	<-first
	if n := h.metric("pgtether_sessions_moved_total", moveLossy); n != 0 {
		t.Errorf("%v sessions ended as if the change had lost commits", n)
	}
}
