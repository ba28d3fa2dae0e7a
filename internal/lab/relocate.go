package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// relocateInstallation copies the PostgreSQL programs into the lab when the servers' account cannot reach them where they are (a
// checkout in root's home, say). PostgreSQL finds its share and lib directories relative to the program, so that the copy works.
func (l *Lab) relocateInstallation(context.Context) error {
	if l.reachable(l.install.binDir) {
		return nil
	}
	root := filepath.Dir(l.install.binDir)
	if root == "/" || root == "/usr" || root == "/usr/local" {
		return fmt.Errorf("account %s, which runs the servers, may not enter %s", l.account.name, l.install.binDir)
	}
	for _, part := range []string{"share", "lib"} {
		if _, err := os.Stat(filepath.Join(root, part)); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("account %s, which runs the servers, may not enter %s, and %s has no %s directory to copy along",
				l.account.name, l.install.binDir, root, part)
		}
	}
	copied := filepath.Join(l.dir, "postgresql")
	if err := l.account.copyTree(root, copied, everything); err != nil {
		return fmt.Errorf("copy PostgreSQL for account %s: %w", l.account.name, err)
	}
	l.install.binDir = filepath.Join(copied, filepath.Base(l.install.binDir))
	return nil
}

// reachable tells whether the account may enter a directory and all above it.
func (l *Lab) reachable(dir string) bool {
	if !l.account.drop {
		return true // it is we, and inspect has run a program there
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if !l.account.mayEnter(dir) {
			return false
		}
	}
	return true
}
