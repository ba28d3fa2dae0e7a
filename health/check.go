package health

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// Severity says what a finding means for a failover.
type Severity string

const (
	// Blocker: while it lasts no failover to, or from, the node can succeed or be allowed.
	Blocker Severity = "blocker"
	// Warning: a failover works, but worse than it could: slower, with more loss, or with work for people afterwards.
	Warning Severity = "warning"
	// Info: worth knowing.
	Info Severity = "info"
)

// Finding is one thing that was found about a node, in words for people.
type Finding struct {
	// Node is the configured name; empty when the finding is about the nodes together.
	Node     string   `json:"node"`
	Severity Severity `json:"severity"`
	// What was found; Hint is what can be done about it, maybe empty.
	What string `json:"what"`
	Hint string `json:"hint,omitempty"`
}

// Check asks every node once and returns what would block a failover, make it worse, or is worth knowing: by node in the given order, the
// worst first, those about all nodes together at the end. It changes nothing and returns within about twice the targets' timeout.
func Check(ctx context.Context, targets []Target) []Finding {
	patients := make([]patient, len(targets))
	var wg sync.WaitGroup
	for i, t := range targets {
		wg.Go(func() { patients[i] = examine(ctx, t) })
	}
	wg.Wait()
	return judge(patients)
}

// patient is all that is known of one node. What could not be asked is absent.
type patient struct {
	name  string
	seen  decision.Observation
	role  row   // what the probe's role may do
	extra row   // parameters beyond those of an observation, by name
	slots []row // replication slots
	lax   []row // roles and databases whose commits ask for less
}

// The statements of a check, beyond those of a round.
const (
	checkRole = iota
	checkSettings
	checkSlots
	checkLax
)

var checkedSettings = []string{"primary_slot_name", "max_standby_streaming_delay", "client_connection_check_interval", "allow_alter_system", "fsync"}

func checkStatements(major int) []string {
	role := "SELECT r.rolsuper AS superuser, r.rolreplication AS replication, pg_has_role('pg_monitor', 'USAGE') AS pg_monitor, " +
		"pg_has_role('pg_signal_backend', 'USAGE') AS pg_signal_backend, " +
		"(SELECT bool_or(has_function_privilege(p.oid, 'EXECUTE')) FROM pg_proc p WHERE p.proname = 'pg_logical_emit_message' " +
		"AND p.proargtypes[2] = 'text'::regtype) AS emit"
	if major >= 15 {
		role += ", pg_has_role('pg_checkpoint', 'USAGE') AS pg_checkpoint, has_function_privilege('pg_reload_conf()', 'EXECUTE') AS pg_reload_conf"
		for _, name := range fenceParameters {
			role += ", has_parameter_privilege('" + name + "', 'ALTER SYSTEM') AS " + name
		}
	}
	return []string{
		checkRole:     role + " FROM pg_roles r WHERE r.rolname = current_user",
		checkSettings: settingsStatement(checkedSettings),
		checkSlots:    "SELECT slot_name, active, wal_status FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary ORDER BY slot_name LIMIT 100",
		checkLax: "SELECT coalesce(d.datname, '') AS database, coalesce(r.rolname, '') AS role, c AS setting FROM pg_db_role_setting s " +
			"LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) c " +
			"WHERE c ~* '" + relaxed + "' ORDER BY 1, 2 LIMIT 100",
	}
}

// fenceParameters are those that pgtether may ALTER SYSTEM from PostgreSQL 15 on.
var fenceParameters = []string{"default_transaction_read_only", "synchronous_standby_names", "primary_conninfo"}

// examine makes a round and asks on over its kept connection.
func examine(ctx context.Context, t Target) patient {
	start := time.Now()
	p := NewProber(func() decision.Instant { return decision.Instant(time.Since(start)) })
	defer p.Close()
	sick := patient{name: t.Node, seen: p.Probe(ctx, t), role: row{}, extra: row{}}
	l := p.persistent
	if !l.open() {
		return sick
	}
	ctx, cancel := context.WithTimeout(ctx, t.Timeout)
	defer cancel()
	l.guard.begin(deadlineOf(ctx))
	answers, err := l.ask(ctx, checkStatements(l.major()))
	if err != nil {
		return sick
	}
	sick.role, sick.extra = single(answers[checkRole]), readSettings(answers[checkSettings])
	sick.slots, sick.lax = answers[checkSlots].rows, answers[checkLax].rows
	return sick
}

// findings gathers what the rules find.
type findings struct {
	nodes []patient
	all   []Finding
}

func (f *findings) add(node string, s Severity, what, hint string) {
	f.all = append(f.all, Finding{Node: node, Severity: s, What: clean(what, 1000), Hint: hint})
}

// judge applies every rule. It is a function of its argument.
func judge(nodes []patient) []Finding {
	f := &findings{nodes: nodes}
	for _, n := range nodes {
		if !f.reachable(n) {
			continue
		}
		for _, rule := range nodeRules {
			rule(f, n)
		}
	}
	for _, rule := range pairRules {
		rule(f)
	}
	order := map[string]int{"": len(nodes)}
	for i, n := range nodes {
		order[n.name] = i
	}
	rank := map[Severity]int{Blocker: 0, Warning: 1, Info: 2}
	slices.SortStableFunc(f.all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(order[a.Node], order[b.Node]), cmp.Compare(rank[a.Severity], rank[b.Severity]))
	})
	return f.all
}

// with returns the reachable nodes in a role.
func (f *findings) with(role decision.Role) []patient {
	var out []patient
	for _, n := range f.nodes {
		if n.seen.Role == role {
			out = append(out, n)
		}
	}
	return out
}

// names lists nodes as people do.
func names(nodes []patient) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.name)
	}
	return strings.Join(all, " and ")
}
