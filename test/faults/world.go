package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// stableFor is failover.stable_for of the proxies here.
const stableFor = 3 * time.Second

// world is a pair whose servers can only be reached through relays, with a proxy and a load in front.
type world struct {
	pair  *lab.Lab
	began time.Time
	dir   string
	relay map[string]*lab.Relay
	log   map[string]*appBytes

	binary string
	proxy  *rig.Proxy
	// options start the proxy again at the same address.
	options rig.Options
	// auth is the [auth] section of pgtether's configuration; empty for none.
	auth string
}

// appBytes notes when bytes of the application's sessions passed to a server. Those of the probes are left out: they go to every server, always.
type appBytes struct {
	clock func() time.Duration
	began time.Time

	mu   sync.Mutex
	app  map[uint64]bool
	seen Bytes
}

// note is given to a relay. A session is the application's when its startup packet names the application's role.
func (a *appBytes) note(e lab.Event) {
	if e.Direction != lab.ToTarget || e.Kind != lab.Data {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if bytes.Contains(e.Bytes, []byte("user\x00keycloak\x00")) {
		a.app[e.Conn] = true
	}
	if !a.app[e.Conn] {
		return
	}
	at := e.At.Sub(a.began)
	if !a.seen.Seen {
		a.seen.FirstTo, a.seen.Seen = at, true
	}
	a.seen.LastTo = max(a.seen.LastTo, at)
}

func (a *appBytes) bytes() Bytes {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.seen
}

// newWorld starts the pair and its relays, and makes the table.
func newWorld(ctx context.Context, binary string, opts lab.Options) (_ *world, err error) {
	w := &world{began: time.Now(), binary: binary, relay: map[string]*lab.Relay{}, log: map[string]*appBytes{}}
	if w.dir, err = os.MkdirTemp("", "pgtether-faults-"); err != nil {
		return nil, fmt.Errorf("make working directory: %w", err)
	}
	opts.RelayReplication = true
	if w.pair, err = lab.Start(ctx, opts); err != nil {
		return nil, errors.Join(err, os.RemoveAll(w.dir))
	}
	for _, n := range w.pair.Nodes() {
		relay, err := n.Relay()
		if err != nil {
			return nil, errors.Join(err, w.close())
		}
		log := &appBytes{clock: w.clock, began: w.began, app: map[uint64]bool{}}
		relay.Observe(log.note)
		w.relay[n.Name()], w.log[n.Name()] = relay, log
		w.options.Nodes = append(w.options.Nodes, rig.Node{Name: n.Name(), Addr: relay.Addr()})
	}
	sql := "CREATE TABLE w (client int, seq bigint, val text, port text DEFAULT current_setting('port'), process bigint DEFAULT pg_backend_pid()); GRANT ALL ON w TO " + w.pair.AppUser
	if err := w.pair.Node(lab.RegionA).Exec(ctx, w.pair.AppDatabase, sql); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

// clock is the run's clock.
func (w *world) clock() time.Duration { return time.Since(w.began) }

func (w *world) close() error {
	var err error
	if w.proxy != nil {
		err = w.proxy.Stop()
	}
	return errors.Join(err, w.pair.Close(), os.RemoveAll(w.dir))
}

// startProxy starts pgtether, or starts it again on the same state and address.
func (w *world) startProxy(ctx context.Context, mode string) error {
	w.options.Binary, w.options.Dir, w.options.Mode = w.binary, filepath.Join(w.dir, "pgtether"), mode
	w.options.Extra = fmt.Sprintf("stable_for = %q\nanti_flap = \"0s\"\n%s", stableFor, w.auth)
	p, err := rig.Start(ctx, w.pair, w.options)
	if err != nil {
		return err
	}
	w.proxy, w.options.Listen = p, p.Listen
	return nil
}

// nodeOf names the server that listens on a port.
func (w *world) nodeOf(port string) string {
	for _, n := range w.pair.Nodes() {
		if strings.HasSuffix(n.Addr(), ":"+port) {
			return n.Name()
		}
	}
	return "unknown"
}

// rows reads the table of a server, past every proxy.
func (w *world) rows(ctx context.Context, n *lab.Node) (map[Key]int, error) {
	c, err := pgx.Connect(ctx, n.SuperDSN(w.pair.AppDatabase))
	if err != nil {
		return nil, fmt.Errorf("read rows of %s: %w", n.Name(), err)
	}
	defer c.Close(ctx)
	rows, err := c.Query(ctx, "SELECT client, seq, count(*) FROM w GROUP BY 1, 2")
	if err != nil {
		return nil, fmt.Errorf("read rows of %s: %w", n.Name(), err)
	}
	found := map[Key]int{}
	var k Key
	var count int
	_, err = pgx.ForEachRow(rows, []any{&k.Client, &k.Seq, &count}, func() error { found[k] = count; return nil })
	if err != nil {
		return nil, fmt.Errorf("read rows of %s: %w", n.Name(), err)
	}
	return found, nil
}

// said gathers what pgtether says.
func (w *world) said(ctx context.Context) (s Said, steps map[string]time.Duration, err error) {
	status, err := w.proxy.Status(ctx)
	if err != nil {
		return s, nil, err
	}
	events, err := w.proxy.Events(ctx)
	if err != nil {
		return s, nil, err
	}
	s.Requested = map[uint64]int{}
	epoch := uint64(0) // the greatest that was opened
	for _, e := range events {
		s.Detail = append(s.Detail, fmt.Sprintf("%s: %s %s", e.Kind, e.Message, e.Operands["detail"]))
		switch {
		case e.Kind == "opened" && e.Epoch != nil && *e.Epoch > epoch:
			epoch, s.Opened = *e.Epoch, e.At.Sub(w.began)
		case e.Kind == "promotion_requested" && e.Epoch != nil:
			s.Requested[*e.Epoch]++
		case e.Kind == "transition" && (e.Message == "" || len(e.Operands) == 0):
			s.Unexplained = append(s.Unexplained, fmt.Sprintf("event %d, %s to %s", e.Seq, e.StateFrom, e.StateTo))
		}
	}
	s.Detail = s.Detail[max(0, len(s.Detail)-6):]
	steps = map[string]time.Duration{}
	if c := status.LastChange; c != nil {
		s.Lossless, s.LossBytes, s.Kind, s.To = c.Lossless, c.DataLossBytes, c.Kind, c.To
		for _, step := range c.Steps {
			steps[step.Step] += time.Duration(step.MS) * time.Millisecond
		}
	}
	return s, steps, nil
}
