package bench

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/internal/metrics"
	"github.com/pgtether/pgtether/proxy"
)

// BenchmarkMovingSessions moves 1,000 idle sessions with a few prepared statements each to fresh backends, as a planned switchover does: the time from
// the order to stop them to the last one that goes on.
func BenchmarkMovingSessions(b *testing.B) {
	const sessions = 1000
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	l, err := lab.Start(ctx, lab.Options{Single: true, MaxConnections: 2*sessions + 50})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	node := l.Node(lab.RegionA)
	stored := func(ctx context.Context, role string) (proxy.Stored, bool, error) {
		text, err := node.QueryText(ctx, "postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = '"+role+"'")
		if err != nil {
			return proxy.Stored{}, false, err
		}
		s, err := proxy.ParseStored(text)
		return s, err == nil, err
	}
	s, err := proxy.New(proxy.Config{
		Listen:       proxy.ListenConfig{TLS: proxy.TLSDisable},
		Backend:      proxy.BackendConfig{TLS: proxy.BackendTLSDisable, ConnectTimeout: 10 * time.Second},
		Hold:         proxy.HoldConfig{Login: 15 * time.Second, Session: 60 * time.Second, Max: 800, ReleasePerSecond: 200},
		Limits:       proxy.LimitsConfig{MaxClients: sessions, StartupTimeout: 10 * time.Second, LoginsUnderWay: 200, TLSHandshakes: 64},
		DrainTimeout: 10 * time.Second, SCRAM: proxy.SCRAMRelay, Verifiers: proxy.VerifiersAsked,
		Continuity: proxy.ContinuityConfig{Mode: proxy.MoveLossless, MovesAtOnce: 16},
	}, proxy.Deps{Metrics: metrics.New(prometheus.NewRegistry(), metrics.Labels{}).Proxy, Log: slog.New(slog.DiscardHandler), Verifier: stored})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Shutdown(ctx)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = s.Serve(ctx, ln) }()
	if err := s.Open(proxy.Route{Epoch: 1, Node: "region-a", Address: node.Addr()}); err != nil {
		b.Fatal(err)
	}
	clients := connectMany(ctx, b, l.AppDSNAt(ln.Addr().String()), sessions)
	for s.Movable() != sessions {
		time.Sleep(10 * time.Millisecond)
	}
	epoch := uint64(1)
	var slowest time.Duration
	for b.Loop() {
		began := time.Now()
		drained := make(chan struct{})
		s.Hold("promoting")
		s.Drain(epoch, func() { close(drained) })
		<-drained
		packed := time.Since(began)
		s.Cut(epoch, 0)
		epoch++
		if err := s.Open(proxy.Route{Epoch: epoch, Node: "region-a", Address: node.Addr()}); err != nil {
			b.Fatal(err)
		}
		moved := make(chan proxy.Relocated, 1)
		s.Relocate(epoch, proxy.LosslessProven, func(r proxy.Relocated) { moved <- r })
		if r := <-moved; r.Moved != sessions {
			b.Fatalf("%+v", r)
		}
		slowest = max(slowest, time.Since(began))
		b.ReportMetric(packed.Seconds(), "pack-s")
	}
	b.ReportMetric(slowest.Seconds(), "slowest-s")
	for _, c := range clients {
		if err := c.Exec(ctx, "SELECT 1").Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// connectMany opens sessions with statements and settings as Keycloak's have.
func connectMany(ctx context.Context, b *testing.B, dsn string, n int) []*pgconn.PgConn {
	clients := make([]*pgconn.PgConn, n)
	var all sync.WaitGroup
	for part := range 8 {
		all.Go(func() {
			for i := part; i < n; i += 8 {
				c, err := pgconn.Connect(ctx, dsn)
				if err != nil {
					b.Error(err)
					return
				}
				b.Cleanup(func() { _ = c.Close(context.Background()) })
				clients[i] = c
				if err := c.Exec(ctx, fmt.Sprintf("SET application_name = 'client %d'", i)).Close(); err != nil {
					b.Error(err)
				}
				for k := range 20 {
					if _, err := c.Prepare(ctx, fmt.Sprintf("S_%d", k), fmt.Sprintf("SELECT %d, $1::int", k), nil); err != nil {
						b.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return clients
}
