package runbooks

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

const page = "../../docs/OPERATIONS.md"

// patience ends the wait for one state, lifetime a story; they measure nothing.
const patience, lifetime = 90 * time.Second, 8 * time.Minute

var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pgtether-runbooks-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // the servers' account runs what is built here
	}
	if err == nil {
		binary, err = rig.Build(context.Background(), dir)
	}
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// site is one pair of servers with a pgtether in front of it, all of it made by the commands of the page and by what a story does besides.
type site struct {
	*testing.T
	ctx    context.Context
	lab    *lab.Lab
	blocks []Block
	env    []string
	// network is the beginning of the nodes' addresses; port is that of every server.
	network              string
	port, listen, status int
	// mirrored: the roles of region-a and region-b are exchanged, in the blocks too.
	mirrored bool
}

// newSite makes a directory for a site on a network of its own, in which nothing runs yet.
func newSite(t *testing.T, network int) *site {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), lifetime)
	t.Cleanup(cancel)
	l, err := lab.Start(ctx, lab.Options{External: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &site{T: t, ctx: ctx, lab: l, network: fmt.Sprintf("127.0.%d.", network)}
	s.blocks, err = ReadPage(page)
	s.must(err)
	for _, port := range []*int{&s.port, &s.listen, &s.status} {
		*port, err = lab.FreePort()
		s.must(err)
	}
	s.env = []string{"PATH=" + l.Dir() + "/bin:" + l.BinDir() + ":" + os.Getenv("PATH"), "SITE=" + l.Dir(), fmt.Sprint("PGPORT=", s.port), "PGUSER=postgres",
		"PGTETHER_CONFIG=" + l.Dir() + "/etc/pgtether.toml"}
	_, err = l.Command(ctx, nil, "mkdir", "-m", "0700", "bin", "etc", "state", "aside")
	s.must(err)
	for name, from := range map[string]string{"bin/systemctl": "testdata/systemctl", "bin/unsynced": "testdata/unsynced", "etc/probe-role.sql": "../../configs/sql/probe-role.sql",
		"etc/verifier-lookup.sql": "../../configs/sql/verifier-lookup.sql"} {
		content, err := os.ReadFile(from)
		s.must(err)
		_, err = l.WriteFile(name, string(content))
		s.must(err)
	}
	s.sh("", "chmod 0700 bin/*; for name in initdb pg_basebackup pg_rewind pg_upgrade; do ln -s unsynced bin/$name; done; cp "+binary+" bin/pgtether")
	return s
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// newServer makes an empty server, as a distribution's package does, and starts it.
func (s *site) newServer(node string) {
	s.Helper()
	s.sh(node, `initdb --pgdata "$PGDATA" --no-sync --username postgres --encoding UTF8 --locale C --auth trust >/dev/null
echo "host all postgres 127.0.0.0/8 trust" >> "$PGDATA/pg_hba.conf"
sed -i '/^host.*127.0.0.1.32/d; /^host.*::1/d' "$PGDATA/pg_hba.conf"
printf "fsync = off\nunix_socket_directories = ''\nwal_receiver_timeout = '4s'\n" >> "$PGDATA/postgresql.conf"
systemctl start postgresql
psql -qc 'CREATE TABLE acknowledged (id int)'`)
}

// The node's number is the end of its address.
var numbers = map[string]string{lab.RegionA: "11", lab.RegionB: "12", "region-c": "13"}

// sh runs a script as a person on a node would, "" for pgtether's machine, and returns what it said.
func (s *site) sh(on, script string) string {
	s.Helper()
	out, err := s.try(on, script)
	if err != nil {
		s.Fatalf("on %q: %s\n%v\n%s\npgtether: %s", on, script, err, out, lab.Tail(s.lab.Dir()+"/pgtether.log", 8))
	}
	return out
}

func (s *site) try(on, script string) (string, error) {
	env := slices.Clone(s.env)
	if on != "" {
		address := s.network + numbers[on]
		env = append(env, "PGDATA="+filepath.Join(s.lab.Dir(), on), "PGHOST="+address,
			fmt.Sprintf("MACHINE=-c listen_addresses=%s -c port=%d -c cluster_name=%s", address, s.port, on))
	}
	return s.lab.Command(s.ctx, env, "bash", "-euo", "pipefail", "-c", script)
}

// ran are the lines of the blocks that were run, by whichever story.
var (
	ranMu sync.Mutex
	ran   = map[int]bool{}
)

// run runs the blocks of that name in order, and returns what they said.
func (s *site) run(name string) string {
	s.Helper()
	began, said, found := time.Now(), "", false
	for _, b := range s.blocks {
		if !slices.Contains(b.Names, name) {
			continue
		}
		text, on := b.Text, b.On
		if s.mirrored {
			exchange := strings.NewReplacer("region-a", "region-b", "region-b", "region-a", "10.0.0.11", "10.0.0.12", "10.0.0.12", "10.0.0.11")
			text, on = exchange.Replace(text), exchange.Replace(on)
		}
		out, err := s.try(on, s.here(text))
		if err != nil {
			s.Fatalf("%s:%d (%s): %v\n%s\npgtether: %s", page, b.Line, name, err, out, lab.Tail(s.lab.Dir()+"/pgtether.log", 8))
		}
		said, found = said+out, true
		ranMu.Lock()
		ran[b.Line] = true
		ranMu.Unlock()
	}
	if !found {
		s.Fatalf("%s has no block %s", page, name)
	}
	s.Logf("%s: %.1f s", name, time.Since(began).Seconds())
	return said
}

// here replaces what is different on this machine.
func (s *site) here(text string) string {
	dir := s.lab.Dir()
	return strings.NewReplacer("configs/sql/", dir+"/etc/", "/etc/pgtether", dir+"/etc", "/var/lib/pgtether", dir+"/state", "/var/tmp", dir+"/aside",
		"/usr/local/bin", dir+"/bin", "/usr/lib/postgresql/18/bin/", "", "/usr/lib/postgresql/15/bin", s.lab.BinDir(), "/usr/lib/postgresql/18/bin", s.lab.BinDir(),
		"10.0.0.0/24", "127.0.0.0/8", "10.0.0.", s.network, ":5432", fmt.Sprint(":", s.port), ":6432", fmt.Sprint(":", s.listen),
		":7432", fmt.Sprint(":", s.status)).Replace(text)
}

// await waits until pgtether says that the node is the open writer, in that state.
func (s *site) await(state, writer string) rig.Status {
	s.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		var now rig.Status
		out, err := s.try("", "pgtether status --json")
		if err == nil {
			s.must(json.Unmarshal([]byte(out), &now))
			if now.State == state && (writer == "" || now.Writer != nil && *now.Writer == writer) {
				return now
			}
		}
		if time.Now().After(end) {
			s.Fatalf("waited for %s with the writer %s: %v\n%s\n%s", state, writer, err, out, s.logs())
		}
	}
}

// says fails unless what was said contains every one of the words.
func (s *site) says(said string, words ...string) {
	s.Helper()
	for _, word := range words {
		if !strings.Contains(said, word) {
			s.Fatalf("it does not say %q:\n%s", word, said)
		}
	}
}

// a and b are the names that the page's region-a and region-b have now.
func (s *site) a() string { return map[bool]string{false: lab.RegionA, true: lab.RegionB}[s.mirrored] }
func (s *site) b() string { return map[bool]string{true: lab.RegionA, false: lab.RegionB}[s.mirrored] }

// write commits a row through pgtether, and rows counts what a node has.
func (s *site) write() {
	s.Helper()
	s.sh("", fmt.Sprintf("psql -h 127.0.0.1 -p %d -c 'INSERT INTO acknowledged VALUES (1)'", s.listen))
}

func (s *site) rows(node string, want int) {
	s.Helper()
	if got := s.count(node); got != fmt.Sprint(want) {
		s.Errorf("%s has %s rows, want %d", node, got, want)
	}
}

func (s *site) count(node string) string {
	s.Helper()
	return strings.TrimSpace(s.sh(node, "psql -Atc 'SELECT count(*) FROM acknowledged'"))
}

// arrives waits until a standby has so many: what a primary that is killed had not sent is lost, as the page says.
func (s *site) arrives(node string, want int) {
	s.Helper()
	for until := time.Now().Add(20 * time.Second); s.count(node) != fmt.Sprint(want) && time.Now().Before(until); {
		time.Sleep(100 * time.Millisecond)
	}
	s.rows(node, want)
}

// logs are the last words of every server and of pgtether.
func (s *site) logs() (said string) {
	found, _ := filepath.Glob(s.lab.Dir() + "/*.log") // the pattern is well formed
	for _, file := range found {
		said += filepath.Base(file) + ": " + lab.Tail(file, 8) + "\n"
	}
	return said
}

// kill ends a node's server as the end of its machine does.
func (s *site) kill(node string) {
	s.Helper()
	s.must(s.lab.Kill9In(node))
}
