package rig

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"text/template"

	"github.com/pgtether/pgtether/internal/lab"
)

// Options of a proxy in front of a lab.
type Options struct {
	// Binary is the path of pgtether.
	Binary string
	// Listen and Admin are the addresses of the proxy and of its HTTP interface; default a free port of 127.0.0.1 each.
	Listen, Admin string
	// Dir receives the configuration, the state and the log; it is made if it is missing.
	Dir string
	// Nodes are those of the configuration; default: those of the lab, at their own addresses.
	Nodes []Node
	// ListenKeys are the lines of [listen] besides the address; default: tls = "disable".
	ListenKeys string
	// AdminKeys are the lines of [admin] besides the address, ProbeKeys those of [probe] besides the role.
	AdminKeys, ProbeKeys string
	// Mode is failover.mode; default observe.
	Mode string
	// Extra is appended to the configuration file, where [failover] is the open section.
	Extra string
	// Env is added to the environment of the process, each as "NAME=value".
	Env []string
}

// Node is one node as the proxy is told of it: by way of a relay, for instance.
type Node struct{ Name, Addr string }

var configText = template.Must(template.New("pgtether.toml").Parse(`# Written for a lab of two servers on this machine.
[cluster]
name = "keycloak"

[listen]
address = {{.Listen | printf "%q"}}
{{.ListenKeys}}

[admin]
address = {{.Admin | printf "%q"}}
{{.AdminKeys}}

[state]
dir = {{.State | printf "%q"}}
{{range .Nodes}}
[[node]]
name = {{.Name | printf "%q"}}
address = {{.Addr | printf "%q"}}
{{end}}
[probe]
user = {{.User | printf "%q"}}
password_file = {{.PasswordFile | printf "%q"}}
{{.ProbeKeys}}

[failover]
mode = {{.Mode | printf "%q"}}
{{.Extra}}`))

// writeConfig fills in the addresses and writes what `pgtether serve` reads: the configuration and the probe's password.
func writeConfig(o *Options, l *lab.Lab) (path string, err error) {
	for _, address := range []*string{&o.Listen, &o.Admin} {
		if *address, err = withPort(cmp.Or(*address, "127.0.0.1:0")); err != nil {
			return "", err
		}
	}
	if err := os.MkdirAll(filepath.Join(o.Dir, "state"), 0o700); err != nil {
		return "", fmt.Errorf("make directory of the proxy: %w", err)
	}
	password := filepath.Join(o.Dir, "probe-password")
	if err := os.WriteFile(password, []byte(l.ProbePassword+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("write password of the probe: %w", err)
	}
	if o.Nodes == nil {
		for _, n := range l.Nodes() {
			o.Nodes = append(o.Nodes, Node{n.Name(), n.Addr()})
		}
	}
	var text bytes.Buffer
	err = configText.Execute(&text, map[string]any{
		"Listen": o.Listen, "ListenKeys": cmp.Or(o.ListenKeys, `tls = "disable"`), "Admin": o.Admin, "AdminKeys": o.AdminKeys, "State": filepath.Join(o.Dir, "state"), "Nodes": o.Nodes,
		"User": l.ProbeUser, "PasswordFile": password, "ProbeKeys": o.ProbeKeys, "Extra": o.Extra,
		"Mode": cmp.Or(o.Mode, "observe"),
	})
	if err != nil {
		return "", fmt.Errorf("fill in configuration: %w", err)
	}
	path = filepath.Join(o.Dir, "pgtether.toml")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		return "", fmt.Errorf("write configuration: %w", err)
	}
	return path, nil
}

// withPort replaces port 0 by one that is free now, and fails early when the wanted one is taken. Port 0 becomes one of the lab's, which no
// outgoing connection takes before the proxy listens there, nor while it is restarted.
func withPort(address string) (string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", fmt.Errorf("read address %q: %w", address, err)
	}
	if port != "0" {
		return address, reserve(address)
	}
	for range 20 { // free on 127.0.0.1 may be taken on host
		var n int
		if n, err = lab.FreePort(); err != nil {
			break
		}
		address = net.JoinHostPort(host, strconv.Itoa(n))
		if err = reserve(address); err == nil {
			return address, nil
		}
	}
	return "", err
}

// reserve reports whether the address can be listened on now.
func reserve(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("reserve %s: %w", address, err)
	}
	return l.Close()
}
