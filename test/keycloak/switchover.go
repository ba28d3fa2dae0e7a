package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

const (
	// warmUp is how long the traffic runs before the first switchover: Java compiles what is used meanwhile.
	warmUp = 20 * time.Second
	// calm is how long it runs before each, and aftermath how long after it is looked for stalls.
	calm, aftermath = 3 * time.Second, 3 * time.Second
	// stallAim is the longest that anybody may have to wait.
	stallAim = time.Second
)

// show is a Keycloak under traffic in front of a pair whose writer is changed.
type show struct {
	settings
	pair   *lab.Lab
	proxy  *rig.Proxy
	server *server
	flow   *traffic
	facts  []*facts
	say    func(string, ...any)

	broken             int
	stalls             []stall
	kept, before, took []int
}

// breaks says which promise was broken.
func (s *show) breaks(format string, args ...any) {
	s.broken++
	fmt.Printf("         BROKEN %s\n", fmt.Sprintf(format, args...))
}

// switchOver changes the writer there and back under a real Keycloak and holds every change to what is promised.
func switchOver(ctx context.Context, given settings) (err error) {
	dir, err := os.MkdirTemp("", "pgtether-keycloak-")
	if err != nil {
		return fmt.Errorf("make working directory: %w", err)
	}
	defer func() {
		if err != nil {
			fmt.Printf("the logs of pgtether and Keycloak are in %s\n", dir)
			return
		}
		err = os.RemoveAll(dir)
	}()
	began := time.Now()
	s := &show{settings: given, say: func(format string, args ...any) {
		fmt.Printf("%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}}
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = visitors // a browser keeps its connection
	// A checkpoint after the divergence would remove the log that pg_rewind reads.
	if s.pair, err = lab.Start(ctx, lab.Options{Settings: map[string]string{"wal_keep_size": "512MB"}}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.pair.Close()) }()
	if err := installLookup(ctx, s.pair); err != nil {
		return err
	}
	s.proxy, err = rig.Start(ctx, s.pair, rig.Options{Binary: s.binary, Dir: filepath.Join(dir, "pgtether"), Mode: "auto",
		Extra: "anti_flap = \"0s\"\n[auth]\nverifier_lookup = \"pgtether.scram_verifier\"\n"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.proxy.Stop()) }()
	if _, err := s.proxy.Await(ctx, "the pair is ready", ready); err != nil {
		return err
	}
	db := database{url: jdbcURL(s.proxy.Listen, s.pair.AppDatabase), user: s.pair.AppUser, password: s.pair.AppPassword, idle: poolSize}
	if s.server, err = boot(ctx, s.home, filepath.Join(dir, "keycloak.log"), db); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.server.stop()) }()
	if err := s.thereAndBack(ctx); err != nil {
		return err
	}
	return s.verdict(ctx, filepath.Join(dir, "keycloak-again.log"))
}

func ready(s rig.Status) bool { return s.State == "STANDBY_READY" }

// installLookup runs the file that users run.
func installLookup(ctx context.Context, pair *lab.Lab) error {
	content, err := os.ReadFile(filepath.Join("configs", "sql", "verifier-lookup.sql"))
	if err != nil {
		return fmt.Errorf("read the function that gives verifiers: %w", err)
	}
	file, err := pair.WriteFile("verifier-lookup.sql", string(content))
	if err != nil {
		return err
	}
	psql, err := pair.Program("psql")
	if err != nil {
		return err
	}
	_, err = pair.Command(ctx, nil, psql, "--no-psqlrc", "-q", "-v", "role="+pair.ProbeUser, "-f", file, "-d", pair.Node(lab.RegionA).SuperDSN("postgres"))
	if err != nil {
		return fmt.Errorf("install the function that gives verifiers: %w", err)
	}
	return nil
}

// thereAndBack makes the users, starts the traffic, and does the switchovers.
func (s *show) thereAndBack(ctx context.Context) error {
	boss, err := newAdmin(ctx, s.server.base)
	if err != nil {
		return err
	}
	if err := errors.Join(boss.createRealm(ctx, realm), boss.createClient(ctx, realm, "app")); err != nil {
		return err
	}
	var names []string
	for i := range visitors {
		names = append(names, userName(i))
		if err := boss.createUser(ctx, realm, names[i]); err != nil {
			return err
		}
	}
	for i := range s.switchovers {
		f, err := newFacts(ctx, boss, i+1)
		if err != nil {
			return err
		}
		s.facts = append(s.facts, f)
	}
	s.say("Keycloak with a pool of %d through pgtether, %d users, %d requests/s of logins, refreshes, userinfo and admin reads, logouts", poolSize, visitors, trafficRate)
	s.flow = startTraffic(ctx, s.server.base, names)
	defer s.flow.end()
	pause(ctx, warmUp)
	writer, other := s.pair.Node(lab.RegionA), s.pair.Node(lab.RegionB)
	for i := range s.switchovers {
		limited, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("not done within two minutes"))
		err := s.one(limited, boss, s.facts[i], writer, other)
		cancel()
		if err != nil {
			return fmt.Errorf("switchover %d to %s: %w", i+1, other.Name(), err)
		}
		writer, other = other, writer
	}
	return nil
}

// one does one switchover, makes the old writer a standby, and prints what it was like.
func (s *show) one(ctx context.Context, boss *admin, f *facts, from, to *lab.Node) error {
	quiet := time.Now()
	pause(ctx, calm)
	if err := f.establish(ctx, boss); err != nil {
		return err
	}
	before, err := s.proxy.Sessions(ctx)
	if err != nil {
		return err
	}
	counted, err := s.counters(ctx)
	if err != nil {
		return err
	}
	ordered, err := s.order(ctx, to.Name())
	if err != nil {
		return err
	}
	opened := time.Now()
	status, err := s.proxy.Await(ctx, "it is done", func(st rig.Status) bool { return st.Writes == "open" && st.Writer != nil && *st.Writer == to.Name() })
	if err != nil {
		return err
	}
	if c := status.LastChange; c == nil || c.Kind != "switchover" || c.To != to.Name() || c.Lossless != "proven" {
		return fmt.Errorf("its end is %+v: %s", c, status.Message)
	}
	pause(ctx, aftermath)
	after, err := s.proxy.Sessions(ctx)
	if err != nil {
		return err
	}
	now, err := s.counters(ctx)
	if err != nil {
		return err
	}
	until := opened.Add(aftermath)
	if err := s.flow.answered(ctx, until); err != nil {
		return err
	}
	fmt.Printf("\n%3d  %s to %s: %s, ordered with pgtether switchover, which took %d ms\n", f.number, from.Name(), to.Name(), s.duration(status.LastChange),
		opened.Sub(ordered).Milliseconds())
	s.report(quiet, ordered, until)
	s.count(before, after, to.Name(), now.minus(counted))
	if err := f.hold(ctx, s.server.base); err != nil {
		s.breaks("security: %v", err)
	}
	if err := to.Await(ctx, "NOT pg_is_in_recovery()"); err != nil {
		return err
	}
	if err := from.Rewind(ctx, to); err != nil {
		return err
	}
	_, err = s.proxy.Await(ctx, "the old writer is a standby", ready)
	return err
}

// order has the writer changed by the command that an operator uses, and returns when that was said. A refusal, after which nothing has been
// changed, is not what is tried here: a busy machine may fail to answer the questions of before in time.
func (s *show) order(ctx context.Context, to string) (ordered time.Time, err error) {
	for range 6 {
		ordered = time.Now()
		out, failed := exec.CommandContext(ctx, s.binary, "switchover", "--to", to, "--config", s.proxy.Config).CombinedOutput()
		if failed == nil {
			return ordered, nil
		}
		err = fmt.Errorf("order it: %w: %s", failed, out)
		if !bytes.Contains(out, []byte("nothing was changed")) {
			return ordered, err
		}
		fmt.Println("     refused, and nothing was changed: ordered again in 5 s")
		pause(ctx, 5*time.Second)
	}
	return ordered, err
}

// counters are what pgtether counts of moves.
type counters struct {
	moved int
	// stood is how long the moved sessions stood still, all of them together.
	stood time.Duration
}

func (s *show) counters(ctx context.Context) (counters, error) {
	moved, err := s.proxy.Counter(ctx, `pgtether_sessions_moved_total{result="moved"}`)
	if err != nil {
		return counters{}, err
	}
	stood, err := s.proxy.Counter(ctx, "pgtether_session_stall_seconds_sum")
	return counters{int(moved), time.Duration(stood * float64(time.Second))}, err
}

func (c counters) minus(before counters) counters {
	return counters{c.moved - before.moved, c.stood - before.stood}
}

func (c counters) String() string {
	return fmt.Sprintf("%d moved, which stood still for %d ms on average", c.moved, (c.stood / time.Duration(max(c.moved, 1))).Milliseconds())
}

// duration says how long the change took, and its longest steps.
func (s *show) duration(c *rig.Change) string {
	var took int64
	var steps []string
	for _, step := range c.Steps {
		took += step.MS
		steps = append(steps, fmt.Sprintf("%s %d", step.Step, step.MS))
	}
	s.took = append(s.took, int(took))
	return fmt.Sprintf("%d ms (%s)", took, strings.Join(steps, ", "))
}

// report prints what users saw of the change.
func (s *show) report(quiet, ordered, until time.Time) {
	usual := stallWithin(s.flow.since(quiet), quiet, ordered)
	results := s.flow.since(ordered)
	st := stallWithin(results, ordered, until)
	s.stalls = append(s.stalls, st)
	fmt.Printf("     %d requests, %d failed; %s\n     (before it, with no change under way: %s)\n", len(results), failures(results), st, usual)
	if st.longest() > stallAim {
		s.breaks("a stall of %d ms; the aim is %d ms", st.longest().Milliseconds(), stallAim.Milliseconds())
	}
}

// failures counts the requests that failed.
func failures(results []result) (n int) {
	for _, r := range results {
		if !r.ok() {
			n++
		}
	}
	return n
}

// count looks which of Keycloak's sessions have become the new writer's.
func (s *show) count(before, after []rig.Session, node string, counted counters) {
	now := map[uint64]rig.Session{}
	opened := 0
	for _, a := range after {
		now[a.ID] = a
		if !slices.ContainsFunc(before, func(b rig.Session) bool { return b.ID == a.ID }) {
			opened++
		}
	}
	kept, movable := 0, 0
	reasons := map[string]int{}
	for _, b := range before {
		if a, ok := now[b.ID]; ok && a.Node == node {
			kept++
		}
		if b.Movable {
			movable++
		} else if b.NotMovableReason != nil {
			reasons[*b.NotMovableReason]++
		}
	}
	s.kept, s.before = append(s.kept, kept), append(s.before, len(before))
	fmt.Printf("     sessions: %d of %d kept, %s; %d were movable beforehand%s; new ones: %d\n", kept, len(before), counted, movable, because(reasons), opened)
	if kept != len(before) || opened > 0 {
		s.breaks("%d of %d sessions kept, %d new ones", kept, len(before), opened)
	}
	if len(before) < poolSize {
		s.breaks("Keycloak had only %d sessions of its pool of %d", len(before), poolSize)
	}
}

func because(reasons map[string]int) string {
	if len(reasons) == 0 {
		return ""
	}
	return fmt.Sprintf(" (others: %v)", reasons)
}
