//go:build linux

package lab_test

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
)

// echo is a server that sends back what it gets, and closes when its client does.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c) // ends with the connection
			})
		}
	})
	t.Cleanup(func() { ln.Close(); sessions.Wait() })
	return ln.Addr().String()
}

func relayTo(t *testing.T, address string) *lab.Relay {
	t.Helper()
	r, err := lab.NewRelay(func() string { return address })
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	return r
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", address, time.Minute)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(time.Minute)))
	return c.(*net.TCPConn)
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	_, err := io.WriteString(c, text)
	must(t, err)
}

func receive(t *testing.T, c net.Conn, text string) {
	t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("received %q (%v), want %q", got, err, text)
	}
}

// silent checks that nothing comes for a while, neither bytes nor an end.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(150*time.Millisecond)))
	n, err := c.Read(make([]byte, 1))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("read gives %d bytes and %v, want silence", n, err)
	}
	must(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
}

func TestRelayPassesBytesAndHalfClose(t *testing.T) {
	r := relayTo(t, echo(t))
	c := dial(t, r.Addr())
	big := strings.Repeat("0123456789abcdef", 1<<16) // more than the sockets' buffers hold
	go func() { _, _ = io.WriteString(c, big); _ = c.CloseWrite() }()
	got, err := io.ReadAll(c)
	must(t, err)
	if string(got) != big {
		t.Errorf("%d of %d bytes came back, or not the same", len(got), len(big))
	}
}

func TestRelayFaults(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(t *testing.T, r *lab.Relay)
		// old is a connection that was open and idle before the fault.
		old func(t *testing.T, old net.Conn)
		// dial says how a new connection fares.
		dial func(t *testing.T, address string)
		// healed is the old connection after Heal; nil when it is dead.
		healed func(t *testing.T, old net.Conn)
	}{
		"blackhole both ways": {
			fault:  func(t *testing.T, r *lab.Relay) { r.Blackhole() },
			old:    func(t *testing.T, old net.Conn) { send(t, old, "late"); silent(t, old) },
			dial:   acceptedButSilent,
			healed: func(t *testing.T, old net.Conn) { receive(t, old, "late") },
		},
		"blackhole towards the target": {
			fault:  func(t *testing.T, r *lab.Relay) { r.Blackhole(lab.ToTarget) },
			old:    func(t *testing.T, old net.Conn) { send(t, old, "late"); silent(t, old) },
			dial:   acceptedButSilent,
			healed: func(t *testing.T, old net.Conn) { receive(t, old, "late") },
		},
		"blackhole on the way back": {
			fault:  func(t *testing.T, r *lab.Relay) { r.Blackhole(lab.FromTarget) },
			old:    func(t *testing.T, old net.Conn) { send(t, old, "late"); silent(t, old) },
			dial:   acceptedButSilent,
			healed: func(t *testing.T, old net.Conn) { receive(t, old, "late") },
		},
		"partition": {
			fault:  func(t *testing.T, r *lab.Relay) { must(t, r.Partition()) },
			old:    func(t *testing.T, old net.Conn) { send(t, old, "late"); silent(t, old) },
			dial:   noAnswer,
			healed: func(t *testing.T, old net.Conn) { receive(t, old, "late") },
		},
		"dropped connects": {
			fault:  func(t *testing.T, r *lab.Relay) { must(t, r.DropConnects()) },
			old:    func(t *testing.T, old net.Conn) { send(t, old, "on"); receive(t, old, "on") },
			dial:   noAnswer,
			healed: func(t *testing.T, old net.Conn) { send(t, old, "on"); receive(t, old, "on") },
		},
		"refuse": {
			fault:  func(t *testing.T, r *lab.Relay) { must(t, r.Refuse()) },
			old:    func(t *testing.T, old net.Conn) { send(t, old, "on"); receive(t, old, "on") },
			dial:   refused,
			healed: func(t *testing.T, old net.Conn) { send(t, old, "on"); receive(t, old, "on") },
		},
		"refuse after partition": {
			fault:  func(t *testing.T, r *lab.Relay) { must(t, r.Partition()); must(t, r.Refuse()) },
			old:    func(t *testing.T, old net.Conn) { silent(t, old) },
			dial:   refused,
			healed: func(t *testing.T, old net.Conn) { send(t, old, "on"); receive(t, old, "on") },
		},
		"reset": {
			fault: func(t *testing.T, r *lab.Relay) { r.Reset() },
			old:   wasReset,
			dial:  func(t *testing.T, address string) { c := dial(t, address); send(t, c, "new"); receive(t, c, "new") },
		},
		"reset under silence": {
			fault: func(t *testing.T, r *lab.Relay) { r.Blackhole(); r.Reset() },
			old:   wasReset,
			dial:  acceptedButSilent,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := relayTo(t, echo(t))
			old := dial(t, r.Addr())
			send(t, old, "hello")
			receive(t, old, "hello")
			c.fault(t, r)
			c.old(t, old)
			c.dial(t, r.Addr())
			must(t, r.Heal())
			if c.healed != nil {
				c.healed(t, old)
			}
			fresh := dial(t, r.Addr())
			send(t, fresh, "fresh")
			receive(t, fresh, "fresh")
		})
	}
}

func acceptedButSilent(t *testing.T, address string) {
	t.Helper()
	c := dial(t, address)
	send(t, c, "anyone?")
	silent(t, c)
}

func refused(t *testing.T, address string) {
	t.Helper()
	if c, err := net.DialTimeout("tcp", address, time.Minute); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial gives %v and %v, want a refusal", c, err)
	}
}

func noAnswer(t *testing.T, address string) {
	t.Helper()
	for range 3 { // not only the first
		c, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		var netErr net.Error
		if !errors.As(err, &netErr) || !netErr.Timeout() {
			t.Fatalf("dial gives %v and %v, want a timeout", c, err)
		}
	}
}

func wasReset(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) { // what came before the reset may still be read
		t.Errorf("read says %v, want a reset", err)
	}
}

func TestRelayDelaysEachDirection(t *testing.T) {
	r := relayTo(t, echo(t))
	c := dial(t, r.Addr())
	send(t, c, "warm")
	receive(t, c, "warm")
	const delay = 120 * time.Millisecond
	for name, step := range map[string]struct {
		directions []lab.Direction
		least      time.Duration
	}{
		"both": {nil, 2 * delay}, "there": {[]lab.Direction{lab.ToTarget}, delay}, "back": {[]lab.Direction{lab.FromTarget}, delay},
	} {
		r.Delay(delay, step.directions...)
		sent := time.Now()
		send(t, c, "x")
		receive(t, c, "x")
		if took := time.Since(sent); took < step.least {
			t.Errorf("%s: round trip took %v, want at least %v", name, took, step.least)
		}
		must(t, r.Heal())
	}
}

// Many messages under delay take hardly longer than one: it is a delay, not a throttle.
func TestRelayDelayKeepsManyMessagesUnderWay(t *testing.T) {
	r := relayTo(t, echo(t))
	c := dial(t, r.Addr())
	const delay, messages = 300 * time.Millisecond, 20
	r.Delay(delay, lab.ToTarget)
	began := time.Now()
	for range messages {
		send(t, c, "x")
		time.Sleep(time.Millisecond) // so that they are read one by one
	}
	receive(t, c, strings.Repeat("x", messages))
	if took := time.Since(began); took > messages*delay/2 {
		t.Errorf("%d messages took %v with a delay of %v: they wait for each other", messages, took, delay)
	}
}

func TestRelayTellsBothSidesOfAReset(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	r := relayTo(t, ln.Addr().String())
	c := dial(t, r.Addr())
	server, err := ln.Accept()
	must(t, err)
	must(t, server.(*net.TCPConn).SetLinger(0))
	must(t, server.Close())
	wasReset(t, c)
	waitFor(t, "the relay to forget the connection", func() bool { return r.Conns() == 0 })
}

func TestRelayHoldsAnEndBackUnderSilence(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	r := relayTo(t, ln.Addr().String())
	c := dial(t, r.Addr())
	server, err := ln.Accept()
	must(t, err)
	r.Blackhole()
	must(t, server.Close())
	silent(t, c) // a network that is cut carries no FIN either
	must(t, r.Heal())
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read after healing says %v, want the end", err)
	}
}

func TestRelayToNobodyResets(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	gone := ln.Addr().String()
	must(t, ln.Close())
	c, err := net.DialTimeout("tcp", relayTo(t, gone).Addr(), time.Minute)
	if err != nil { // the reset may come before connect has returned
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Fatalf("dial says %v, want a reset", err)
		}
		return
	}
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(time.Minute)))
	wasReset(t, c)
}

func TestRelayClosesInAnyState(t *testing.T) {
	for name, fault := range map[string]func(t *testing.T, r *lab.Relay){
		"open":        func(*testing.T, *lab.Relay) {},
		"silent":      func(_ *testing.T, r *lab.Relay) { r.Blackhole() },
		"partitioned": func(t *testing.T, r *lab.Relay) { must(t, r.Partition()) },
		"refusing":    func(t *testing.T, r *lab.Relay) { must(t, r.Refuse()) },
		"delayed":     func(_ *testing.T, r *lab.Relay) { r.Delay(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			r := relayTo(t, echo(t))
			c := dial(t, r.Addr())
			send(t, c, "hello")
			receive(t, c, "hello")
			fault(t, r)
			send(t, c, strings.Repeat("x", 1000)) // under way, or held back
			must(t, r.Close())
			wasReset(t, c)
			must(t, r.Close())
			if err := r.Heal(); err == nil {
				t.Error("a closed relay heals")
			}
		})
	}
}

func TestByteLogKnowsWhenBytesPassed(t *testing.T) {
	r := relayTo(t, echo(t))
	var log lab.ByteLog
	r.Observe(log.Note)
	if _, ok := log.First(lab.ToTarget); ok {
		t.Error("an empty log knows a first byte")
	}
	before := time.Now()
	c := dial(t, r.Addr())
	send(t, c, "one")
	receive(t, c, "one")
	between := time.Now()
	send(t, c, "three")
	receive(t, c, "three")
	must(t, c.CloseWrite())
	_, err := io.ReadAll(c)
	must(t, err)
	after := time.Now()
	for _, d := range []lab.Direction{lab.ToTarget, lab.FromTarget} {
		first, _ := log.First(d)
		last, _ := log.Last(d)
		if first.Before(before) || first.After(between) || last.Before(between) || last.After(after) {
			t.Errorf("%s: first %v, last %v, not in [%v, %v, %v]", d, first, last, before, between, after)
		}
		if n := log.Bytes(d); n != int64(len("onethree")) {
			t.Errorf("%s: %d bytes, want %d", d, n, len("onethree"))
		}
	}
	kinds := map[lab.EventKind]int{}
	for _, record := range log.Records() {
		kinds[record.Kind]++
	}
	if kinds[lab.Opened] != 1 || kinds[lab.HalfClosed] != 2 || kinds[lab.Aborted] != 0 {
		t.Errorf("kinds of records: %v, want one opening, two half closes, no abort", kinds)
	}
	r.Observe(nil)
	c = dial(t, r.Addr())
	send(t, c, "unseen")
	receive(t, c, "unseen")
	if n := log.Bytes(lab.ToTarget); n != int64(len("onethree")) {
		t.Errorf("a log that was taken off counts %d bytes", n)
	}
}

// waitFor awaits something that gives no sign of its own.
func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
