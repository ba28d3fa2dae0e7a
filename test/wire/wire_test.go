package wire

import (
	"slices"
	"testing"
)

// everything is what every pair of doors is held against.
func everything() []script {
	return slices.Concat(simpleScripts(), extendedScripts(), copyScripts(), sideScripts(), endScripts(), nonsenseScripts())
}

func TestInClearNothingTellsTheProxyFromTheServer(t *testing.T) {
	s := pg15.start(t)
	compare(t, s, door{addr: s.node.Addr(), version: version30}, door{addr: s.inClear(t).Listen, version: version30}, everything())
}

func TestOnGoroutinesNothingTellsThemApart(t *testing.T) {
	s := pg15.start(t)
	t.Setenv("PGTETHER_FORWARDER", "goroutines")
	goroutines := s.proxy(t, "goroutines", "tls = \"disable\"\nreplication = true", "[backend]\ntls = \"disable\"\n").Listen
	compare(t, s, door{addr: s.node.Addr(), version: version30}, door{addr: goroutines, version: version30}, everything())
	compare(t, s, door{addr: s.node.Addr(), version: version30}, door{addr: goroutines, version: version30, chopped: true}, brief())
}

// brief is the same without what moves many megabytes.
func brief() []script {
	return slices.DeleteFunc(everything(), func(s script) bool { return s.whole })
}

func TestInClearNothingTellsThemApartWhenTheClientSendsInPieces(t *testing.T) {
	s := pg15.start(t)
	compare(t, s, door{addr: s.node.Addr(), version: version30}, door{addr: s.inClear(t).Listen, version: version30, chopped: true}, brief())
}

func TestUnderTLSOnBothLegsNothingTellsThemApart(t *testing.T) {
	s := pg15.start(t)
	encryption := clientTLS(s)
	compare(t, s, door{addr: s.node.Addr(), version: version30, encryption: encryption},
		door{addr: s.encrypted(t).Listen, version: version30, encryption: encryption}, everything())
}

func TestPassthroughIsTheServersOwnTLS(t *testing.T) {
	s := pg15.start(t)
	encryption := clientTLS(s)
	compare(t, s, door{addr: s.node.Addr(), version: version30, encryption: encryption},
		door{addr: s.through(t).Listen, version: version30, encryption: encryption}, brief())
}

func TestPostgreSQL18WithLongKeysAndDirectTLS(t *testing.T) {
	s := pg18.start(t)
	encryption := clientTLS(s)
	encryption.NextProtos = []string{alpn}
	t.Run("in clear", func(t *testing.T) {
		compare(t, s, door{addr: s.node.Addr(), version: version32}, door{addr: s.inClear(t).Listen, version: version32}, brief())
	})
	t.Run("direct TLS", func(t *testing.T) {
		compare(t, s, door{addr: s.node.Addr(), version: version32, encryption: encryption, direct: true},
			door{addr: s.encrypted(t).Listen, version: version32, encryption: encryption, direct: true}, brief())
	})
	t.Run("direct TLS passed through", func(t *testing.T) {
		compare(t, s, door{addr: s.node.Addr(), version: version32, encryption: encryption, direct: true},
			door{addr: s.through(t).Listen, version: version32, encryption: encryption, direct: true}, slices.Concat(cancelScripts(), endScripts(), pipelineScripts()))
	})
}
