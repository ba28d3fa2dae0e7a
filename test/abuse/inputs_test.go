package abuse

import (
	"fmt"
	"testing"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// unhurried keeps timeouts from being taken for answers.
const unhurried = "[limits]\nstartup_timeout = \"60s\"\n"

func TestWhatAClientInClearSends(t *testing.T) {
	t.Parallel()
	f := startFront(t, inClear, rig.Options{Extra: unhurried})
	f.compareAll(t, []family{
		{"length words", lengthWords()},
		{"truncated", truncated()},
		{"contradictions", contradictions()},
		{"oddities", oddities()},
		{"versions", versions()},
		{"foreign protocols", foreign()},
		{"encryption requests", requestsInClear()},
		{"cancel requests", cancels()},
		{"passwords", passwords()},
		{"SCRAM, first message", saslFirsts()},
		{"SCRAM, final message", saslFinals()},
		{"replication", replications()},
		{"unknown types", unknownTypes()},
		{"impossible lengths", impossibleLengths()},
		{"unfinished", unfinished()},
		{"confused", confused()},
		{"storms", storms()},
	})
}

func TestWhatAClientOverTLSSends(t *testing.T) {
	t.Parallel()
	f := startFront(t, encrypted, rig.Options{ListenKeys: certificate("allow"), Extra: unhurried})
	f.compareAll(t, []family{
		{"handshakes", handshakes()},
		{"direct TLS", directly()},
		{"inside TLS", insideTLS()},
	})
}

func TestWhatAClientInClearSendsWhereTLSIsDemanded(t *testing.T) {
	t.Parallel()
	f := startFront(t, encrypted, rig.Options{ListenKeys: certificate("require"), Extra: unhurried})
	f.compareAll(t, []family{{"TLS demanded", requiredTLS()}})
}

// certificate is the proxy's, which is the server's own.
func certificate(mode string) string {
	cert, key := encrypted.TLS().ServerFiles(lab.RegionA)
	return fmt.Sprintf("tls = %q\ntls_cert = %q\ntls_key = %q", mode, cert, key)
}

// family is inputs that have something in common.
type family struct {
	name   string
	inputs []input
}

// compareAll goes through families of inputs. In the end the process holds what it held before.
func (f *front) compareAll(t *testing.T, families []family) {
	for _, family := range families {
		t.Run(family.name, func(t *testing.T) { f.compare(t, family.inputs) })
	}
	awaitFootprint(t, f.Proxy, f.before, 16<<20)
}
