package proxy

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
)

// scarce is a listener that has no descriptors left for a while.
type scarce struct {
	net.Listener
	failures atomic.Int32
}

func (s *scarce) Accept() (net.Conn, error) {
	if s.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return s.Listener.Accept()
}

func withFailures(n int32) func(net.Listener) net.Listener {
	return func(ln net.Listener) net.Listener {
		s := &scarce{Listener: ln}
		s.failures.Store(n)
		return s
	}
}

func TestAcceptingGoesOnAfterDescriptorsRanOut(t *testing.T) {
	pg := startFakePG(t, aPrimary)
	h := newHarness(t, testConfig(), Deps{})
	h.open(pg.route(1))
	ln, served := h.serve(withFailures(5))
	h.login()
	if n := h.logs.lines("cannot accept clients"); n != 1 {
		t.Errorf("%d log lines about one shortage", n)
	}
	eventually(t, "it is said that the shortage is over", func() bool { return h.logs.lines("accepting clients again") == 1 })
	_ = ln.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve on a closed listener returned %v", err)
	}
}

func TestAShortageIsPaidByThoseWhoSayNothing(t *testing.T) {
	h := startServer(t, testConfig(), Deps{})
	silent := h.dial()
	eventually(t, "it is pending", func() bool { return h.Server.pending.size() == 1 })
	ln, served := h.serve(withFailures(1))
	defer ln.Close()
	silent.end() // closed by the proxy
	eventually(t, "it is forgotten", func() bool { return h.Server.pending.size() == 0 })
	_ = ln.Close()
	<-served
}

// strange is a listener of connections that are not TCP.
type strange struct{ net.Listener }

func (s strange) Accept() (net.Conn, error) {
	c, _ := net.Pipe()
	return c, nil
}

func TestOnlyTCPIsServed(t *testing.T) {
	h := newHarness(t, testConfig(), Deps{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Serve(t.Context(), strange{ln}); err == nil {
		t.Error("served a pipe")
	}
}
