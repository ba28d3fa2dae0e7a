package config

import (
	"os"
	"strings"
	"testing"
)

// documented is one row of docs/CONFIGURATION.md.
type documented struct{ key, kind, value, reload, version, meaning string }

// readDocumentation takes the tables of the sections out of docs/CONFIGURATION.md.
func readDocumentation(t *testing.T) []documented {
	t.Helper()
	data, err := os.ReadFile("../../docs/CONFIGURATION.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []documented
	section := ""
	for line := range strings.SplitSeq(string(data), "\n") {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.Trim(title, "`[]")
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != 6 || cells[0] == "key" {
			continue
		}
		rows = append(rows, documented{
			key: section + "." + strings.Trim(cells[0], "`"), kind: cells[1], value: strings.Trim(cells[2], "`"),
			reload: cells[3], version: cells[4], meaning: cells[5],
		})
	}
	return rows
}

func TestEveryKeyIsDocumentedAsTheCodeHasIt(t *testing.T) {
	rows := readDocumentation(t)
	keys := Keys()
	for i := range min(len(rows), len(keys)) {
		key, row := keys[i], rows[i]
		want := documented{key: key.Path, kind: key.Type, value: key.Default, reload: "yes", version: "yes", meaning: row.meaning}
		if key.Restart != "" {
			want.reload = "restart"
		}
		if key.Unbuilt != "" {
			want.version = key.Unbuilt
		}
		if row != want {
			t.Errorf("row %d of docs/CONFIGURATION.md says\n%+v\nthe code says\n%+v", i+1, row, want)
		}
		if len(row.meaning) < 10 || !strings.HasSuffix(row.meaning, ".") {
			t.Errorf("%s is not explained: %q", row.key, row.meaning)
		}
	}
	if len(rows) != len(keys) {
		t.Errorf("%d keys are documented, the code has %d", len(rows), len(keys))
	}
}

func TestEveryRowOfWhatIsNotBuiltIsAKey(t *testing.T) {
	known := map[string]bool{}
	for _, k := range Keys() {
		known[k.Path] = true
	}
	for path, missing := range unbuiltKeys {
		if !known[path] {
			t.Errorf("%s is listed as not built and does not exist", path)
		}
		if missing == "" {
			t.Errorf("%s does not say what is missing", path)
		}
	}
}

// TestDefaultsAreThoseOfTheDesign spells the defaults out once more: users rest on them.
func TestDefaultsAreThoseOfTheDesign(t *testing.T) {
	want := map[string]string{
		"cluster.name": `"keycloak"`, "listen.address": `"0.0.0.0:6432"`, "listen.tls": `"allow"`, "listen.replication": "false",
		"read.address": `""`, "read.max_lag": `"1MiB"`, "admin.address": `"127.0.0.1:7432"`, "admin.token_file": `""`,
		"state.dir": `"/var/lib/pgtether"`, "node.name": "required", "node.address": "required", "node.agent": `""`,
		"backend.tls": `"prefer"`, "backend.connect_timeout": `"3s"`, "probe.user": "required", "probe.password_file": `""`,
		"probe.database": `"postgres"`, "probe.interval": `"1s"`, "probe.timeout": `"1s"`, "failover.mode": `"auto"`,
		"failover.stable_for": `"5s"`, "failover.max_lag": `"16MiB"`, "failover.require_lossless": "false", "failover.require_fence": "false",
		"failover.anti_flap": `"1h"`, "failover.promote_timeout": `"60s"`, "failover.primary_start_timeout": `"60s"`,
		"hold.login": `"15s"`, "hold.session": `"15s"`, "hold.max": "800", "hold.release_per_second": "200", "drain.timeout": `"10s"`,
		"continuity.mode": `"lossless"`, "continuity.moves_at_once": "16", "auth.scram": `"relay"`, "auth.verifier_file": `""`,
		"auth.verifier_lookup": `""`, "durability.floor": `""`, "limits.max_clients": "1000", "limits.per_user": "0",
		"limits.per_database": "0", "limits.per_address": "0", "limits.startup_timeout": `"10s"`, "limits.logins_under_way": "200",
		"limits.tls_handshakes": "64", "hooks.fence": `""`, "hooks.on_event": `""`, "hooks.timeout": `"10s"`, "etcd.endpoints": "[]",
		"etcd.prefix": `"/pgtether/keycloak"`, "log.format": `"text"`, "log.level": `"info"`, "listen.tls_cert": `""`, "listen.tls_key": `""`,
		"listen.tls_client_ca": `""`, "backend.tls_ca": `""`, "backend.tls_cert": `""`, "backend.tls_key": `""`,
	}
	keys := Keys()
	for _, k := range keys {
		if want[k.Path] != k.Default {
			t.Errorf("%s has the default %s, want %s", k.Path, k.Default, want[k.Path])
		}
	}
	if len(keys) != len(want) {
		t.Errorf("%d keys, want %d", len(keys), len(want))
	}
}
