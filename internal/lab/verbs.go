package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// console carries out faults given as lines of text, one at a time, wherever they come from.
type console struct {
	lab    *Lab
	info   Info
	relays map[string]*Relay // between the proxy and each node
	quit   func()
	busy   sync.Mutex
}

// verb is one fault, or another thing to ask for.
type verb struct {
	name, args, help string
	// run gets the words after the verb; the first is a node unless args is empty.
	run func(c *console, ctx context.Context, n *Node, words []string) (string, error)
}

// verbs is a function for its order of initialisation: help lists them.
func verbs() []verb {
	none := func(do func(*Node) error) func(*console, context.Context, *Node, []string) (string, error) {
		return func(_ *console, _ context.Context, n *Node, _ []string) (string, error) { return "", do(n) }
	}
	timed := func(do func(*Node, context.Context) error) func(*console, context.Context, *Node, []string) (string, error) {
		return func(_ *console, ctx context.Context, n *Node, _ []string) (string, error) { return "", do(n, ctx) }
	}
	return []verb{
		{"status", "", "what each node is now", (*console).status},
		{"kill", "NODE [postmaster]", "kill -9 of the whole server, or of its first process alone", (*console).kill},
		{"freeze", "NODE [postmaster]", "SIGSTOP to the whole server, or to its first process alone", (*console).freeze},
		{"thaw", "NODE", "SIGCONT", none((*Node).Thaw)},
		{"stop", "NODE [fast|immediate|smart]", "an orderly stop (default fast)", (*console).stop},
		{"start", "NODE", "start a server that is down", timed((*Node).Start)},
		{"promote", "NODE", "make a standby a primary", timed((*Node).Promote)},
		{"pause", "NODE", "pause replay on a standby", timed((*Node).PauseReplay)},
		{"resume", "NODE", "let it go on", timed((*Node).ResumeReplay)},
		{"demote", "NODE", "stop cleanly and start as a standby of the other primary", following((*Node).Demote)},
		{"rewind", "NODE", "the same after pg_rewind", following((*Node).Rewind)},
		{"rebuild", "NODE", "the same from a fresh base backup", following((*Node).Rebuild)},
		{"blackhole", relayArgs, "let nothing through to the node and back (default clients: what goes through its relay)", onRelays("clients", blackhole)},
		{"partition", relayArgs, "the same, and connects get no answer", onRelays("clients", partition)},
		{"refuse", relayArgs, "refuse new connections to the node", onRelays("clients", refuse)},
		{"reset", relayArgs, "reset the connections to the node", onRelays("clients", reset)},
		{"delay", relayArgs + " DURATION", "delay each direction, such as 50ms", onRelays("clients", delay)},
		{"heal", relayArgs, "end the faults of the network (default all)", onRelays("all", heal)},
		{"info", "", "print the addresses again", func(c *console, _ context.Context, _ *Node, _ []string) (string, error) {
			var b strings.Builder
			err := c.info.print(&b, false)
			return strings.TrimSuffix(b.String(), "\n"), err
		}},
		{"help", "", "this list", func(*console, context.Context, *Node, []string) (string, error) { return helpText(), nil }},
		{"quit", "", "end the lab", func(c *console, _ context.Context, _ *Node, _ []string) (string, error) { c.quit(); return "", nil }},
	}
}

func helpText() string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, v := range verbs() {
		fmt.Fprintf(t, "%s\t%s\n", strings.TrimSpace(v.name+" "+v.args), v.help)
	}
	t.Flush() // writes to a strings.Builder do not fail
	return strings.TrimSuffix(b.String(), "\n")
}

// obey carries out one line and returns the answer.
func (c *console) obey(ctx context.Context, line string) (string, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return "", nil
	}
	i := slices.IndexFunc(verbs(), func(v verb) bool { return v.name == words[0] })
	if i < 0 {
		return "", fmt.Errorf("unknown fault %q: help lists them", words[0])
	}
	v, words := verbs()[i], words[1:]
	n, words, err := c.operands(v, words)
	if err != nil {
		return "", err
	}
	c.busy.Lock()
	defer c.busy.Unlock()
	began := time.Now()
	answer, err := v.run(c, ctx, n, words)
	if err != nil || answer != "" || n == nil {
		return answer, err
	}
	return fmt.Sprintf("%s %s: done in %s", v.name, n.name, took(began)), nil
}

// operands splits off the node, and refuses words that the verb has no use for.
func (c *console) operands(v verb, words []string) (*Node, []string, error) {
	usage := fmt.Errorf("usage: %s", strings.TrimSpace(v.name+" "+v.args))
	if len(words) > len(strings.Fields(v.args)) {
		return nil, nil, usage
	}
	if v.args == "" {
		return nil, nil, nil
	}
	if len(words) == 0 {
		return nil, nil, usage
	}
	if n := c.lab.Node(words[0]); n != nil {
		return n, words[1:], nil
	}
	var names []string
	for _, n := range c.lab.Nodes() {
		names = append(names, n.name)
	}
	return nil, nil, fmt.Errorf("unknown node %q: want %s", words[0], strings.Join(names, " or "))
}

func (c *console) kill(_ context.Context, n *Node, words []string) (string, error) {
	return "", wholeOrPostmaster(words, n.Kill9, n.Kill9Postmaster)
}

func (c *console) freeze(_ context.Context, n *Node, words []string) (string, error) {
	return "", wholeOrPostmaster(words, n.FreezeAll, n.FreezePostmaster)
}

func wholeOrPostmaster(words []string, whole, postmaster func() error) error {
	switch firstOf(words, "all") {
	case "all":
		return whole()
	case "postmaster":
		return postmaster()
	default:
		return fmt.Errorf("unknown part %q: want postmaster or nothing", words[0])
	}
}

func (c *console) stop(ctx context.Context, n *Node, words []string) (string, error) {
	return "", n.Stop(ctx, StopMode(firstOf(words, string(Fast))))
}

// following runs do with the primary that the node is to follow.
func following(do func(*Node, context.Context, *Node) error) func(*console, context.Context, *Node, []string) (string, error) {
	return func(c *console, ctx context.Context, n *Node, _ []string) (string, error) {
		for _, other := range c.lab.Nodes() {
			if other != n && c.lab.isPrimary(ctx, other) {
				return "", do(n, ctx, other)
			}
		}
		return "", errors.New("no other node is a primary: promote one first")
	}
}

// relayArgs are the operands of the faults of the network.
const relayArgs = "NODE [clients|replication|all]"

// onRelays runs do on the relays that the second word names. A node without a relay for replication has "all" mean the other one.
func onRelays(otherwise string, do func(r *Relay, words []string) error) func(*console, context.Context, *Node, []string) (string, error) {
	return func(c *console, _ context.Context, n *Node, words []string) (string, error) {
		which := otherwise
		if len(words) > 0 && slices.Contains([]string{"clients", "replication", "all"}, words[0]) {
			which, words = words[0], words[1:]
		}
		var relays []*Relay
		if r := c.relays[n.name]; r != nil && which != "replication" {
			relays = append(relays, r)
		}
		if r := n.upstream; r != nil && which != "clients" {
			relays = append(relays, r)
		}
		if len(relays) == 0 {
			return "", fmt.Errorf("node %s has no such relay", n.name)
		}
		var errs []error
		for _, r := range relays {
			errs = append(errs, do(r, words))
		}
		return "", errors.Join(errs...)
	}
}

func blackhole(r *Relay, _ []string) error { r.Blackhole(); return nil }

func partition(r *Relay, _ []string) error { return r.Partition() }

func refuse(r *Relay, _ []string) error { return r.Refuse() }

func reset(r *Relay, _ []string) error { r.Reset(); return nil }

func heal(r *Relay, _ []string) error { return r.Heal() }

func delay(r *Relay, words []string) error {
	d, err := time.ParseDuration(firstOf(words, ""))
	if err != nil || d < 0 {
		return fmt.Errorf("delay %q: want a duration such as 50ms", firstOf(words, ""))
	}
	r.Delay(d)
	return nil
}

// statusPatience is how long status waits for one node: a frozen one never answers.
const statusPatience = 2 * time.Second

func (c *console) status(ctx context.Context, _ *Node, _ []string) (string, error) {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, n := range c.lab.Nodes() {
		fmt.Fprintf(t, "%s\t%s\t%s\n", n.name, n.Addr(), n.describe(ctx))
	}
	t.Flush() // writes to a strings.Builder do not fail
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// describe says in words what the node is now.
func (n *Node) describe(ctx context.Context) string {
	if !n.Running() {
		if left := len(n.Processes()); left > 0 {
			return fmt.Sprintf("postmaster is dead, %d of its children live", left)
		}
		return "down"
	}
	if processState(n.PID()) == 'T' {
		if slices.ContainsFunc(n.Processes(), func(pid int) bool { return processState(pid) != 'T' }) {
			return "postmaster is frozen, its sessions go on"
		}
		return "frozen"
	}
	ctx, cancel := context.WithTimeout(ctx, statusPatience)
	defer cancel()
	text, err := n.QueryText(ctx, "postgres", `SELECT CASE WHEN pg_is_in_recovery()
		THEN 'standby, replayed ' || coalesce(pg_last_wal_replay_lsn()::text, 'nothing')
			|| CASE WHEN EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') THEN ', streaming' ELSE ', not streaming' END
			|| CASE WHEN pg_is_wal_replay_paused() THEN ', replay paused' ELSE '' END
		ELSE 'primary, timeline ' || ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int || ', at ' || pg_current_wal_lsn()
			|| ', standbys: ' || coalesce((SELECT string_agg(application_name || ' (' || sync_state || ')', ', ') FROM pg_stat_replication), 'none') END`)
	if err != nil {
		return "does not answer: " + err.Error()
	}
	return text
}
