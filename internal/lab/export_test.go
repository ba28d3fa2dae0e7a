package lab

import "context"

// FindBinDir is the installation that a lab without Options.BinDir runs.
func FindBinDir(ctx context.Context) (string, error) {
	found, err := findInstallation(ctx, "")
	return found.binDir, err
}
