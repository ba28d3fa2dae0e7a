package config

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// reloading is a holder of a file that the test rewrites.
type reloading struct {
	*Holder
	path     string
	outcomes []bool
	at       []time.Time
}

func newReloading(t *testing.T, document string) *reloading {
	t.Helper()
	r := &reloading{path: write(t, "pgtether.toml", document)}
	sys := testSystem(nil)
	now := testNow
	sys.now = func() time.Time { now = now.Add(time.Second); return now }
	first, _, err := load(r.path, sys, true)
	if err != nil {
		t.Fatal(err)
	}
	r.Holder = newHolder(r.path, first, func(ok bool, at time.Time) { r.outcomes, r.at = append(r.outcomes, ok), append(r.at, at) }, sys)
	return r
}

func (r *reloading) rewrite(t *testing.T, document string) {
	t.Helper()
	if err := os.WriteFile(r.path, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
}

func accept(_, _ *File) error { return nil }

func TestAGoodReloadIsTakenOverAndTold(t *testing.T) {
	r := newReloading(t, valid+"[limits]\nmax_clients = 100\n")
	first := r.Current()
	r.rewrite(t, valid+"[limits]\nmax_clients = 200\n[hold]\nlogin = \"5s\"\n")
	var seen [2]*File
	changes, _, err := r.Reload(func(old, fresh *File) error { seen = [2]*File{old, fresh}; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if seen[0] != first || seen[1] != r.Current() || r.Current().Limits.MaxClients != 200 {
		t.Error("the new configuration was not handed over or not kept")
	}
	if len(changes) != 2 || changes[0].String() != `hold.login: "15s" -> "5s"` || changes[1].String() != "limits.max_clients: 100 -> 200" {
		t.Errorf("changes are %v", changes)
	}
	if len(r.outcomes) != 2 || !r.outcomes[0] || !r.outcomes[1] || !r.at[1].After(r.at[0]) {
		t.Errorf("told %v at %v", r.outcomes, r.at)
	}
}

func TestABadReloadKeepsTheLastGoodConfiguration(t *testing.T) {
	good := valid + "[limits]\nmax_clients = 100\n"
	for name, document := range map[string]string{
		"a wrong key":        good + "colour = \"blue\"\n",
		"not TOML":           good + "[",
		"an empty file":      "",
		"a missing file":     good + "[admin]\ntoken_file = \"none\"\n",
		"a restart":          good + "[listen]\naddress = \"0.0.0.0:7777\"\n",
		"another node":       good + "[[node]]\nname = \"region-c\"\naddress = \"10.0.0.13:5432\"\n",
		"another address":    strings.Replace(good, "10.0.0.12", "10.0.0.99", 1),
		"another state":      good + "[state]\ndir = \"/var/lib/other\"\n",
		"nodes swapped":      strings.NewReplacer("region-a", "region-b", "region-b", "region-a").Replace(good),
		"another log format": good + "[log]\nformat = \"json\"\n",
	} {
		r := newReloading(t, good)
		first := r.Current()
		r.rewrite(t, document)
		changes, _, err := r.Reload(func(_, _ *File) error { t.Errorf("%s: was applied", name); return nil })
		if err == nil || len(Problems(err)) == 0 {
			t.Errorf("%s: %v", name, err)
		}
		if r.Current() != first || changes != nil {
			t.Errorf("%s: the configuration is another one", name)
		}
		if len(r.outcomes) != 2 || r.outcomes[1] {
			t.Errorf("%s: told %v", name, r.outcomes)
		}
	}
}

func TestAChangeThatNeedsARestartSaysSoAndWhy(t *testing.T) {
	r := newReloading(t, valid)
	r.rewrite(t, valid+"[listen]\naddress = \"0.0.0.0:7777\"\n[cluster]\nname = \"other\"\n")
	_, _, err := r.Reload(accept)
	want := `13: listen.address: a reload cannot change it from "0.0.0.0:6432" to "0.0.0.0:7777" (the listening socket is opened at the start); ` +
		"restart pgtether, or put the old value back\n" +
		`15: cluster.name: a reload cannot change it from "keycloak" to "other" (the name is part of the identity of the running process); ` +
		"restart pgtether, or put the old value back"
	if err == nil || withoutFile(err.Error(), r.path) != want {
		t.Errorf("refused with\n%v\nwant\n%s", err, want)
	}
}

func TestAnErrorOfWhoeverTakesItOverKeepsTheOldOne(t *testing.T) {
	r := newReloading(t, valid)
	first := r.Current()
	r.rewrite(t, valid+"[limits]\nmax_clients = 200\n")
	boom := errors.New("no such certificate")
	_, _, err := r.Reload(func(_, _ *File) error { return boom })
	if !errors.Is(err, boom) || r.Current() != first || r.outcomes[1] {
		t.Errorf("error %v, told %v", err, r.outcomes)
	}
	if _, _, err := r.Reload(accept); err != nil || r.Current() == first || !r.outcomes[2] {
		t.Errorf("the next good reload: %v, told %v", err, r.outcomes)
	}
}

func TestASecretThatChangedIsToldWithoutBeingShown(t *testing.T) {
	dir := t.TempDir()
	token := writeIn(t, dir, "token", "first-token")
	path := writeIn(t, dir, "pgtether.toml", valid+"[admin]\ntoken_file = \"token\"\n")
	first, _, err := load(path, testSystem(nil), true)
	if err != nil {
		t.Fatal(err)
	}
	h := newHolder(path, first, nil, testSystem(nil))
	if err := os.WriteFile(token, []byte("second-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	changes, _, err := h.Reload(accept)
	if err != nil || len(changes) != 1 {
		t.Fatalf("changes %v, %v", changes, err)
	}
	if text := changes[0].String(); text != "admin.token_file: (hidden) -> (hidden), another one" {
		t.Errorf("told %q", text)
	}
	if h.Current().AdminToken().Reveal() != "second-token" {
		t.Error("the new token is not in force")
	}
}

func TestReadersSeeAWholeConfigurationWhileItIsReloaded(t *testing.T) {
	one, two := valid+"[limits]\nmax_clients = 1\nper_user = 1\n", valid+"[limits]\nmax_clients = 2\nper_user = 2\n"
	r := newReloading(t, one)
	var readers, reloads sync.WaitGroup
	stop := make(chan struct{}) // closed when no reload will follow
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if l := r.Current().Limits; l.MaxClients != l.PerUser {
						t.Errorf("read %+v", l)
						return
					}
				}
			}
		})
	}
	reloads.Go(func() {
		for i := range 20 {
			r.rewrite(t, []string{two, one}[i%2])
			if _, _, err := r.Reload(accept); err != nil {
				t.Errorf("reload: %v", err)
			}
		}
	})
	reloads.Wait()
	close(stop)
	readers.Wait()
}

// TestEveryKeyIsEitherReloadableOrSaysWhyNot changes each key that this version has and looks at what a reload says.
func TestEveryKeyIsEitherReloadableOrSaysWhyNot(t *testing.T) {
	for _, k := range Keys() {
		if k.Restart != "" && len(k.Restart) < 10 {
			t.Errorf("%s needs a restart and does not say why", k.Path)
		}
	}
	old, _ := mustLoad(t, valid)
	for key := range reaches {
		fresh, _ := mustLoad(t, valid)
		alter(t, fresh, key)
		err := refuseRestart("pgtether.toml", old, fresh)
		needs := false
		for _, k := range Keys() {
			needs = needs || k.Path == key && k.Restart != ""
		}
		if (err != nil) != needs {
			t.Errorf("%s: a reload says %v, want a refusal: %v", key, err, needs)
		}
	}
}

func TestAHolderOfTheRealSystemReloads(t *testing.T) {
	path := write(t, "pgtether.toml", valid)
	first, warnings, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		if !strings.HasPrefix(w.String(), path+":") || w.Key == "" || w.Text == "" {
			t.Errorf("warning %q", w)
		}
	}
	before := time.Now()
	var told []time.Time
	h := NewHolder(path, first, func(_ bool, at time.Time) { told = append(told, at) })
	changes, _, err := h.Reload(accept)
	if err != nil || len(changes) != 0 || h.Current() == first {
		t.Errorf("changes %v, %v", changes, err)
	}
	if len(told) != 2 || told[0].Before(before) || told[1].Before(told[0]) {
		t.Errorf("told at %v", told)
	}
}
