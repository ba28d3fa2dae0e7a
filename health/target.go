package health

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of the configuration.
const (
	MinInterval, MaxInterval = 50 * time.Millisecond, time.Minute
	MinTimeout, MaxTimeout   = 50 * time.Millisecond, time.Minute
)

// Config is how every node is probed: the sections [probe] and [backend] of the configuration, with the secret already read.
type Config struct {
	// User, Password and Database are what the probe logs in with. Database is also where EXECUTE on pg_promote was granted.
	User, Password, Database string
	// Interval is the time between the starts of two rounds while a writer is open.
	Interval time.Duration
	// Timeout is the time that a whole round may take.
	Timeout time.Duration
	// TLS is how connections to the nodes are encrypted.
	TLS TLS
}

// Validate returns every mistake in the values, not in the files that they name (Config.Target reads those).
func (c Config) Validate() error {
	var errs []error
	if c.User == "" {
		errs = append(errs, errors.New("probe.user: missing"))
	}
	if c.Database == "" {
		errs = append(errs, errors.New("probe.database: missing"))
	}
	for _, v := range []struct{ key, value string }{{"user", c.User}, {"database", c.Database}, {"password", c.Password}} {
		if strings.ContainsRune(v.value, 0) {
			errs = append(errs, fmt.Errorf("probe.%s: contains a zero byte", v.key))
		}
	}
	if c.Interval < MinInterval || c.Interval > MaxInterval {
		errs = append(errs, fmt.Errorf("probe.interval: %s is out of range, want %s to %s", c.Interval, MinInterval, MaxInterval))
	}
	if c.Timeout < MinTimeout || c.Timeout > MaxTimeout {
		errs = append(errs, fmt.Errorf("probe.timeout: %s is out of range, want %s to %s", c.Timeout, MinTimeout, MaxTimeout))
	}
	return errors.Join(append(errs, c.TLS.validate()...)...)
}

// Target returns how to probe one node. It reads the TLS files. The instance names this pgtether in pg_stat_activity.
func (c Config) Target(node, address, instance string) (Target, error) {
	if err := c.Validate(); err != nil {
		return Target{}, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return Target{}, fmt.Errorf("address of node %s: %w", node, err)
	}
	tlsConfig, err := c.TLS.client(host)
	if err != nil {
		return Target{}, fmt.Errorf("TLS for node %s: %w", node, err)
	}
	return Target{
		Node: node, Address: address, User: c.User, Password: c.Password, Database: c.Database, Instance: instance,
		Timeout: c.Timeout, TLSMode: c.TLS.Mode, TLSConfig: tlsConfig,
	}, nil
}

// Target is one node and how to ask it. It is a value: a prober never writes to it, and a changed one takes effect at the next round.
type Target struct {
	// Node is the configured name.
	Node string
	// Address is the "host:port" that is dialed.
	Address string
	// User, Password and Database are what the probe logs in with.
	User, Password, Database string
	// Instance names this pgtether; application_name is "pgtether/<instance>".
	Instance string
	// Passing marks a look that is soon over, such as that of a command: its application_name is "pgtether-check/<instance>", it is nobody's
	// rival, and it leaves the advisory lock alone.
	Passing bool
	// Timeout is the time that a whole round may take.
	Timeout time.Duration
	// TLSMode is one of the words of backend.tls; empty means disable.
	TLSMode string
	// TLSConfig is used unless TLSMode is disable.
	TLSConfig *tls.Config
}

// String names the target without its secrets.
func (t Target) String() string {
	return fmt.Sprintf("%s at %s as %s to %s", t.Node, t.Address, t.User, t.Database)
}

// GoString is String: the password must not appear in %#v either.
func (t Target) GoString() string { return t.String() }

// LogValue is what a log shows of the target.
func (t Target) LogValue() slog.Value { return slog.StringValue(t.String()) }

// String names what the configuration says without its secrets.
func (c Config) String() string {
	return fmt.Sprintf("user %s database %s interval %s timeout %s tls %s", c.User, c.Database, c.Interval, c.Timeout, c.TLS.Mode)
}

// GoString is String: the password must not appear in %#v either.
func (c Config) GoString() string { return c.String() }

// LogValue is what a log shows of the configuration.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// sameServer reports whether a connection made for the one target may be used for the other.
func (t Target) sameServer(o Target) bool {
	return t.Address == o.Address && t.User == o.User && t.Password == o.Password && t.Database == o.Database &&
		t.Instance == o.Instance && t.Passing == o.Passing && t.TLSMode == o.TLSMode && t.TLSConfig == o.TLSConfig
}

// applicationPrefix begins the application_name of every connection of a running pgtether, passingPrefix that of one which only takes a look.
const (
	applicationPrefix = "pgtether/"
	passingPrefix     = "pgtether-check/"
)

// applicationName fits into NAMEDATALEN and has no character that PostgreSQL would replace.
func (t Target) applicationName() string {
	prefix := applicationPrefix
	if t.Passing {
		prefix = passingPrefix
	}
	name := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, prefix+t.Instance)
	return name[:min(len(name), 63)]
}

// printable makes text that came over the network fit for a log line and an API: short, one line, valid UTF-8.
func printable(s string) string { return clean(s, 200) }

// clean is printable with another limit, in bytes.
func clean(s string, limit int) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= limit {
			b.WriteString("...")
			break
		}
		switch {
		case r == utf8.RuneError, r < ' ', r >= 0x7f && r < 0xa0, r >= 0x2028 && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			b.WriteByte('?')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
