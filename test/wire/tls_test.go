package wire

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// whoami asks for what a login depends on. The proxy is the server's client, so its own encryption is not in it.
const whoami = "SELECT current_user, current_database(), 1"

// login logs in with psql and returns what it says: the answer, or the refusal with its words.
func (c client) login(env ...string) string {
	c.Helper()
	said, err := c.with(env...).run(whoami, "psql", "-qAt", "-v", "VERBOSITY=verbose")
	return fmt.Sprintf("%s(%v)", said, err)
}

// scram logs in by password.
var scram = []string{"PGUSER=" + roleSCRAM, "PGPASSWORD=" + rolePassword, "PGDATABASE=" + database}

func TestEverySSLModeOfLibpqComesToTheSame(t *testing.T) {
	s := pg15.start(t)
	for name, through := range map[string]string{"terminated with the server's certificate": s.encrypted(t).Listen, "passed through": s.through(t).Listen} {
		t.Run(name, func(t *testing.T) {
			d, p := tools(t, s.node.Addr(), through, database)
			for _, mode := range []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"} {
				for _, binding := range []string{"disable", "prefer", "require"} {
					env := append(scram, "PGSSLMODE="+mode, "PGCHANNELBINDING="+binding, "PGSSLROOTCERT="+s.lab.TLS().CAFile)
					if direct, got := d.login(env...), p.login(env...); direct != got {
						t.Errorf("sslmode=%s channel_binding=%s\n  direct:   %s\n  pgtether: %s", mode, binding, direct, got)
					}
				}
			}
			env := append(scram, "PGSSLMODE=verify-full", "PGCHANNELBINDING=require", "PGSSLROOTCERT="+s.lab.TLS().CAFile)
			if got := p.login(env...); !strings.HasPrefix(got, roleSCRAM+"|") {
				t.Errorf("with channel binding nobody gets in: %s", got)
			}
			env = append(env, "PGPASSWORD=wrong")
			sameText(t, d.login(env...), p.login(env...))
		})
	}
}

func TestAListenerThatRequiresTLSSaysSoInPostgreSQLsWords(t *testing.T) {
	s := pg15.start(t)
	cert, key := s.lab.TLS().ServerFiles(s.node.Name())
	p := client{t, s.proxy(t, "required", listenTLS("require", cert, key), "").Listen, nil}
	if got := p.login(append(scram, "PGSSLMODE=disable")...); !strings.Contains(got, "FATAL") || !strings.Contains(got, "(exit status 2)") {
		t.Errorf("in clear: %s", got)
	}
	if got := p.login(append(scram, "PGSSLMODE=require")...); !strings.HasPrefix(got, roleSCRAM+"|") {
		t.Errorf("encrypted: %s", got)
	}
}

// ownCertificate is a proxy that shows another certificate than the server, and answers SCRAM itself or not.
func ownCertificate(t *testing.T, s *site, name, auth string) client {
	t.Helper()
	cert, key, err := s.lab.TLS().Issue("proxy-" + name)
	if err != nil {
		t.Fatal(err)
	}
	extra := fmt.Sprintf("[backend]\ntls = \"verify-full\"\ntls_ca = %q\n%s", s.lab.TLS().CAFile, auth)
	return client{t, s.proxy(t, name, listenTLS("allow", cert, key), extra).Listen, nil}
}

func TestTwoCertificatesBreakChannelBindingUnlessTheProxyAnswersSCRAM(t *testing.T) {
	s := pg15.start(t)
	verifiers := filepath.Join(s.lab.Dir(), "verifiers")
	line := fmt.Sprintf("%q %q\n", roleSCRAM, s.query(t, "SELECT rolpassword FROM pg_authid WHERE rolname = $1", roleSCRAM))
	if err := os.WriteFile(verifiers, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	s.lookupFunction(t)
	relay := ownCertificate(t, s, "relay", "")
	file := ownCertificate(t, s, "file", fmt.Sprintf("[auth]\nscram = \"proxy\"\nverifier_file = %q\n", verifiers))
	lookup := ownCertificate(t, s, "lookup", "[auth]\nscram = \"proxy\"\nverifier_lookup = \"pgtether.scram_verifier\"\n")
	direct := client{t, s.node.Addr(), nil}
	encrypted := append(scram, "PGSSLMODE=verify-full", "PGSSLROOTCERT="+s.lab.TLS().CAFile)

	if got := relay.login(encrypted...); !strings.Contains(got, "channel binding check failed") {
		t.Errorf("relayed with two certificates, binding preferred: %s", got)
	}
	if got := relay.login(append(encrypted, "PGCHANNELBINDING=disable")...); !strings.HasPrefix(got, roleSCRAM+"|") {
		t.Errorf("relayed with two certificates, binding disabled by the client: %s", got)
	}
	for name, proxy := range map[string]client{"verifier_file": file, "verifier_lookup": lookup} {
		t.Run(name, func(t *testing.T) {
			proxy.T = t
			for _, env := range [][]string{
				encrypted, append(encrypted, "PGCHANNELBINDING=disable"), append(scram, "PGSSLMODE=disable"),
				append(encrypted, "PGPASSWORD=wrong"), append(scram, "PGSSLMODE=disable", "PGPASSWORD=wrong"),
				append(encrypted, "PGUSER=nosuch"), append(encrypted, "PGUSER=full"), append(encrypted, "PGUSER=unwelcome"),
				append(encrypted, "PGDATABASE=nosuch"), append(encrypted, "PGUSER="+roleTrust), append(encrypted, "PGUSER="+roleClear),
			} {
				sameText(t, direct.login(env...), proxy.login(env...))
			}
		})
	}
}

// lookupFunction runs the file that users run.
func (s *site) lookupFunction(t *testing.T) {
	t.Helper()
	file, err := filepath.Abs(filepath.Join("..", "..", "configs", "sql", "verifier-lookup.sql"))
	if err != nil {
		t.Fatal(err)
	}
	client{t, s.node.Addr(), nil}.must("", "psql", "-q", "-d", s.node.SuperDSN("postgres"), "-f", file)
}

func TestDirectTLSNeedsItsProtocolNamed(t *testing.T) {
	s := pg18.start(t)
	for name, addr := range map[string]string{"the server": s.node.Addr(), "pgtether": s.encrypted(t).Listen} {
		for _, protocols := range [][]string{nil, {"http/1.1"}} {
			cfg := clientTLS(s)
			cfg.NextProtos = protocols
			c, err := tls.Dial("tcp", addr, cfg)
			if err == nil {
				_, err = c.Read(make([]byte, 1))
				_ = c.Close()
			}
			if err == nil {
				t.Errorf("%s talks to a client that names protocols %q", name, protocols)
			}
		}
	}
}

func TestTheLabsCertificateIsTheOneThatIsShown(t *testing.T) {
	s := pg15.start(t)
	d := connect(t, "direct", door{addr: s.node.Addr(), encryption: clientTLS(s)})
	p := connect(t, "pgtether", door{addr: s.encrypted(t).Listen, encryption: clientTLS(s)})
	if a, b := d.heard[len(d.heard)-1].words, p.heard[len(p.heard)-1].words; a != b {
		t.Errorf("direct: %s\npgtether: %s", a, b)
	}
}
