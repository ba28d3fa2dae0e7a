package main

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pgtether-faults-")
	if err == nil {
		binary, err = rig.Build(context.Background(), dir)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// stand is a stand-in for pgtether that listens and handles every client in its own way.
func stand(t *testing.T, handle func(net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{}) // closed when the accept loop has ended
	go func() {
		defer close(ended)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go handle(c)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	return l.Addr().String()
}

// router sends each new connection to whichever server accepts writes, and leaves the old ones alone: a load balancer with a role check.
func (w *world) router(ctx context.Context, t *testing.T) string {
	return stand(t, func(client net.Conn) {
		defer client.Close()
		for _, name := range []string{lab.RegionB, lab.RegionA} {
			n := w.pair.Node(name)
			if recovery, err := n.QueryText(ctx, "postgres", "SELECT pg_is_in_recovery()::text"); err != nil || recovery != "false" {
				continue
			}
			server, err := net.Dial("tcp", w.relay[name].Addr())
			if err != nil {
				return
			}
			defer server.Close()
			go func() {
				_, _ = io.Copy(server, client)
				_ = server.Close()
			}()
			_, _ = io.Copy(client, server)
			return
		}
	})
}

func newStandInWorld(t *testing.T, opts lab.Options) (context.Context, *world) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	t.Cleanup(cancel)
	w, err := newWorld(ctx, binary, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.pair.Close(), os.RemoveAll(w.dir)); err != nil {
			t.Error(err)
		}
	})
	return ctx, w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func named(found []Violation, name string) bool {
	return slices.ContainsFunc(found, func(v Violation) bool { return v.Name == name })
}

// A router that picks whichever server accepts writes: the standby is promoted while old sessions go on. Bytes go to both, and what the old
// writer acknowledged is missing.
func TestARouterThatFollowsTheRoleAloneIsFoundOut(t *testing.T) {
	ctx, w := newStandInWorld(t, lab.Options{})
	load := startCrowd(ctx, w.pair.AppDSNAt(w.router(ctx, t)), clients, w.clock, w.nodeOf)
	pause(ctx, 2*time.Second)
	r := Run{Old: lab.RegionA, New: lab.RegionB, Clients: clients, Limit: firstAckLimit, LoginLimit: loginLimit, Fault: w.clock()}
	must(t, w.pair.Node(lab.RegionA).ReplicationRelay().Partition())
	must(t, w.pair.Node(lab.RegionB).Promote(ctx))
	// Some sessions end, as they do: their clients are sent to the new writer, the others stay where they are.
	must(t, w.pair.Node(lab.RegionA).Exec(ctx, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'keycloak' AND pid % 2 = 0"))
	pause(ctx, 2*time.Second)
	r.Ops, r.Heard, r.Hung = load.end()
	var err error
	r.Rows, err = w.rows(ctx, w.pair.Node(lab.RegionB))
	must(t, err)
	r.Bytes = map[string]Bytes{lab.RegionA: w.log[lab.RegionA].bytes(), lab.RegionB: w.log[lab.RegionB].bytes()}
	found := Check(r)
	t.Logf("overlap %s, found %d violations", overlap(r), len(found))
	if !named(found, "C7") || !named(found, "C5") {
		t.Errorf("found %v, want C7 (bytes to both) and C5 (acknowledged rows missing)", found)
	}
	// Without the byte logs and the acknowledgements, what the clients heard is enough: sessions of the old writer went on.
	late := Run{Old: r.Old, New: r.New, Heard: r.Heard, Said: Said{Opened: r.Bytes[lab.RegionB].FirstTo}}
	if !named(Check(late), "C7") {
		t.Errorf("that clients heard the old writer after the new one was open was not found: %v", r.Heard)
	}
	// The same run with a statement that claims too little is found out too.
	none := uint64(0)
	r.Said = Said{Requested: map[uint64]int{2: 1}, Kind: "failover", Lossless: "bounded", LossBytes: &none}
	if !named(Check(r), "C5") {
		t.Error("a statement that nothing is lost was believed")
	}
	r.Sync = true
	if !named(Check(r), "C1") {
		t.Error("missing rows with synchronous replication were not found")
	}
}

// A script that promotes at the first failed probe: a postmaster that hangs for a moment is enough.
func TestAScriptThatPromotesAtTheFirstFailedProbeIsFoundOut(t *testing.T) {
	ctx, w := newStandInWorld(t, lab.Options{})
	a, b := w.pair.Node(lab.RegionA), w.pair.Node(lab.RegionB)
	must(t, a.FreezePostmaster())
	probe, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	if c, err := pgx.Connect(probe, a.SuperDSN("postgres")); err == nil {
		_ = c.Close(ctx)
		t.Fatal("a hanging postmaster took a connection")
	}
	must(t, b.Promote(ctx))
	must(t, a.Thaw())
	recovery, err := b.QueryText(ctx, "postgres", "SELECT pg_is_in_recovery()::text")
	must(t, err)
	r := Run{Gray: true, Promoted: recovery != "true", Old: lab.RegionA, New: lab.RegionB}
	if !named(Check(r), "unwanted promotion") {
		t.Errorf("found %v", Check(r))
	}
}

// A proxy that takes logins and leaves them without an answer.
func TestAProxyThatLetsLoginsHangIsFoundOut(t *testing.T) {
	hang := make(chan struct{}) // closed when the test is over
	address := stand(t, func(c net.Conn) {
		<-hang
		_ = c.Close()
	})
	defer close(hang)
	began := time.Now()
	clock := func() time.Duration { return time.Since(began) }
	ctx, cancel := context.WithTimeout(context.Background(), loginLimit+5*time.Second)
	defer cancel()
	load := startCrowd(ctx, "postgres://keycloak:x@"+address+"/keycloak?sslmode=disable", 1, clock, func(string) string { return "" })
	pause(ctx, loginLimit+time.Second)
	r := Run{Old: "a", New: "b", Clients: 1, LoginLimit: loginLimit, Limit: firstAckLimit}
	r.Ops, r.Heard, r.Hung = load.end()
	if found := Check(r); r.Hung == 0 || !named(found, "C9") {
		t.Errorf("%d logins hung, found %v", r.Hung, found)
	}
}

// TestRandomSchedulesKeepEveryPromise plays three schedules of a seed that is printed, two asynchronous and one synchronous.
func TestRandomSchedulesKeepEveryPromise(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) % 1_000_000
	for i, synchronous := range []bool{false, true, false} {
		s := schedule(seed + uint64(i))
		t.Logf("make faults SEED=%d N=1%s: %+v", s.Seed, map[bool]string{true: " SYNC=1"}[synchronous], s)
		r, err := play(t.Context(), binary, s, synchronous)
		must(t, err)
		t.Log(line(r))
		if why := Uncounted(r); why != "" {
			t.Errorf("seed %d does not count: %s", s.Seed, why)
		}
		for _, v := range Check(r) {
			t.Errorf("seed %d: %s", s.Seed, v)
		}
	}
}

// TestSwitchoversKeepEveryPromise plays two switchovers of a seed that is printed, one synchronous.
func TestSwitchoversKeepEveryPromise(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) % 1_000_000
	for i, synchronous := range []bool{false, true} {
		p := planned(seed + uint64(i))
		t.Logf("make faults-switchover SEED=%d N=1%s: %+v", p.Seed, map[bool]string{true: " SYNC=1"}[synchronous], p)
		r, err := playPlanned(t.Context(), binary, p, synchronous)
		must(t, err)
		t.Log(linePlanned(r))
		if why := Uncounted(r); why != "" {
			t.Errorf("seed %d does not count: %s", p.Seed, why)
		}
		for _, v := range Check(r) {
			t.Errorf("seed %d: %s", p.Seed, v)
		}
	}
}
