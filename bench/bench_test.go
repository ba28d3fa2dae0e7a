package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgtether/pgtether/internal/metrics"
	"github.com/pgtether/pgtether/proxy"
)

// through starts the proxy in front of a server and returns its address. Everything ends with the test.
func through(tb testing.TB, server string) string {
	tb.Helper()
	s, err := proxy.New(proxy.Config{
		Listen:       proxy.ListenConfig{TLS: proxy.TLSDisable},
		Backend:      proxy.BackendConfig{TLS: proxy.BackendTLSDisable, ConnectTimeout: 10 * time.Second},
		Hold:         proxy.HoldConfig{Login: 15 * time.Second, Session: 15 * time.Second, Max: 800, ReleasePerSecond: 200},
		Limits:       proxy.LimitsConfig{MaxClients: 1000, StartupTimeout: 10 * time.Second, LoginsUnderWay: 200, TLSHandshakes: 64},
		DrainTimeout: time.Second,
		Continuity:   proxy.ContinuityConfig{Mode: proxy.MoveLossless, MovesAtOnce: 16},
		SCRAM:        proxy.SCRAMRelay,
	}, proxy.Deps{Metrics: metrics.New(prometheus.NewRegistry(), metrics.Labels{}).Proxy, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), ln) }()
	if err := s.Open(proxy.Route{Epoch: 1, Node: "region-a", Address: server}); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			tb.Errorf("shut down proxy: %v", err)
		}
		if err := <-served; !errors.Is(err, proxy.ErrServerClosed) {
			tb.Errorf("serve ended with %v", err)
		}
	})
	return ln.Addr().String()
}

// serve starts a peer whose answers carry size bytes; it ends with the test.
func serve(tb testing.TB, size int) string {
	tb.Helper()
	p, err := startPeer(size)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.close(); err != nil {
			tb.Errorf("close peer: %v", err)
		}
	})
	return p.addr()
}

// connect logs in; the connection is closed with the test, before the servers are.
func connect(tb testing.TB, address string) *client {
	tb.Helper()
	c, err := dial(address)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := c.close(); err != nil {
			tb.Errorf("close client: %v", err)
		}
	})
	return c
}

// forwarderVariable chooses what carries sessions without TLS.
const forwarderVariable = "PGTETHER_FORWARDER"

// paths are the ways that are compared: no proxy, and both of its forwarders.
func paths(b *testing.B, size int, run func(b *testing.B, address string)) {
	b.Run("direct", func(b *testing.B) { run(b, serve(b, size)) })
	for _, carrier := range []string{"goroutines", "loops"} {
		b.Run(carrier, func(b *testing.B) {
			b.Setenv(forwarderVariable, carrier)
			run(b, through(b, serve(b, size)))
		})
	}
}

// BenchmarkRoundTrip is a small query and its answer on 1 and on 32 connections: what a transaction of pgbench -S does.
func BenchmarkRoundTrip(b *testing.B) {
	for _, conns := range []int{1, 32} {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
			paths(b, 100, func(b *testing.B, address string) {
				clients := make([]*client, conns)
				for i := range clients {
					clients[i] = connect(b, address)
				}
				spread(b, clients)
			})
		})
	}
}

// spread runs b.N round trips, shared among the clients.
func spread(b *testing.B, clients []*client) {
	b.ReportAllocs()
	var left atomic.Int64
	left.Store(int64(b.N))
	failed := make(chan error, len(clients))
	b.ResetTimer()
	for _, c := range clients {
		go func() {
			var err error
			for err == nil && left.Add(-1) >= 0 {
				err = c.roundTrip()
			}
			failed <- err
		}()
	}
	for range clients {
		if err := <-failed; err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkPipeline is 50 small queries sent at once and their answers, as a driver's batch does.
func BenchmarkPipeline(b *testing.B) {
	const queries = 50
	batch := bytes.Repeat(query, queries)
	paths(b, 100, func(b *testing.B, address string) {
		c := connect(b, address)
		b.ReportAllocs()
		for b.Loop() {
			if err := c.exchange(batch, queries); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkLargeResult is one row of 16 KiB, and of 1 MiB, per query: bytes matter here, messages do not.
func BenchmarkLargeResult(b *testing.B) {
	for _, size := range []int{16 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			paths(b, size, func(b *testing.B, address string) {
				c := connect(b, address)
				b.SetBytes(int64(size))
				for b.Loop() {
					if err := c.roundTrip(); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

// BenchmarkCopyOut is a COPY to the client: 1,000 messages of one row of 8 KiB each.
func BenchmarkCopyOut(b *testing.B) {
	paths(b, 100, func(b *testing.B, address string) {
		c := connect(b, address)
		b.SetBytes(copyRows * copyRow)
		for b.Loop() {
			if err := c.exchange(copyOut, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkCopyIn is a COPY from the client of the same.
func BenchmarkCopyIn(b *testing.B) {
	paths(b, 100, func(b *testing.B, address string) {
		c := connect(b, address)
		b.SetBytes(copyRows * copyRow)
		for b.Loop() {
			if err := c.exchange(copyIn, 1); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkLogin is a connection that is opened, used once and closed.
func BenchmarkLogin(b *testing.B) {
	paths(b, 100, func(b *testing.B, address string) {
		b.ReportAllocs()
		for b.Loop() {
			c, err := dial(address)
			if err != nil {
				b.Fatal(err)
			}
			if err := errors.Join(c.roundTrip(), c.close()); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// A benchmark of answers that never arrived whole would measure nothing.
func TestBothWaysCarryTheWholeAnswer(t *testing.T) {
	const size = 300_000
	want := len(cannedAnswer(size))
	server := serve(t, size)
	for name, address := range map[string]string{"direct": server, "proxied": through(t, server)} {
		c := connect(t, address)
		for what, request := range map[string][]byte{"copy out": copyOut, "copy in": copyIn, "query": query} {
			if err := c.exchange(request, 1); err != nil {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
		if _, err := c.conn.Write(query); err != nil {
			t.Fatal(err)
		}
		got, err := c.in.Discard(want)
		if err != nil || c.in.Buffered() != 0 {
			t.Errorf("%s: read %d bytes and %d more (%v), want %d", name, got, c.in.Buffered(), err, want)
		}
	}
}

func TestAnErrorOfTheServerEndsAClient(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			_, _ = c.Write(message(nil, 'E', []byte("SFATAL\x00\x00")))
			_ = c.Close()
		}
	}()
	if _, err := dial(ln.Addr().String()); err == nil {
		t.Error("a refused login gave a client")
	}
}
