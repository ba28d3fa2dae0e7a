package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// endpoint is a host and a port that the file names.
type endpoint struct {
	host string
	port uint16
	// ip is valid when the host is an address and not a name.
	ip netip.Addr
}

// parseEndpoint reads "host:port". The error says what would be right; example is a port that fits.
func parseEndpoint(text string, example int) (endpoint, error) {
	wrong := func(format string, args ...any) (endpoint, error) {
		return endpoint{}, &ValueError{text, fmt.Sprintf(format, args...)}
	}
	if _, rest, ok := strings.Cut(text, "://"); ok {
		return wrong("a host and a port: write it without a scheme, such as %q", strings.Trim(rest, "/"))
	}
	if strings.HasPrefix(text, "/") {
		return wrong("a host and a port: Unix sockets are not supported")
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		bare := strings.Trim(text, "[]")
		if ip, err := netip.ParseAddr(bare); err == nil {
			return wrong("a host and a port; %q would be right", net.JoinHostPort(ip.String(), strconv.Itoa(example)))
		}
		if isHostname(text) {
			return wrong("a host and a port; %q would be right", net.JoinHostPort(text, strconv.Itoa(example)))
		}
		return wrong(`a host and a port, such as "10.0.0.11:%d"`, example)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return wrong("a host and a port: the port must be a number from 1 to 65535")
	}
	e := endpoint{host: host, port: uint16(n)}
	// The standard library takes anything for the zone of an IPv6 address; an interface has a plain name.
	if ip, err := netip.ParseAddr(host); err == nil && (ip.Zone() == "" || isHostname(ip.Zone())) {
		e.ip = ip.Unmap()
	} else if host != "" && !isHostname(host) {
		return wrong("a host and a port: %s is neither an IP address nor a host name", quote(host))
	}
	return e, nil
}

// isHostname reports whether s could be resolved: labels of letters, digits, '-' and '_', at most 253 bytes.
func isHostname(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return false
		}
		if strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	return true
}

// everywhere reports whether a listener at the endpoint takes connections at every address of the machine.
func (e endpoint) everywhere() bool { return e.host == "" || e.ip.IsUnspecified() }

// loopback reports whether only this machine can reach the endpoint.
func (e endpoint) loopback() bool { return strings.EqualFold(e.host, "localhost") || e.ip.IsLoopback() }

// same reports whether both name one place, as far as that can be said without resolving names.
func (e endpoint) same(o endpoint) bool {
	if e.port != o.port {
		return false
	}
	if e.ip.IsValid() && o.ip.IsValid() {
		return e.ip == o.ip
	}
	return strings.EqualFold(strings.TrimSuffix(e.host, "."), strings.TrimSuffix(o.host, ".")) || e.loopback() && o.loopback()
}

// takes reports whether a listener at e would take connections that are made to o.
func (e endpoint) takes(o endpoint) bool {
	return e.same(o) || e.port == o.port && (e.everywhere() && (o.loopback() || o.everywhere()))
}

// checkListeners checks where pgtether listens.
func checkListeners(f *File, r *report) {
	listen, listenOK := checkEndpoint(r, "listen.address", f.Listen.Address, 6432)
	admin, adminOK := checkEndpoint(r, "admin.address", f.Admin.Address, 7432)
	if listenOK && adminOK && (listen.takes(admin) || admin.takes(listen) || bothHere(listen, admin)) {
		r.refuse("admin.address", "%q is taken by listen.address = %q; clients and administration need a port each",
			f.Admin.Address, f.Listen.Address)
	}
	if listenOK && !listen.loopback() && (f.Listen.TLS == "disable" || f.Listen.TLS == "allow" && f.Listen.TLSCert == "") && !r.refused("listen.tls") {
		r.warn("listen.tls", "clients of other machines connect without encryption; set tls_cert and tls_key in [listen]")
	}
}

// bothHere reports whether one of two listeners with the same port is everywhere, so that the other finds its port taken.
func bothHere(a, b endpoint) bool { return a.port == b.port && (a.everywhere() || b.everywhere()) }

func checkEndpoint(r *report, path, text string, example int) (endpoint, bool) {
	if r.refused(path) {
		return endpoint{}, false
	}
	e, err := parseEndpoint(text, example)
	if err != nil {
		r.refuse(path, "%s", err.Error()).Err = err
		return endpoint{}, false
	}
	return e, true
}

// checkNodes checks the servers, each for itself and all against each other.
func checkNodes(f *File, r *report) {
	if len(f.Nodes) == 0 {
		r.refuse("node", `missing; write one [[node]] with name and address per PostgreSQL server, such as name = "region-a", address = "10.0.0.11:5432"`)
		return
	}
	listen, listenErr := parseEndpoint(f.Listen.Address, 6432)
	var known []endpoint
	var of []int
	for i, n := range f.Nodes {
		at := index("node", i)
		checkName(r, join(at, "name"), n.Name, "a node")
		for j := range i {
			if n.Name != "" && f.Nodes[j].Name == n.Name {
				r.refuse(join(at, "name"), "%q is already the name of the node at line %d; each needs its own", n.Name, r.lines.near(index("node", j)))
				break
			}
		}
		address := join(at, "address")
		if n.Address == "" {
			r.refuse(address, `missing; write the host and port of PostgreSQL, such as address = "10.0.0.11:5432"`)
			continue
		}
		e, ok := checkEndpoint(r, address, n.Address, 5432)
		if !ok {
			continue
		}
		switch {
		case e.everywhere():
			r.refuse(address, "%q is where a server listens, not where it can be reached; write its own address", n.Address)
		case listenErr == nil && listen.takes(e):
			r.refuse(address, "%q is pgtether's own listen.address (%q); it would connect to itself", n.Address, f.Listen.Address)
		}
		for k, other := range known {
			if e.same(other) {
				r.refuse(address, "%q is the address of node %q too; two addresses of one server are not two servers", n.Address, f.Nodes[of[k]].Name)
				break
			}
		}
		known, of = append(known, e), append(of, i)
	}
	if len(f.Nodes) == 1 {
		r.warn("node", "only one node is configured: when it fails there is nothing to fail over to")
	}
}
