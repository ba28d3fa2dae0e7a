package rig

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build compiles pgtether as it stands in the source tree into dir and returns the path of the binary.
func Build(ctx context.Context, dir string) (string, error) {
	path := filepath.Join(dir, "pgtether")
	cmd := exec.CommandContext(ctx, "go", "build", "-o", path, "github.com/pgtether/pgtether/cmd/pgtether")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build pgtether: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return path, nil
}
