package lab_test

import (
	"context"
	"log/slog"
	"os"
	"testing"

	"github.com/pgtether/pgtether/internal/lab"
)

func TestPairReplicates(t *testing.T) {
	ctx := context.Background()
	l, err := lab.Start(ctx, lab.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, b := l.Node(lab.RegionA), l.Node(lab.RegionB)
	if err := a.Exec(ctx, "keycloak", "CREATE TABLE t (x int); INSERT INTO t VALUES (7)"); err != nil {
		t.Fatal(err)
	}
	if err := b.AwaitCaughtUp(ctx, a); err != nil {
		t.Fatal(err)
	}
	if x, err := b.QueryText(ctx, "keycloak", "SELECT x FROM t"); err != nil || x != "7" {
		t.Fatal(x, err)
	}
	t.Log(a.AppDSN(), a.Processes())
	if err := a.FreezeAll(); err != nil {
		t.Fatal(err)
	}
	if err := b.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}
