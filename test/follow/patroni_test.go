package follow

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
)

// scope is the name of the cluster in Patroni's words.
const scope = "keycloak"

// member is one server of the pair with the Patroni that runs it.
type member struct {
	node
	config  string
	restAPI int
	process *lab.Process
}

// patroniPair is a world whose pair is run by Patroni, with an etcd of one node.
type patroniPair struct {
	*world
	a, b *member
	etcd *lab.Process
}

// patroniText has the smallest timers that Patroni's documentation allows.
const patroniText = `scope: {{.Scope}}
name: {{.Name}}
restapi: {listen: '127.0.0.1:{{.RestAPI}}', connect_address: '127.0.0.1:{{.RestAPI}}'}
etcd3: {host: '127.0.0.1:{{.Etcd}}'}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 3
    maximum_lag_on_failover: 1048576
    synchronous_mode: {{.Synchronous}}
    postgresql:
      use_pg_rewind: true
      use_slots: true
      parameters:
        wal_log_hints: 'on'
        wal_receiver_timeout: 4s
        wal_receiver_status_interval: 1s
        wal_retrieve_retry_interval: 500ms
        max_connections: 50
        shared_buffers: 64MB
        fsync: 'off'
        dynamic_shared_memory_type: mmap
        log_line_prefix: '%m [%p] %q%u@%d '
        log_timezone: UTC
        lc_messages: C
  initdb: [{encoding: UTF8}, {locale: C}]
postgresql:
  listen: '{{.Addr}}'
  connect_address: '{{.Addr}}'
  data_dir: {{.Dir}}/{{.Name}}
  bin_dir: {{.BinDir}}
  pgpass: {{.Dir}}/{{.Name}}.pgpass
  basebackup: [{checkpoint: fast}]
  parameters: {unix_socket_directories: ''}
  pg_hba:
    - host all all 127.0.0.1/32 scram-sha-256
    - host replication all 127.0.0.1/32 scram-sha-256
  authentication:
    superuser: {username: {{.SuperUser}}, password: {{.SuperPassword}}}
    replication: {username: replicator, password: replicator}
`

var patroniConfig = template.Must(template.New("patroni.yml").Parse(patroniText))

// newPatroniPair starts etcd and two Patronis, waits until region-a leads and region-b streams from it, and puts pgtether in front.
func newPatroniPair(t *testing.T, synchronous bool, extra string) *patroniPair {
	t.Helper()
	w := newWorld(t)
	p := &patroniPair{world: w, a: &member{node: w.a}, b: &member{node: w.b}}
	etcd, peer := w.freePort(), w.freePort()
	client, peers := fmt.Sprintf("http://127.0.0.1:%d", etcd), fmt.Sprintf("http://127.0.0.1:%d", peer)
	p.etcd = w.spawn("etcd", w.program("etcd"), "--name", "etcd", "--data-dir", filepath.Join(w.lab.Dir(), "etcd"),
		"--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers, "--initial-cluster", "etcd="+peers)
	w.eventually("etcd answers", func() error { return get(client+"/health", nil) })
	for _, m := range []*member{p.a, p.b} {
		m.restAPI = w.freePort()
		var text strings.Builder
		w.must(patroniConfig.Execute(&text, map[string]any{
			"Scope": scope, "Name": m.name, "RestAPI": m.restAPI, "Etcd": etcd, "Synchronous": synchronous, "Addr": m.addr(), "Dir": w.lab.Dir(),
			"BinDir": w.lab.BinDir(), "SuperUser": superuser, "SuperPassword": superPassword,
		}))
		m.config = w.write(m.name+".yml", text.String())
		p.start(m)
		if m == p.a {
			w.eventually("region-a leads", func() error { return m.is("primary") })
			w.createRoles()
		}
	}
	w.eventually("region-b streams", func() error { return w.streams(w.a, w.b) })
	if synchronous {
		w.eventually("region-b is the synchronous standby", func() error { return p.b.is("synchronous") })
	}
	w.startProxy(extra)
	return p
}

// start starts a member's Patroni.
func (p *patroniPair) start(m *member) {
	p.Helper()
	m.process = p.spawn(m.name, p.program("patroni"), m.config)
}

// ctl runs patronictl as an operator does.
func (p *patroniPair) ctl(args ...string) string {
	p.Helper()
	return p.run(p.program("patronictl"), append([]string{"-c", p.a.config}, args...)...)
}

// crash ends a member's Patroni and its PostgreSQL as the end of their machine does.
func (p *patroniPair) crash(m *member) {
	p.Helper()
	p.must(m.process.Kill9())
	p.must(p.lab.Kill9In(m.name))
}

// is fails unless the member's Patroni says that it has that role (primary, replica, synchronous), and that its server runs.
func (m *member) is(role string) error {
	return get(fmt.Sprintf("http://127.0.0.1:%d/%s", m.restAPI, role), nil)
}

// kill9Postmaster kills a member's PostgreSQL alone; Patroni lives.
func (p *patroniPair) kill9Postmaster(m *member) {
	p.Helper()
	var status struct {
		Patroni struct{ Name string }
		State   string
	}
	p.must(get(fmt.Sprintf("http://127.0.0.1:%d/patroni", m.restAPI), &status))
	if status.State != "running" {
		p.Fatalf("%s is %q", m.name, status.State)
	}
	pid, err := p.lab.PostmasterIn(m.name)
	p.must(err)
	p.must(syscall.Kill(pid, syscall.SIGKILL))
}

// get asks for a page and decodes it into v, unless it is nil. Every answer but 200 is an error.
func get(url string, v any) error {
	client := http.Client{Timeout: 5 * time.Second}
	res, err := client.Get(url)
	if err != nil {
		return fmt.Errorf("ask %s: %w", url, err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: %s", url, res.Status)
	}
	if v == nil {
		return nil
	}
	if err := json.NewDecoder(res.Body).Decode(v); err != nil {
		return fmt.Errorf("decode answer of %s: %w", url, err)
	}
	return nil
}
