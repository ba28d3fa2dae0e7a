package wire

import (
	"crypto/tls"
	"testing"
)

// run is one play of a script, straight to the server or through the proxy.
type run struct {
	*testing.T
	site  *site
	door  door
	peers []*peer
}

// script is what one or more clients do. Played twice it has to bring the same.
type script struct {
	name string
	play func(r *run)
	// whole: it moves many megabytes, and is not sent in small pieces.
	whole bool
	// from is the first major version of PostgreSQL that knows all of it; 0 is any.
	from int
}

// dial opens a connection and sends nothing on it but what encrypts it.
func (r *run) dial(name string) *peer {
	r.Helper()
	p := connect(r.T, name, r.door)
	r.peers = append(r.peers, p)
	return p
}

// open logs in without a password and reads up to the first ReadyForQuery. params are further parameters of the startup packet.
func (r *run) open(name string, params ...string) *peer {
	r.Helper()
	p := r.dial(name)
	p.send(startup(p.version, append([]string{"user", roleTrust, "database", database, "application_name", "wire"}, params...)...))
	p.ready(1)
	return p
}

// transcript is what all peers heard, one after the other.
func (r *run) transcript() []string {
	known := names{}
	for _, p := range r.peers {
		if p.pid != 0 {
			known[p.pid] = p.name
		}
	}
	var lines []string
	for _, p := range r.peers {
		lines = append(lines, "== "+p.name)
		for _, e := range p.heard {
			lines = append(lines, e.line(known))
		}
	}
	return lines
}

func (s script) transcript(t *testing.T, site *site, d door) []string {
	t.Helper()
	r := &run{T: t, site: site, door: d}
	s.play(r)
	for _, p := range r.peers {
		_ = p.raw.Close()
	}
	return r.transcript()
}

// compare plays every script both ways.
func compare(t *testing.T, site *site, direct, through door, scripts []script) {
	for _, s := range scripts {
		t.Run(s.name, func(t *testing.T) {
			if s.from > site.lab.Version() {
				return
			}
			want := s.transcript(t, site, direct)
			if len(want) < 3 {
				t.Fatalf("straight to the server nothing was heard: %q", want)
			}
			if d := firstDifference(want, s.transcript(t, site, through)); d != "" {
				t.Errorf("the client sees a difference at %s", d)
			}
		})
	}
}

// clientTLS is a client's side that checks the server's certificate.
func clientTLS(s *site) *tls.Config {
	roots := s.lab.TLS().Pool()
	return &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}
}
