package health

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
)

// connectAs opens a session with an application_name; the caller closes it.
func connectAs(ctx context.Context, t *testing.T, dsn, application string) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	must(t, err)
	cfg.RuntimeParams["application_name"] = application
	c, err := pgx.ConnectConfig(ctx, cfg)
	must(t, err)
	return c
}

// failure is the error of an operation that is to be an OperateError, of the wanted kind when there is one.
func failure(t *testing.T, err, kind error) *OperateError {
	t.Helper()
	var e *OperateError
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want an OperateError", err)
	}
	if kind != nil && !errors.Is(err, kind) {
		t.Errorf("error %q, want %q", err, kind)
	}
	return e
}

// poor makes a role without rights and returns the target for it.
func poor(ctx context.Context, t *testing.T, a, b *lab.Node, target Target) Target {
	t.Helper()
	must(t, a.Exec(ctx, "postgres", "SET synchronous_commit = local; SET password_encryption = 'scram-sha-256'; CREATE ROLE poor LOGIN PASSWORD 'poor'"))
	must(t, b.AwaitCaughtUp(ctx, a))
	target.User, target.Password = "poor", "poor"
	return target
}
