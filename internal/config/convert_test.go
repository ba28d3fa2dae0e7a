package config

import (
	"reflect"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/proxy"
)

// reaches says for every key that this version has where its value goes. The conversions below are checked against it, so that a key that
// nobody reads cannot be added.
var reaches = map[string][]string{
	"cluster.name":   {"serve"},
	"listen.address": {"serve"}, "listen.tls": {"proxy"}, "listen.tls_cert": {"proxy"}, "listen.tls_key": {"proxy"},
	"listen.tls_client_ca": {"proxy"}, "listen.replication": {"proxy"},
	"admin.address": {"serve"}, "admin.token_file": {"serve"}, "state.dir": {"serve"},
	"node.name": {"decision"}, "node.address": {"decision"},
	"backend.tls": {"health", "proxy"}, "backend.tls_ca": {"health", "proxy"}, "backend.tls_cert": {"health", "proxy"},
	"backend.tls_key": {"health", "proxy"}, "backend.connect_timeout": {"proxy"},
	"probe.user": {"health"}, "probe.password_file": {"serve"}, "probe.database": {"health"},
	"probe.interval": {"decision", "health"}, "probe.timeout": {"decision", "health"},
	"failover.require_lossless": {"decision"}, "failover.require_fence": {"decision"}, "failover.anti_flap": {"decision"},
	"failover.promote_timeout": {"decision"}, "failover.mode": {"decision"}, "failover.stable_for": {"decision"}, "failover.max_lag": {"decision"},
	"failover.primary_start_timeout": {"decision"},
	"hold.login":                     {"proxy"}, "hold.session": {"decision", "proxy"}, "hold.max": {"proxy"}, "hold.release_per_second": {"proxy"},
	"drain.timeout":   {"decision", "proxy"},
	"continuity.mode": {"proxy"}, "continuity.moves_at_once": {"proxy"},
	"auth.scram": {"proxy"}, "auth.verifier_file": {"proxy"}, "auth.verifier_lookup": {"proxy"},
	"limits.max_clients": {"proxy"}, "limits.per_user": {"proxy"}, "limits.per_database": {"proxy"}, "limits.per_address": {"proxy"},
	"limits.startup_timeout": {"proxy"}, "limits.logins_under_way": {"proxy"}, "limits.tls_handshakes": {"proxy"},
	"hooks.fence": {"decision"}, "hooks.on_event": {"serve"}, "hooks.timeout": {"serve"},
	"log.format": {"serve"}, "log.level": {"serve"},
}

// alter gives a key another value, valid or not.
func alter(t *testing.T, f *File, key string) {
	t.Helper()
	found := false
	walk(f, func(path string, _ reflect.StructField, v reflect.Value) {
		if withoutIndices(path) != key || found {
			return
		}
		found = true
		switch value := v.Interface().(type) {
		case string:
			if value == "observe" {
				v.SetString("auto")
				return
			}
			v.SetString(value + "x")
		case bool:
			v.SetBool(!value)
		case int:
			v.SetInt(int64(value) + 1)
		case Duration:
			v.Set(reflect.ValueOf(value + 1))
		case Size:
			v.Set(reflect.ValueOf(value + 1))
		default:
			t.Fatalf("%s has the type %T", key, value)
		}
	})
	if !found {
		t.Fatalf("there is no key %s", key)
	}
}

func TestEveryKeyReachesWhoeverNeedsIt(t *testing.T) {
	plain, _ := mustLoad(t, valid)
	for _, k := range Keys() {
		want, listed := reaches[k.Path]
		if k.Unbuilt != "" {
			if listed {
				t.Errorf("%s is not built and reaches %v", k.Path, want)
			}
			continue
		}
		altered, _ := mustLoad(t, valid)
		alter(t, altered, k.Path)
		var got []string
		if !reflect.DeepEqual(plain.Decision(), altered.Decision()) {
			got = append(got, "decision")
		}
		if plain.Health() != altered.Health() {
			got = append(got, "health")
		}
		if plain.Proxy() != altered.Proxy() {
			got = append(got, "proxy")
		}
		if got == nil {
			got = []string{"serve"}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s reaches %v, want %v", k.Path, got, want)
		}
	}
}

func TestTheRoomsGetEveryFieldFilled(t *testing.T) {
	f, _ := mustLoad(t, valid)
	f.Listen = Listen{"a:1", "require", "crt", "key", "ca", true}
	f.Backend = Backend{"verify-full", "ca", "crt", "key", seconds(3)}
	f.Limits.PerUser, f.Limits.PerDatabase, f.Limits.PerAddress = 1, 2, 3
	f.Failover.RequireFence, f.Failover.RequireLossless, f.Hooks.Fence = true, true, "fence"
	f.Auth.VerifierFile = "verifiers"
	f.material.probePassword = NewSecret("p")
	for _, config := range []any{f.Proxy(), f.Decision(), f.Health()} {
		zeroFields(reflect.ValueOf(config), reflect.TypeOf(config).String(), func(name string) { t.Errorf("%s is not filled", name) })
	}
}

// zeroFields reports every field of a struct, and of the structs in it, that has its zero value.
func zeroFields(v reflect.Value, name string, report func(string)) {
	for i := range v.NumField() {
		field := name + "." + v.Type().Field(i).Name
		switch {
		case v.Field(i).Kind() == reflect.Struct:
			zeroFields(v.Field(i), field, report)
		case v.Field(i).IsZero():
			report(field)
		}
	}
}

func TestConversionKeepsTheValues(t *testing.T) {
	f, _ := mustLoad(t, valid)
	p, d, h := f.Proxy(), f.Decision(), f.Health()
	if p.Hold.Login != 15*time.Second || p.Limits.MaxClients != 1000 || p.DrainTimeout != 10*time.Second || p.Listen.TLS != proxy.TLSAllow {
		t.Errorf("proxy = %+v", p)
	}
	if d.Mode != decision.ModeObserve || d.MaxLagBytes != 16<<20 || d.StableFor != 5*time.Second || d.Nodes[0].Name != "region-a" || d.AntiFlap != time.Hour {
		t.Errorf("decision = %+v", d)
	}
	if h.User != "pgtether" || h.Interval != time.Second || h.TLS.Mode != "prefer" {
		t.Errorf("health = %+v", h)
	}
}

func TestWhatARoomRefusesIsNeverAccepted(t *testing.T) {
	f, _ := mustLoad(t, valid)
	f.Hold.Max = 0
	r := &report{file: "pgtether.toml", lines: f.lines}
	checkRooms(f, r)
	if len(r.problems) != 1 || r.problems[0].Key != "hold.max" {
		t.Errorf("problems = %v", r.err())
	}
	f, _ = mustLoad(t, valid)
	f.Failover.Mode = "dictator"
	r = &report{file: "pgtether.toml", lines: f.lines}
	checkRooms(f, r)
	if len(r.problems) != 1 {
		t.Errorf("problems = %v", r.err())
	}
}
