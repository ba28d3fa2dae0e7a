package continuity

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "seed of the random histories; 0 takes one from the clock and prints it")
	countFlag = flag.Int("histories", 300, "number of random histories")
)

func sortedNames(m map[string][]string) []string { return slices.Sorted(maps.Keys(m)) }

// perform sends one batch to a session. For a Known it follows the unnamed statement by the answers, as a proxy would.
func (g *generator) perform(c *client, batch []part, follow bool) ([]message, error) {
	var request []byte
	ready := 0
	for _, p := range batch {
		request = append(request, p.data...)
		if p.kind == 'S' || p.kind == 'Q' {
			ready++
		}
	}
	answers, err := c.send(request, ready)
	if err == nil && follow {
		g.follow(batch, answers)
	}
	return answers, err
}

// follow walks a batch and its answers side by side.
func (g *generator) follow(batch []part, answers []message) {
	at := 0
	until := func(kinds string) byte {
		for ; at < len(answers); at++ {
			if strings.IndexByte(kinds, answers[at].kind) >= 0 {
				at++
				return answers[at-1].kind
			}
		}
		return 0
	}
	skipping := false
	for _, p := range batch {
		switch {
		case p.kind == 'Q':
			g.unnamed = nil
			until("Z")
		case p.kind == 'S':
			until("Z")
			skipping = false
		case skipping:
		default:
			ends := map[byte]string{'P': "1E", 'B': "CIsE", 'C': "3E"}[p.kind]
			failed := until(ends) == 'E'
			switch {
			case p.name != "":
			case p.kind == 'P' && failed, p.kind == 'C':
				g.unnamed = nil
			case p.kind == 'P':
				g.unnamed = p.stmt
			}
			skipping = failed
		}
	}
}

// expected is the obstacle that another session of the same history shows, by other questions than Take asks; they disturb that session.
func (g *generator) expected(c *client, known Known) (Obstacle, error) {
	ask := func(text string) (string, error) {
		all, err := c.send(query(text), 1)
		return strings.TrimSuffix(outcome(all), "\n"), err
	}
	unnamed, err := c.send(appendSync(appendStatement(nil, 'D', "")), 1)
	if err != nil {
		return "", err
	}
	values := "SELECT pg_catalog.string_agg(statement, '') FROM pg_catalog.pg_prepared_statements"
	for _, name := range known.Custom {
		values += " UNION ALL SELECT pg_catalog.current_setting('" + name + "', true)"
	}
	if said, err := ask(values); err != nil || strings.HasPrefix(said, "error 22P05") {
		return StateUnreadable, err
	}
	for _, q := range []struct {
		text     string
		obstacle Obstacle
	}{
		{"SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()) + (SELECT count(*) FROM pg_proc WHERE pronamespace = pg_my_temp_schema()) + " +
			"(SELECT count(*) FROM pg_type WHERE typnamespace = pg_my_temp_schema()) + (SELECT count(*) FROM pg_collation WHERE collnamespace = pg_my_temp_schema())", TempObjects},
		{"SELECT count(*) FROM pg_listening_channels()", Listening},
		{"SELECT count(*) FROM pg_cursors WHERE is_holdable", HoldableCursor},
		{"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()", AdvisoryLock},
	} {
		n, err := ask(q.text)
		if err != nil || strings.HasPrefix(n, "error") {
			return "", fmt.Errorf("%s: %s: %w", q.text, n, err)
		}
		if n != "0" {
			return q.obstacle, nil
		}
	}
	if known.CustomUnknown {
		return CustomUnknown, nil
	}
	if o, err := g.expectedOfStatements(c, known, ask); o != "" || err != nil {
		return o, err
	}
	if known.UnnamedUnsure && outcome(unnamed) == "" {
		return UnnamedUnknown, nil
	}
	if known.Unnamed == nil || outcome(unnamed) != "" {
		return "", nil
	}
	// Its text was read under settings that may have changed.
	doubt, err := ask("SELECT count(*) FILTER (WHERE name = 'client_encoding'), count(*) FILTER (WHERE name = 'standard_conforming_strings'), " +
		"current_setting('client_encoding') FROM pg_settings WHERE source = 'session'")
	text := known.Unnamed.Text
	if !ascii(text) && strings.HasPrefix(doubt, "1") || strings.Contains(text, `\`) && (known.StringsChanged || strings.Contains(doubt, "|1|") || strings.HasSuffix(doubt, "SJIS")) {
		return UnnamedUnknown, err
	}
	return "", err
}

func (g *generator) expectedOfStatements(c *client, known Known, ask func(string) (string, error)) (Obstacle, error) {
	strict, err := ask("SELECT source = 'session' OR current_setting('client_encoding') = 'SJIS' FROM pg_settings WHERE name = 'standard_conforming_strings'")
	if err != nil {
		return "", err
	}
	all, err := c.send(query("SELECT name, statement, from_sql FROM pg_prepared_statements"), 1)
	if err != nil {
		return "", err
	}
	invalid := false
	for _, m := range all {
		if m.kind != 'D' {
			continue
		}
		columns, err := splitRow([]byte(m.body))
		if err != nil {
			return "", err
		}
		if g.unclear[string(columns[1])] || (strict == "t" || known.StringsChanged) && strings.Contains(string(columns[1]), `\`) {
			return PreparedUnclear, nil
		}
		described, err := c.send(appendSync(appendStatement(nil, 'D', string(columns[0]))), 1)
		if err != nil {
			return "", err
		}
		invalid = invalid || strings.HasPrefix(outcome(described), "error")
	}
	if invalid {
		return PreparedInvalid, nil
	}
	return "", nil
}

// history is one random history on three sessions: one is moved, one stays, and one is asked what is in the way of a move.
type history struct {
	g                      *generator
	t                      *testing.T
	l                      *lab.Lab
	user                   string
	parameters             []string
	batches                [][]part
	session, twin, oracle  *client
	fresh                  *client
	functions              []string
	moved, refused, failed *atomic.Int64
	kinds                  *sync.Map
}

func (h *history) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q\n", h.user, h.parameters)
	for _, batch := range h.batches {
		for _, p := range batch {
			fmt.Fprintf(&b, "  %c %s %q\n", p.kind, p.name, p.text)
		}
	}
	return b.String()
}

func (h *history) run() error {
	r := h.g.r
	h.user = "app"
	if h.g.boss {
		h.user = "boss"
	}
	h.parameters = pick(r, nil, []string{"TimeZone", "Europe/Berlin"}, []string{"application_name", "first", "DateStyle", "ISO"},
		[]string{"options", "-c my.x=start -c work_mem=6MB"}, []string{"client_encoding", "LATIN1"}, []string{"options", "-c search_path=two,public"})
	for _, c := range []**client{&h.session, &h.twin, &h.oracle} {
		*c = connect(h.t, h.l, h.user, h.parameters...)
	}
	defer func() {
		for _, c := range []*client{h.session, h.twin, h.oracle, h.fresh} {
			if c != nil {
				_ = c.conn.Close()
			}
		}
	}()
	for range 1 + r.IntN(18) {
		batch := h.g.next()
		h.batches = append(h.batches, batch)
		mine, err := h.g.perform(h.session, batch, true)
		if err != nil {
			return err
		}
		for _, c := range []*client{h.twin, h.oracle} {
			others, err := h.g.perform(c, batch, false)
			if err != nil {
				return err
			}
			if a, b := outcome(mine), outcome(others); a != b {
				return fmt.Errorf("session and twin differ before the move: %q, %q", a, b)
			}
		}
	}
	return h.move()
}

func (h *history) move() error {
	known := Known{StringsChanged: h.session.strings, Custom: slices.Concat(slices.Sorted(maps.Keys(h.g.custom)), h.functions), Unnamed: h.g.unnamed}
	known.UnnamedUnsure, known.CustomUnknown = h.g.r.IntN(20) == 0, h.g.r.IntN(50) == 0
	want, err := h.g.expected(h.oracle, known)
	if err != nil {
		return err
	}
	told := maps.Clone(h.session.told)
	state, obstacle, aside, err := Take(h.session.conn, known)
	if err != nil && obstacle == "" {
		return err
	}
	if len(aside) > 0 {
		return fmt.Errorf("take has messages for the client: %q", aside)
	}
	if obstacle != want {
		return fmt.Errorf("obstacle %q (%v); want %q", obstacle, err, want)
	}
	h.kinds.Store(obstacle, true)
	if obstacle != "" {
		h.refused.Add(1)
		return h.compare(h.session, "the session after a refused move")
	}
	h.fresh = connect(h.t, h.l, h.user, h.parameters...)
	owed, err := state.Replay(h.fresh.conn, maps.Clone(h.fresh.told))
	if refusal(err) != nil && refusal(err).SQLState == "42501" && h.user == "app" {
		h.failed.Add(1) // a superuser's setting, made under another role
		return h.compare(h.session, "the session after a failed move")
	}
	if h.twinRefuses(state, refusal(err)) {
		h.failed.Add(1) // a statement without a result, which its own server looks at again only when it is run
		return h.compare(h.session, "the session after a failed move")
	}
	if err != nil {
		return err
	}
	h.moved.Add(1)
	if err := deliver(told, owed); err != nil {
		return err
	}
	if h.g.r.IntN(4) == 0 {
		return h.compare(h.session, "the session after Take")
	}
	h.fresh.told = told
	return h.compare(h.fresh, "the moved session")
}

// twinRefuses reports whether the twin could not prepare one of the statements anew either: the search_path is another one now.
func (h *history) twinRefuses(state *State, refused *Refusal) bool {
	if refused == nil {
		return false
	}
	for _, p := range state.prepared {
		if p.sql {
			continue
		}
		request := appendStatement(appendParse(nil, textName, p.text.Value(), p.types), 'C', textName)
		err := newTalk(h.twin.conn).run([]step{{what: "prepare", request: request, answers: "13"}})
		if again := refusal(err); again != nil && again.SQLState == refused.SQLState {
			return true
		}
	}
	return false
}

// deliver is what a client makes of the ParameterStatus messages that it is owed.
func deliver(told map[string]string, owed []byte) error {
	c := &client{told: told}
	mine, other := net.Pipe()
	defer func() { _ = mine.Close() }()
	go func() {
		_, _ = other.Write(owed)
		_ = other.Close()
	}()
	t := newTalk(mine)
	for {
		kind, body, err := t.message()
		if err != nil {
			return nil
		}
		name, value, err := parameterStatus(body)
		if kind != 'S' || err != nil {
			return fmt.Errorf("owed message %q: %w", kind, err)
		}
		if c.told[name] == value {
			return fmt.Errorf("parameter %s is owed, but has not changed", name)
		}
		c.told[name] = value
	}
}

func (h *history) compare(c *client, what string) error {
	custom := slices.Concat(customNamesOfTexts, []string{"inside.value", "my_fn.other"})
	want, err := observe(h.twin, custom)
	if err != nil {
		return err
	}
	got, err := observe(c, custom)
	if err != nil {
		return err
	}
	if d := want.differences(got); d != "" {
		return fmt.Errorf("%s differs from its unmoved twin:\n%s", what, d)
	}
	return nil
}

func TestAMovedSessionCannotBeToldFromAnUnmovedOne(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed=%d -histories=%d", seed, *countFlag)
	l := startServer(t)
	asked := connect(t, l, "app")
	functions, _, err := CustomNames(asked.conn)
	if err != nil {
		t.Fatal(err)
	}
	var moved, refused, failed, next atomic.Int64
	var kinds sync.Map
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(*countFlag) && !t.Failed(); i = next.Add(1) - 1 {
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				g := &generator{r: r, boss: r.IntN(4) == 0, custom: map[string]bool{}, unclear: map[string]bool{}}
				h := &history{g: g, t: t, l: l, functions: functions, moved: &moved, refused: &refused, failed: &failed, kinds: &kinds}
				if err := h.run(); err != nil {
					t.Errorf("history %d of seed %d: %v\n%s", i, seed, err, h.text())
				}
			}
		})
	}
	workers.Wait()
	seen := 0
	kinds.Range(func(any, any) bool { seen++; return true })
	t.Logf("%d moved, %d refused by Take, %d by Replay; %d different verdicts", moved.Load(), refused.Load(), failed.Load(), seen)
	if !t.Failed() && *countFlag >= 300 && (moved.Load() < int64(*countFlag)/2 || seen < 5) {
		t.Error("the histories show too little")
	}
}
