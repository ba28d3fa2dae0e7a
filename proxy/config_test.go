package proxy

import (
	"errors"
	"testing"
	"time"
)

// testConfig is a configuration that passes Validate; tests change what they are about. No session is moved: most fake servers do not know SQL.
func testConfig() Config {
	return Config{
		Listen:       ListenConfig{TLS: TLSAllow},
		Backend:      BackendConfig{TLS: BackendTLSDisable, ConnectTimeout: 3 * time.Second},
		Hold:         HoldConfig{Login: 15 * time.Second, Session: 15 * time.Second, Max: 800, ReleasePerSecond: 200},
		Limits:       LimitsConfig{MaxClients: 1000, StartupTimeout: 10 * time.Second, LoginsUnderWay: 200, TLSHandshakes: 64},
		DrainTimeout: 10 * time.Second,
		Continuity:   ContinuityConfig{Mode: MoveOff, MovesAtOnce: 16},
		SCRAM:        SCRAMRelay,
	}
}

func TestTheDefaultsOfTheDesignAreValid(t *testing.T) {
	if err := testConfig().Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestValidateNamesTheKeyAndWhatWouldBeRight(t *testing.T) {
	cases := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"unknown listen mode", func(c *Config) { c.Listen.TLS = "prefer" },
			`listen.tls = "prefer": must be one of disable, allow, require, passthrough`},
		{"require without certificate", func(c *Config) { c.Listen.TLS = TLSRequire },
			`listen.tls = "require": needs listen.tls_cert and listen.tls_key`},
		{"certificate without key", func(c *Config) { c.Listen.Cert = "server.crt" }, `listen.tls_cert = "server.crt": needs listen.tls_key`},
		{"key without certificate", func(c *Config) { c.Listen.Key = "server.key" }, `listen.tls_key = "server.key": needs listen.tls_cert`},
		{"certificate that passthrough would ignore", func(c *Config) {
			c.Listen = ListenConfig{TLS: TLSPassthrough, Cert: "server.crt", Key: "server.key"}
		}, `listen.tls_cert = "server.crt": is used only with listen.tls = "allow" or "require"; remove it or change listen.tls`},
		{"client CA without TLS", func(c *Config) { c.Listen.TLS = TLSDisable; c.Listen.ClientCA = "ca.crt" },
			`listen.tls_client_ca = "ca.crt": needs listen.tls = "allow" or "require", and listen.tls_cert`},
		{"unknown backend mode", func(c *Config) { c.Backend.TLS = "allow" },
			`backend.tls = "allow": must be one of disable, prefer, require, verify-ca, verify-full`},
		{"CA that would not be looked at", func(c *Config) { c.Backend.TLS = BackendTLSRequire; c.Backend.CA = "ca.crt" },
			`backend.tls_ca = "ca.crt": is used only with backend.tls = "verify-ca" or "verify-full"; remove it or change backend.tls`},
		{"backend certificate without TLS", func(c *Config) { c.Backend.Cert, c.Backend.Key = "c.crt", "c.key" },
			`backend.tls_cert = "c.crt": is not used with backend.tls = "disable"; remove it or change backend.tls`},
		{"no connect timeout", func(c *Config) { c.Backend.ConnectTimeout = 0 },
			`backend.connect_timeout = "0s": must be a duration above 0, such as "10s"`},
		{"hold shorter than a drain", func(c *Config) { c.Hold.Session = 13 * time.Second },
			`hold.session = "13s": must be greater than drain.timeout + 3s = 13s`},
		{"no room to hold", func(c *Config) { c.Hold.Max = 0 }, `hold.max = "0": must be at least 1`},
		{"nothing would ever be released", func(c *Config) { c.Hold.ReleasePerSecond = 0 },
			`hold.release_per_second = "0": must be at least 1`},
		{"negative limit", func(c *Config) { c.Limits.PerUser = -1 }, `limits.per_user = "-1": must be at least 0`},
		{"nobody may log in", func(c *Config) { c.Limits.MaxClients = 0 }, `limits.max_clients = "0": must be at least 1`},
		{"negative drain", func(c *Config) { c.DrainTimeout = -time.Second },
			`drain.timeout = "-1s": must be a duration above 0, such as "10s"`},
		{"unknown way of SCRAM", func(c *Config) { c.SCRAM = "md5" }, `auth.scram = "md5": must be one of relay, proxy`},
		{"SCRAM answered blindly", func(c *Config) { c.SCRAM = SCRAMProxy; c.Listen.TLS = TLSPassthrough },
			`auth.scram = "proxy": must be "relay" with listen.tls = "passthrough": the proxy cannot answer what it cannot see`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg := testConfig()
			c.change(&cfg)
			err := cfg.Validate()
			var invalid *InvalidError
			if !errors.As(err, &invalid) {
				t.Fatalf("Validate() = %v, want an *InvalidError", err)
			}
			if err.Error() != c.want {
				t.Errorf("Validate() = %q\nwant          %q", err, c.want)
			}
		})
	}
}

func TestValidateReportsEveryProblemAtOnce(t *testing.T) {
	err := Config{}.Validate()
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || len(joined.Unwrap()) != 5 {
		t.Fatalf("Validate() of nothing = %v, want a problem from each of the five sections", err)
	}
}
