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
	f.compareAll(t, inClearOnly())
}

func TestWhatAClientOverTLSSends(t *testing.T) {
	t.Parallel()
	f := startFront(t, encrypted, rig.Options{ListenKeys: certificate("allow"), Extra: unhurried})
	f.compareAll(t, overTLS())
}

func TestWhatAClientInClearSendsWhereTLSIsDemanded(t *testing.T) {
	t.Parallel()
	f := startFront(t, encrypted, rig.Options{ListenKeys: certificate("require"), Extra: unhurried})
	f.compareAll(t, []family{{"TLS demanded", requiredTLS()}})
}

func TestWhatAClientSendsWhereTLSIsTheNodes(t *testing.T) {
	t.Parallel()
	f := startFront(t, encrypted, rig.Options{ListenKeys: `tls = "passthrough"`, Extra: unhurried})
	f.compareAll(t, []family{{"passed through", passedThrough()}})
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
	f.checkLog(t)
	awaitFootprint(t, f.Proxy, f.before, 16<<20)
}
