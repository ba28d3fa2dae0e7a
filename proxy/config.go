package proxy

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// TLSMode says what the listener does with encryption.
type TLSMode string

// The modes of listen.tls.
const (
	// TLSDisable answers every SSLRequest with 'N'.
	TLSDisable TLSMode = "disable"
	// TLSAllow encrypts for those clients who ask. Without a certificate it answers 'N'.
	TLSAllow TLSMode = "allow"
	// TLSRequire refuses a startup packet in clear. A CancelRequest in clear is still accepted: drivers send it so.
	TLSRequire TLSMode = "require"
	// TLSPassthrough hands the client's TLS to the node. The proxy sees no frames: such sessions are opaque.
	TLSPassthrough TLSMode = "passthrough"
)

// BackendTLS says how the proxy encrypts its connections to the nodes, in libpq's words.
type BackendTLS string

// The modes of backend.tls.
const (
	BackendTLSDisable    BackendTLS = "disable"
	BackendTLSPrefer     BackendTLS = "prefer"
	BackendTLSRequire    BackendTLS = "require"
	BackendTLSVerifyCA   BackendTLS = "verify-ca"
	BackendTLSVerifyFull BackendTLS = "verify-full"
)

// The ways of auth.scram.
const (
	// SCRAMRelay passes SCRAM through untouched: the server authenticates.
	SCRAMRelay = "relay"
	// SCRAMProxy answers SCRAM with the role's verifier and logs in with the key that the exchange yields.
	SCRAMProxy = "proxy"
)

// Verifiers says where the stored passwords of roles come from.
type Verifiers string

// The sources of auth.
const (
	// VerifiersNone: there is none.
	VerifiersNone Verifiers = ""
	// VerifiersAtHand are answered from memory (auth.verifier_file).
	VerifiersAtHand Verifiers = "file"
	// VerifiersAsked are looked up on a node (auth.verifier_lookup).
	VerifiersAsked Verifiers = "lookup"
)

// drainReserve is what must be left of hold.session after a drain: the time to cut, promote and open.
const drainReserve = 3 * time.Second

// Config is everything an operator can set about the data plane. It has no defaults of its own: whoever reads the file supplies them.
type Config struct {
	Listen  ListenConfig
	Backend BackendConfig
	Hold    HoldConfig
	Limits  LimitsConfig
	// DrainTimeout bounds the wait for idle boundaries at a graceful stop (drain.timeout).
	DrainTimeout time.Duration
	Continuity   ContinuityConfig
	// SCRAM is auth.scram: SCRAMRelay or SCRAMProxy.
	SCRAM string
	// Verifiers says how Deps.Verifier answers.
	Verifiers Verifiers
}

// hasVerifiers reports whether it makes sense to ask for a role's stored password.
func (c Config) hasVerifiers() bool { return c.Verifiers != VerifiersNone || c.SCRAM == SCRAMProxy }

// ListenConfig is about the clients' side.
type ListenConfig struct {
	TLS TLSMode
	// Cert and Key name PEM files; both or none.
	Cert, Key string
	// ClientCA names a PEM file. When set, a client must show a certificate that it signed.
	ClientCA string
	// Replication lets replication connections in.
	Replication bool
}

// BackendConfig is about the nodes' side.
type BackendConfig struct {
	TLS BackendTLS
	// CA names a PEM file; empty means the system's roots. Cert and Key are the proxy's own certificate; both or none.
	CA, Cert, Key string
	// ConnectTimeout bounds the time from the dial to the backend's first answer.
	ConnectTimeout time.Duration
}

// HoldConfig is about waiting for a writer.
type HoldConfig struct {
	// Login is how long one login waits in total, counted only while there is no writer; Session the same for an idle session.
	Login, Session time.Duration
	// Max is how many logins may wait at once.
	Max int
	// ReleasePerSecond is the rate at which held logins are let go once there is a writer, after a slower start.
	ReleasePerSecond int
}

// ContinuityConfig is about sessions that survive a change of the writer.
type ContinuityConfig struct {
	Mode ContinuityMode
	// MovesAtOnce bounds the sessions that are asked for their state, and those that are moved, at the same time.
	MovesAtOnce int
}

// LimitsConfig bounds what clients can use. 0 means no limit where that is allowed.
type LimitsConfig struct {
	// MaxClients counts from the complete startup packet to the end of the session.
	MaxClients int
	// PerUser, PerDatabase and PerAddress count as MaxClients does; 0 means no limit.
	PerUser, PerDatabase, PerAddress int
	// StartupTimeout is how long the proxy waits in total for a client's own bytes until the login is through.
	StartupTimeout time.Duration
	// LoginsUnderWay bounds the logins between the dial and the session.
	LoginsUnderWay int
	// TLSHandshakes bounds the handshakes that are computed at once.
	TLSHandshakes int
}

// InvalidError says which key of the configuration has a value that cannot be used, and what would be right.
type InvalidError struct {
	// Key is the dotted name in the file ("listen.tls"), Value what was set.
	Key, Value string
	// Want says what would be right, in words.
	Want string
}

// Error implements error.
func (e *InvalidError) Error() string { return fmt.Sprintf("%s = %q: %s", e.Key, e.Value, e.Want) }

// Validate reports everything that is wrong with the values themselves, as joined *InvalidError. It reads no file.
func (c Config) Validate() error {
	return errors.Join(c.Listen.validate(), c.Backend.validate(), c.Hold.validate(c.DrainTimeout), c.Limits.validate(), c.validateRest())
}

func (c Config) validateRest() error {
	var p problems
	p.positive("drain.timeout", c.DrainTimeout)
	p.oneOf("continuity.mode", string(c.Continuity.Mode), string(MoveLossless), string(MoveRelaxed), string(MoveAlways), string(MoveOff))
	p.atLeast("continuity.moves_at_once", c.Continuity.MovesAtOnce, 1)
	p.oneOf("auth.scram", c.SCRAM, SCRAMRelay, SCRAMProxy)
	p.oneOf("auth.verifier_file and auth.verifier_lookup", string(c.Verifiers), string(VerifiersNone), string(VerifiersAtHand), string(VerifiersAsked))
	if c.SCRAM == SCRAMProxy && c.Listen.TLS == TLSPassthrough {
		p.add("auth.scram", c.SCRAM, `must be "relay" with listen.tls = "passthrough": the proxy cannot answer what it cannot see`)
	}
	return p.err()
}

func (c ListenConfig) validate() error {
	var p problems
	p.oneOf("listen.tls", string(c.TLS), string(TLSDisable), string(TLSAllow), string(TLSRequire), string(TLSPassthrough))
	p.pair("listen.tls_cert", c.Cert, "listen.tls_key", c.Key)
	terminates := c.TLS == TLSAllow || c.TLS == TLSRequire
	if c.TLS == TLSRequire && c.Cert == "" {
		p.add("listen.tls", string(c.TLS), `needs listen.tls_cert and listen.tls_key`)
	}
	if !terminates && c.Cert != "" {
		p.add("listen.tls_cert", c.Cert, `is used only with listen.tls = "allow" or "require"; remove it or change listen.tls`)
	}
	if c.ClientCA != "" && (!terminates || c.Cert == "") {
		p.add("listen.tls_client_ca", c.ClientCA, `needs listen.tls = "allow" or "require", and listen.tls_cert`)
	}
	return p.err()
}

func (c BackendConfig) validate() error {
	var p problems
	p.oneOf("backend.tls", string(c.TLS), string(BackendTLSDisable), string(BackendTLSPrefer), string(BackendTLSRequire),
		string(BackendTLSVerifyCA), string(BackendTLSVerifyFull))
	p.pair("backend.tls_cert", c.Cert, "backend.tls_key", c.Key)
	if c.CA != "" && c.TLS != BackendTLSVerifyCA && c.TLS != BackendTLSVerifyFull {
		p.add("backend.tls_ca", c.CA, `is used only with backend.tls = "verify-ca" or "verify-full"; remove it or change backend.tls`)
	}
	if c.Cert != "" && c.TLS == BackendTLSDisable {
		p.add("backend.tls_cert", c.Cert, `is not used with backend.tls = "disable"; remove it or change backend.tls`)
	}
	p.positive("backend.connect_timeout", c.ConnectTimeout)
	return p.err()
}

func (c HoldConfig) validate(drain time.Duration) error {
	var p problems
	p.positive("hold.login", c.Login)
	p.positive("hold.session", c.Session)
	if c.Session > 0 && drain > 0 && c.Session <= drain+drainReserve {
		p.add("hold.session", c.Session.String(), fmt.Sprintf("must be greater than drain.timeout + %s = %s", drainReserve, drain+drainReserve))
	}
	p.atLeast("hold.max", c.Max, 1)
	p.atLeast("hold.release_per_second", c.ReleasePerSecond, 1)
	return p.err()
}

func (c LimitsConfig) validate() error {
	var p problems
	p.atLeast("limits.max_clients", c.MaxClients, 1)
	p.atLeast("limits.per_user", c.PerUser, 0)
	p.atLeast("limits.per_database", c.PerDatabase, 0)
	p.atLeast("limits.per_address", c.PerAddress, 0)
	p.positive("limits.startup_timeout", c.StartupTimeout)
	p.atLeast("limits.logins_under_way", c.LoginsUnderWay, 1)
	p.atLeast("limits.tls_handshakes", c.TLSHandshakes, 1)
	return p.err()
}

// problems collects what is wrong with one section.
type problems []error

func (p *problems) err() error { return errors.Join(*p...) }

func (p *problems) add(key, value, want string) {
	*p = append(*p, &InvalidError{Key: key, Value: value, Want: want})
}

func (p *problems) oneOf(key, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		p.add(key, value, "must be one of "+strings.Join(allowed, ", "))
	}
}

func (p *problems) pair(key1, value1, key2, value2 string) {
	switch {
	case value1 != "" && value2 == "":
		p.add(key1, value1, "needs "+key2)
	case value1 == "" && value2 != "":
		p.add(key2, value2, "needs "+key1)
	}
}

func (p *problems) positive(key string, d time.Duration) {
	if d <= 0 {
		p.add(key, d.String(), `must be a duration above 0, such as "10s"`)
	}
}

func (p *problems) atLeast(key string, n, least int) {
	if n < least {
		p.add(key, strconv.Itoa(n), "must be at least "+strconv.Itoa(least))
	}
}
