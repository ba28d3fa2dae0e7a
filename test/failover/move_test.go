package failover

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/tellers"
)

// verifiable gives pgtether the application role's verifier, without which it can move none of its sessions.
func (w *world) verifiable() {
	w.Helper()
	text, err := w.a.QueryText(w.ctx, "postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'keycloak'")
	w.must(err)
	file := filepath.Join(w.TempDir(), "verifiers")
	w.must(os.WriteFile(file, fmt.Appendf(nil, "\"keycloak\" %q\n", text), 0o600))
	w.extra += fmt.Sprintf("[auth]\nverifier_file = %q\n", file)
}

// moved fails unless every session lives on, and has met another backend by now.
func (w *world) moved(c *tellers.Crowd) {
	w.Helper()
	if ends := c.Ends(time.Time{}); len(ends) > 0 {
		w.Errorf("%d sessions ended, the first: %+v", len(ends), ends[0])
	}
	if moved, sessions := c.Moved(); moved != crowdSize || sessions != crowdSize {
		w.Errorf("%d of %d sessions met another backend, want all of %d", moved, sessions, crowdSize)
	}
}

func TestASwitchoverThereAndBackIsNoticedByNoClient(t *testing.T) {
	bothWays(t, "there and back", lab.Options{Settings: map[string]string{"wal_keep_size": "256MB"}}, func(t *testing.T, opts lab.Options) {
		w := newAuto(t, opts)
		w.verifiable()
		w.startOpen()
		load := w.crowd()
		writer, other := w.a, w.b
		for epoch := uint64(2); epoch <= 3; epoch++ {
			ordered := time.Now()
			w.switched(writer, other, epoch)
			w.must(load.Await(w.ctx, crowdSize, time.Now()))
			w.moved(load)
			w.Logf("to %s: longest stall %s", other.Name(), load.Longest(ordered, tellers.Everyone).Length().Round(time.Millisecond))
			w.must(writer.Rewind(w.ctx, other))
			w.rejoined(writer)
			w.must(load.Await(w.ctx, crowdSize, time.Now()))
			writer, other = other, writer
		}
		w.sound(load, writer)
	})
}
