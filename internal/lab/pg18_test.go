//go:build linux && pg18

// These tests need npm and its registry once: go test -tags pg18 ./internal/lab/
package lab_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/pgtether/pgtether/internal/lab"
)

func TestPairOfVersion18SpeaksProtocol32(t *testing.T) {
	dir, err := lab.PG18BinDir(within(t))
	must(t, err)
	ctx, l := start(t, lab.Options{BinDir: dir, AppAuth: "trust"})
	if l.Version() != 18 {
		t.Fatalf("version is %d, want 18", l.Version())
	}
	for _, n := range l.Nodes() {
		c := dial(t, n.Addr())
		const version32 = 3<<16 | 2
		hello := pgproto3.StartupMessage{ProtocolVersion: version32, Parameters: map[string]string{"user": l.AppUser, "database": l.AppDatabase}}
		packet, err := hello.Encode(nil)
		must(t, err)
		send(t, c, string(packet))
		if length := cancelKeyLength(t, pgproto3.NewFrontend(c, c)); length != 32 {
			t.Errorf("cancel key of %s has %d bytes, want the 32 of protocol 3.2", n.Name(), length)
		}
	}
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	must(t, a.Kill9())
	must(t, b.Promote(ctx))
	must(t, a.Rebuild(ctx, b))
}

func cancelKeyLength(t *testing.T, f *pgproto3.Frontend) int {
	t.Helper()
	for {
		message, err := f.Receive()
		must(t, err)
		switch m := message.(type) {
		case *pgproto3.BackendKeyData:
			return len(m.SecretKey)
		case *pgproto3.ErrorResponse:
			t.Fatalf("the server says %s: %s", m.Code, m.Message)
		case *pgproto3.ReadyForQuery:
			t.Fatal("no BackendKeyData came")
		}
	}
}
