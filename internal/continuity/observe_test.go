package continuity

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// observation is everything that a session can find out about itself.
type observation map[string]string

// observe asks for everything. What is asked first must not disturb what is asked later.
func observe(c *client, custom []string) (observation, error) {
	seen := observation{}
	ask := func(key string, request []byte) error {
		all, err := c.send(request, 1)
		seen[key] = outcome(all)
		return err
	}
	describe := func(key, name string) error {
		all, err := c.send(appendSync(appendStatement(nil, 'D', name)), 1)
		if err != nil {
			return err
		}
		if seen["describe "+key] = outcome(all); seen["describe "+key] != "" {
			return nil
		}
		description := ""
		for _, m := range all {
			if m.kind == 't' || m.kind == 'T' || m.kind == 'n' {
				description += m.String()
			}
		}
		seen["describe "+key] = description
		return nil
	}
	if err := describe("unnamed", ""); err != nil {
		return nil, err
	}
	// Without parameters and with one, whatever it takes: what comes is compared, errors too.
	for _, parameters := range [][]string{nil, {"1"}, {"1", "2"}} {
		if err := ask(fmt.Sprintf("run unnamed with %d", len(parameters)), appendSync(appendRun(nil, "", parameters...))); err != nil {
			return nil, err
		}
	}
	// PL/pgSQL brings settings of its own at its first use.
	if err := ask("load plpgsql", query("DO $$ BEGIN END $$")); err != nil {
		return nil, err
	}
	if err := ask("statements", query("SELECT name, statement, parameter_types, from_sql FROM pg_catalog.pg_prepared_statements ORDER BY name COLLATE pg_catalog.\"C\"")); err != nil {
		return nil, err
	}
	names := query("SELECT name FROM pg_catalog.pg_prepared_statements ORDER BY name COLLATE pg_catalog.\"C\"")
	if err := ask("names", names); err != nil {
		return nil, err
	}
	for _, name := range strings.Split(strings.TrimSuffix(seen["names"], "\n"), "\n") {
		if name == "" || strings.HasPrefix(seen["names"], "error") {
			continue
		}
		if err := describe("statement "+name, name); err != nil {
			return nil, err
		}
	}
	if err := seen.settings(c, custom, ""); err != nil {
		return nil, err
	}
	for _, name := range strings.Split(strings.TrimSuffix(seen["names"], "\n"), "\n") {
		for _, parameters := range [][]string{nil, {"1"}, {"1", "2"}} {
			if err := ask(fmt.Sprintf("run statement %s with %d", name, len(parameters)), appendSync(appendRun(nil, name, parameters...))); err != nil {
				return nil, err
			}
		}
	}
	if err := seen.settings(c, custom, " after all have run"); err != nil {
		return nil, err
	}
	for _, text := range []string{"RESET ROLE", "RESET SESSION AUTHORIZATION", "RESET ALL"} {
		if err := ask(text, query(text)); err != nil {
			return nil, err
		}
		if err := seen.settings(c, custom, " after "+text); err != nil {
			return nil, err
		}
	}
	return seen, nil
}

// settings adds all settings and the identity.
func (seen observation) settings(c *client, custom []string, when string) error {
	const fleeting = "('transaction_isolation', 'transaction_read_only', 'transaction_deferrable')"
	var b strings.Builder
	for _, n := range custom {
		fmt.Fprintf(&b, ", pg_catalog.current_setting('%s', true)", n)
	}
	for key, text := range map[string]string{
		"settings": "SELECT name, setting FROM pg_catalog.pg_settings ORDER BY name COLLATE pg_catalog.\"C\"",
		"set by the session": "SELECT name, setting FROM pg_catalog.pg_settings WHERE source = 'session' AND name NOT IN " + fleeting +
			" ORDER BY name COLLATE pg_catalog.\"C\"",
		"custom":   "SELECT 1" + b.String(),
		"identity": "SELECT session_user, current_user, pg_catalog.current_setting('role'), pg_catalog.current_setting('is_superuser')",
	} {
		all, err := c.send(query(text), 1)
		if err != nil {
			return err
		}
		seen[key+when] = outcome(all)
	}
	told := ""
	for _, name := range slices.Sorted(maps.Keys(c.told)) {
		told += name + "=" + c.told[name] + "\n"
	}
	seen["told"+when] = told
	return nil
}

// differences are the keys in which two observations differ.
func (seen observation) differences(other observation) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(seen)) {
		if seen[key] != other[key] {
			fmt.Fprintf(&b, "%s:\n%s", key, lineDifference(seen[key], other[key]))
		}
	}
	for key := range other {
		if _, ok := seen[key]; !ok {
			fmt.Fprintf(&b, "%s: only on the moved one: %s\n", key, other[key])
		}
	}
	return b.String()
}

func lineDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	var b strings.Builder
	for _, line := range w {
		if !slices.Contains(g, line) {
			fmt.Fprintf(&b, "   unmoved: %q\n", line)
		}
	}
	for _, line := range g {
		if !slices.Contains(w, line) {
			fmt.Fprintf(&b, "   moved:   %q\n", line)
		}
	}
	return b.String()
}
