package rig

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pgtether/pgtether/internal/lab"
)

// Verifiers writes the password verifiers of roles, as a node has them, into a file in dir and returns the configuration's [auth] section that
// names it. With it pgtether can move sessions of these roles.
func Verifiers(ctx context.Context, from *lab.Node, dir string, roles ...string) (section string, err error) {
	var lines []byte
	for _, role := range roles {
		text, err := from.QueryText(ctx, "postgres", fmt.Sprintf("SELECT rolpassword FROM pg_authid WHERE rolname = '%s'", role))
		if err != nil {
			return "", fmt.Errorf("read verifier of %s: %w", role, err)
		}
		lines = fmt.Appendf(lines, "%q %q\n", role, text)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make directory for verifiers: %w", err)
	}
	file := filepath.Join(dir, "verifiers")
	if err := os.WriteFile(file, lines, 0o600); err != nil {
		return "", fmt.Errorf("write verifiers: %w", err)
	}
	return fmt.Sprintf("[auth]\nverifier_file = %q\n", file), nil
}
