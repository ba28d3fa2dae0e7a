package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
	"github.com/pgtether/pgtether/test/tellers"
)

const (
	// goClients are ours.
	goClients = 32
	// freshFor is how long before and after a switchover every client must have committed.
	freshFor = 5 * time.Second
	// refusedFor is how long an order that is refused is repeated.
	refusedFor = 30 * time.Second
)

// stage is the pair, the proxy and the clients.
type stage struct {
	settings
	pair  *lab.Lab
	proxy *rig.Proxy
	crowd *tellers.Crowd
	pool  *pool
	bench *bench
	judge *judge
}

// play does the switchovers there and back and returns how many promises were broken.
func play(ctx context.Context, set settings) (broken int, err error) {
	dir, err := os.MkdirTemp("", "pgtether-switchover-")
	if err != nil {
		return 0, fmt.Errorf("make working directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// A checkpoint after the divergence would remove the log that pg_rewind reads.
	pair, err := lab.Start(ctx, lab.Options{Synchronous: set.sync, MaxConnections: 250, Settings: map[string]string{"wal_keep_size": "512MB"}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, pair.Close()) }()
	s := &stage{settings: set, pair: pair}
	if s.proxy, err = s.startProxy(ctx, filepath.Join(dir, "pgtether")); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.proxy.Stop()) }()
	if _, err := s.proxy.Await(ctx, "the pair is ready", ready); err != nil {
		return 0, err
	}
	dsn := pair.AppDSNAt(s.proxy.Listen)
	if err := tellers.Prepare(ctx, dsn); err != nil {
		return 0, err
	}
	s.crowd = tellers.Start(ctx, dsn, goClients)
	defer s.crowd.Halt()
	s.judge = newJudge(s.crowd, set)
	if s.pool, err = startPool(ctx, dir, s.proxy.Listen, s.crowd, set.pool); err != nil {
		return 0, err
	}
	if set.pgbench > 0 {
		if s.bench, err = startBench(ctx, dir, dsn, set.pgbench); err != nil {
			return 0, errors.Join(err, s.pool.halt())
		}
	}
	writer, err := s.thereAndBack(ctx)
	return s.settle(ctx, writer, err)
}

// startProxy starts pgtether; where sessions are to move it knows the role's verifier.
func (s *stage) startProxy(ctx context.Context, dir string) (*rig.Proxy, error) {
	extra := "anti_flap = \"0s\"\n[continuity]\nmode = \"off\"\n"
	if s.moving {
		auth, err := rig.Verifiers(ctx, s.pair.Node(lab.RegionA), dir, s.pair.AppUser)
		if err != nil {
			return nil, err
		}
		extra = "anti_flap = \"0s\"\n" + auth
	}
	return rig.Start(ctx, s.pair, rig.Options{Binary: s.binary, Dir: dir, Mode: "auto", Extra: extra})
}

// settle ends the clients and holds what they were told against the tables.
func (s *stage) settle(ctx context.Context, writer *lab.Node, err error) (broken int, _ error) {
	err = errors.Join(err, s.pool.halt())
	if s.bench != nil {
		err = errors.Join(err, s.bench.halt())
	}
	s.crowd.Halt()
	if s.bench != nil && err == nil {
		fmt.Printf("\npgbench: %s\n", s.bench.summary)
		if err = s.bench.tell(ctx, writer.AppDSN(), s.crowd); err == nil {
			s.judge.late()
		}
	}
	if err != nil {
		return s.judge.broken, err
	}
	found, err := s.crowd.Verify(ctx, writer.AppDSN())
	if err != nil {
		return s.judge.broken, err
	}
	s.judge.sum(found)
	return s.judge.broken, nil
}

func ready(s rig.Status) bool { return s.State == "STANDBY_READY" }

// live is how many clients tell at once what they are told.
func (s *stage) live() int { return goClients + s.settings.pool }

// thereAndBack does the switchovers and returns who is the writer in the end.
func (s *stage) thereAndBack(ctx context.Context) (writer *lab.Node, err error) {
	writer, other := s.pair.Node(lab.RegionA), s.pair.Node(lab.RegionB)
	for i := 0; i < s.n; {
		if err := s.begin(ctx); err != nil {
			return writer, err
		}
		done, err := s.oneAndRejoin(ctx, i+1, writer, other)
		if err != nil {
			return writer, fmt.Errorf("switchover %d to %s: %w", i+1, other.Name(), err)
		}
		if done {
			writer, other = other, writer
			i++
		}
	}
	return writer, nil
}

// oneAndRejoin does one switchover and makes the old writer a standby; false when it was undone.
func (s *stage) oneAndRejoin(ctx context.Context, number int, from, to *lab.Node) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	done, err = s.one(ctx, number, from, to)
	if done && err == nil {
		err = from.Rewind(ctx, to)
	}
	if err == nil {
		_, err = s.proxy.Await(ctx, "the other one is a standby", ready)
	}
	return done, err
}

// begin waits until everybody writes, the pool on every connection.
func (s *stage) begin(ctx context.Context) error {
	if err := s.crowd.Await(ctx, s.live(), time.Now()); err != nil {
		return err
	}
	for began := time.Now(); !s.judge.allThere() && time.Since(began) < 3*freshFor && ctx.Err() == nil; {
		time.Sleep(10 * time.Millisecond)
	}
	if s.bench != nil {
		return s.bench.gaveUp()
	}
	return nil
}

// one does one switchover and has it judged; false when it was undone.
func (s *stage) one(ctx context.Context, number int, from, to *lab.Node) (done bool, err error) {
	c := change{number: number, from: from.Name(), to: to.Name()}
	if c.ordered, err = s.order(ctx, to.Name()); err != nil {
		return false, err
	}
	undone := ""
	status, err := s.proxy.Await(ctx, "it is done or undone", func(st rig.Status) bool {
		if st.Writes != "open" || st.State == "PROMOTING" || st.Writer == nil {
			return false
		}
		undone = s.undone(ctx, c.ordered)
		return *st.Writer == to.Name() || undone != ""
	})
	if err != nil {
		return false, err
	}
	c.opened = time.Now()
	if *status.Writer == from.Name() {
		s.judge.undone(c, undone)
		return false, nil
	}
	last := status.LastChange
	if last == nil || last.Kind != "switchover" || last.To != to.Name() || last.Lossless != "proven" || last.DataLossBytes == nil || *last.DataLossBytes != 0 {
		return false, fmt.Errorf("its end is %+v: %s", last, status.Message)
	}
	for _, step := range last.Steps {
		c.took += time.Duration(step.MS) * time.Millisecond
	}
	s.afterwards(ctx, c)
	s.judge.now(c)
	return true, nil
}

// undone says why what was ordered at an instant has been undone; empty while it has not.
func (s *stage) undone(ctx context.Context, ordered time.Time) string {
	events, err := s.proxy.Events(ctx)
	if err != nil {
		return "" // asked again soon
	}
	for _, e := range slices.Backward(events) {
		if e.Kind == "undone" && e.At.After(ordered) {
			return fmt.Sprintf("%s %s", e.Message, e.Operands["detail"])
		}
	}
	return ""
}

// order orders a switchover and returns when. One that is refused, because a probe was late just then, is ordered again when the pair is ready.
func (s *stage) order(ctx context.Context, to string) (time.Time, error) {
	for began := time.Now(); ; {
		ordered := time.Now()
		err := s.proxy.Switch(ctx, to, "")
		if err == nil || time.Since(began) > refusedFor {
			return ordered, err
		}
		if _, err := s.proxy.Await(ctx, "the pair is ready again", ready); err != nil {
			return ordered, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// afterwards waits until every client has committed again, and, where sessions move, until each of them was seen again. The judge says it when that
// has not come in time.
func (s *stage) afterwards(ctx context.Context, c change) {
	after, cancel := context.WithTimeout(ctx, freshFor)
	defer cancel()
	_ = s.crowd.Await(after, s.live(), c.opened)
	for s.moving && after.Err() == nil && !s.judge.allKept(c) {
		time.Sleep(10 * time.Millisecond)
	}
}
