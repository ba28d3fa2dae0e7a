package archtest

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Room says what the packages below one path of the module may import.
type Room struct {
	// Path is the room's path in the module; it covers the packages below it too.
	Path string
	// Ours lists the rooms of this module that its non-test code may import; "*" stands for all but cmd.
	Ours []string
	// Tests lists rooms that its test code may import besides Ours.
	Tests []string
	// Never lists import paths outside the module that its code must not import directly; NeverReach those that it must not
	// reach through anything either.
	Never, NeverReach []string
	// Std, when set, is the complete list of what it may import from outside the module.
	Std []string
	// Why is the reason, printed with every violation.
	Why string
}

// Rooms is the house plan. A package without a room here is a violation: a new room is a decision, not an accident.
func Rooms() []Room {
	return []Room{
		{
			Path: "decision", Std: []string{"cmp", "errors", "fmt", "maps", "math", "slices", "strconv", "strings", "time"},
			Tests: []string{"internal/scripts"},
			Why:   "the same recorded inputs must give the same decision, byte for byte: the engine sees nothing but its events",
		},
		{
			Path: "internal/pgwire", Tests: []string{"internal/lab"}, NeverReach: []string{"net", "net/http", "crypto/tls"},
			Why: "the codec reads and writes bytes; whoever owns the socket owns the deadline, so it cannot hang or dial",
		},
		{
			Path: "internal/scram", Tests: []string{"internal/lab", "internal/pgwire"}, NeverReach: []string{"net", "net/http"},
			Why: "the exchange is arithmetic on messages; it must be testable against vectors without a connection",
		},
		{
			Path: "internal/continuity", Ours: []string{"internal/pgwire"}, Tests: []string{"internal/lab"}, NeverReach: []string{"net", "net/http"},
			Why: "a session's state is asked for and made again on connections that others own, with deadlines that others set",
		},
		{
			Path: "internal/metrics",
			Why:  "every room may count, so counting may know no room",
		},
		{
			Path: "proxy", Ours: []string{"internal/pgwire", "internal/scram", "internal/continuity", "internal/metrics"}, Tests: []string{"internal/lab"},
			Why: "the data path must not change with policy: it gets routes and cuts, and never asks why",
		},
		{
			Path: "health", Ours: []string{"decision", "internal/pgwire", "internal/metrics"}, Tests: []string{"internal/lab"},
			Why: "a probe is a function of its arguments: it reports what a node says and decides nothing",
		},
		{
			Path: "internal/control", Ours: []string{"decision", "internal/metrics"}, Never: []string{"net", "net/http", "github.com/jackc/pgx/v5"},
			Tests: []string{"internal/lab"},
			Why:   "the shell owns small interfaces that the command satisfies, so every order of results can be tested without a socket",
		},
		{
			Path: "internal/admin", Ours: []string{"decision"},
			Why: "what an operator reads is a copy of the engine's status; a page must not be able to reach the data path",
		},
		{
			Path: "internal/config", Ours: []string{"decision", "health", "proxy", "internal/admin"},
			Why: "each room owns its Config and checks it; the file format knows them all and none knows it",
		},
		{
			Path: "internal/lab",
			Why:  "the lab judges the product: it must not share its code, or a bug would hide on both sides",
		},
		{
			Path: "internal/archtest",
			Why:  "the rules look at every room from outside",
		},
		{
			Path: "bench", Ours: []string{"internal/pgwire", "internal/metrics", "proxy"}, Tests: []string{"internal/lab"},
			Why: "the benchmark measures the forwarding path, not the control side",
		},
		{
			Path: "bench/peers", Ours: []string{"internal/lab", "test/rig"},
			Why: "side by side with other proxies, pgtether is what a user has: the binary and its configuration",
		},
		{
			Path: "test", Ours: []string{"internal/lab", "internal/pgwire"}, Tests: []string{"*"},
			Why: "end-to-end programs use what a user has: the binary, its HTTP interface and PostgreSQL's protocol",
		},
		{
			Path: "configs", Tests: []string{"internal/config", "internal/lab"},
			Why: "files that a user copies hold no code",
		},
		{
			Path: "cmd", Ours: []string{"*"},
			Why: "the command wires everything, so nothing else has to know two rooms at once",
		},
	}
}

// CheckImports holds every package against its room.
func CheckImports(m *Module, rooms []Room) []Violation {
	var out []Violation
	for _, p := range m.Packages {
		name := m.Room(p)
		room, ok := roomOf(rooms, name)
		if !ok {
			out = append(out, Violation{Pos: p.ImportPath, What: "this package has no room in archtest.Rooms",
				Why: "a new room is a decision: say in the table what it may import, and why"})
			continue
		}
		c := importCheck{module: m.Path, pkg: p.ImportPath, room: room}
		c.direct(p.Imports, room.Ours, "imports")
		c.direct(slices.Concat(p.TestImports, p.XTestImports), slices.Concat(room.Ours, room.Tests), "imports in a test")
		c.outside(p.Imports, p.Deps)
		out = append(out, c.found...)
	}
	return out
}

// roomOf finds the room with the longest path that covers the package.
func roomOf(rooms []Room, name string) (best Room, ok bool) {
	for _, r := range rooms {
		if covers(r.Path, name) && len(r.Path) > len(best.Path) {
			best, ok = r, true
		}
	}
	return best, ok
}

// covers reports whether the package path lies in the room.
func covers(room, name string) bool {
	return name == room || strings.HasPrefix(name, room+"/")
}

// importCheck collects the violations of one package.
type importCheck struct {
	module, pkg string
	room        Room
	found       []Violation
}

func (c *importCheck) add(format string, args ...any) {
	c.found = append(c.found, Violation{Pos: c.pkg, What: fmt.Sprintf(format, args...), Why: c.room.Why})
}

// direct holds imports of this module against the rooms that are allowed.
func (c *importCheck) direct(imports, allowed []string, verb string) {
	for _, imp := range imports {
		name, ours := strings.CutPrefix(imp, c.module+"/")
		if !ours || covers(c.room.Path, name) {
			continue
		}
		switch {
		case covers("cmd", name):
			c.add("%s %s: nobody imports the command", verb, imp)
		case slices.Contains(allowed, "*"), slices.ContainsFunc(allowed, func(r string) bool { return covers(r, name) }):
		case len(allowed) == 0:
			c.add("%s %s; it may import nothing of this module", verb, imp)
		default:
			c.add("%s %s; of this module it may import %s", verb, imp, strings.Join(allowed, ", "))
		}
	}
}

// outside holds imports from outside the module against the room's lists.
func (c *importCheck) outside(imports, deps []string) {
	for _, imp := range imports {
		if strings.HasPrefix(imp, c.module+"/") {
			continue
		}
		if c.room.Std != nil && !slices.Contains(c.room.Std, imp) {
			c.add("imports %s; it may import %s", imp, strings.Join(c.room.Std, ", "))
		}
		if slices.ContainsFunc(c.room.Never, func(n string) bool { return imp == n || strings.HasPrefix(imp, path.Clean(n)+"/") }) {
			c.add("imports %s, which this room must never import", imp)
		}
	}
	for _, dep := range deps {
		if slices.Contains(c.room.NeverReach, dep) {
			c.add("reaches %s (see go list -deps), which this room must never need", dep)
		}
	}
}
