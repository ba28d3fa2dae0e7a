package lab

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// copyTree copies a directory for the account. skip is asked with each path relative to src; a skipped directory is left out
// with all below it. Files that vanish meanwhile are left out: that is normal under a running server.
func (a account) copyTree(src, dst string, skip func(rel string, entry fs.DirEntry) bool) error {
	err := filepath.WalkDir(src, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && path != src {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(src, path)
		if err != nil {
			return err
		}
		if rel != "." && skip(rel, entry) {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err := a.copyEntry(path, filepath.Join(dst, rel), entry); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("copy %s: %w", src, err)
	}
	return nil
}

func (a account) copyEntry(src, dst string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	switch {
	case entry.IsDir():
		err = os.Mkdir(dst, info.Mode().Perm())
		if errors.Is(err, fs.ErrExist) {
			err = nil
		}
	case entry.Type()&fs.ModeSymlink != 0:
		var link string
		if link, err = os.Readlink(src); err == nil {
			err = os.Symlink(link, dst)
		}
	case entry.Type().IsRegular():
		err = copyFile(src, dst, info.Mode().Perm())
	default: // sockets and the like have no place in a copy
		return nil
	}
	if err != nil {
		return err
	}
	return a.own(dst)
}

func copyFile(src, dst string, mode fs.FileMode) (err error) {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// everything is the skip function that skips nothing.
func everything(string, fs.DirEntry) bool { return false }

// notInBackup tells what a base backup leaves out (PostgreSQL's documentation, "Backing Up the Data Directory"): what a running
// server keeps for itself, what the copy must not inherit, and WAL, which is copied last.
func notInBackup(rel string, entry fs.DirEntry) bool {
	base := filepath.Base(rel)
	if slices.Contains([]string{"postmaster.pid", "postmaster.opts", "standby.signal", "recovery.signal", "backup_label", "pg_internal.init"}, base) {
		return true
	}
	if matched, _ := filepath.Match("pgsql_tmp*", base); matched {
		return true
	}
	emptied := []string{"pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"}
	return slices.Contains(emptied, filepath.Dir(rel))
}
