//go:build linux

package lab

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func writeTree(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

func readTree(t *testing.T, root string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		rel, relErr := filepath.Rel(root, path)
		files[rel] = string(content)
		return errors.Join(err, relErr)
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestCopyTreeKeepsFilesModesAndLinks(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	writeTree(t, src, map[string]string{"a": "1", "d/b": "2", "d/e/c": "3"})
	if err := os.Symlink("a", filepath.Join(src, "link")); err != nil {
		t.Fatal(err)
	}
	if err := (account{}).copyTree(src, dst, everything); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a": "1", "d/b": "2", "d/e/c": "3", "link": "1"}
	if got := readTree(t, dst); !maps.Equal(got, want) {
		t.Errorf("copy holds %v, want %v", got, want)
	}
	if to, err := os.Readlink(filepath.Join(dst, "link")); err != nil || to != "a" {
		t.Errorf("link leads to %q (%v), want a", to, err)
	}
	if info, err := os.Stat(filepath.Join(dst, "a")); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode is %v (%v), want 0640", info.Mode(), err)
	}
	if err := (account{}).copyTree(filepath.Join(src, "missing"), dst, everything); err == nil {
		t.Error("a directory that does not exist was copied")
	}
}

// A running server removes files while they are copied.
func TestCopyTreeForgivesFilesThatVanish(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	writeTree(t, src, map[string]string{"a": "1", "b": "2", "d/c": "3"})
	remove := func(rel string, _ fs.DirEntry) bool {
		if rel == "b" || rel == "d" {
			if err := os.RemoveAll(filepath.Join(src, rel)); err != nil {
				t.Error(err)
			}
		}
		return false
	}
	if err := (account{}).copyTree(src, dst, remove); err != nil {
		t.Fatal(err)
	}
	if got := readTree(t, dst); got["a"] != "1" || len(got) != 1 {
		t.Errorf("copy holds %v, want a alone", got)
	}
}

func TestBaseBackupLeavesOutWhatAServerKeepsForItself(t *testing.T) {
	src, dst := t.TempDir(), filepath.Join(t.TempDir(), "copy")
	kept := map[string]string{"PG_VERSION": "15", "base/1/1249": "x", "global/pg_control": "c", "postgresql.auto.conf": "", "pg_xact/0000": "x"}
	dropped := map[string]string{
		"postmaster.pid": "1", "postmaster.opts": "", "standby.signal": "", "backup_label": "", "base/1/pg_internal.init": "",
		"base/pgsql_tmp/pgsql_tmp1.0": "", "pg_wal/000000010000000000000001": "w", "pg_replslot/region_b/state": "s", "pg_stat_tmp/x": "",
		"pg_dynshmem/mmap.1": "", "pg_notify/0000": "", "pg_subtrans/0000": "", "pg_serial/0": "", "pg_snapshots/0": "",
	}
	writeTree(t, src, kept)
	writeTree(t, src, dropped)
	if err := (account{}).copyTree(src, dst, notInBackup); err != nil {
		t.Fatal(err)
	}
	if got := readTree(t, dst); !maps.Equal(got, kept) {
		t.Errorf("backup holds %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(kept)))
	}
	for _, dir := range []string{"pg_wal", "pg_replslot", "pg_notify"} { // the server does not make them itself
		if info, err := os.Stat(filepath.Join(dst, dir)); err != nil || !info.IsDir() {
			t.Errorf("directory %s is missing: %v", dir, err)
		}
	}
}

func TestSetAutoReplacesOnlyWhatItIsGiven(t *testing.T) {
	n := &Node{lab: &Lab{}, name: RegionA, dataDir: t.TempDir()}
	path := filepath.Join(n.dataDir, "postgresql.auto.conf")
	writeTree(t, n.dataDir, map[string]string{"postgresql.auto.conf": "# Do not edit\nprimary_conninfo = 'host=old'\n" +
		"primary_slot_name='old'\nprimary_conninfo_note = 'kept'\nwork_mem = '5MB'"})
	if err := n.setAuto(map[string]string{"primary_conninfo": `it's\new`, "primary_slot_name": ""}); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := "# Do not edit\nprimary_conninfo_note = 'kept'\nwork_mem = '5MB'\nprimary_conninfo = 'it''s\\\\new'\n"
	if string(content) != want {
		t.Errorf("file is now\n%s\nwant\n%s", content, want)
	}
}

func TestReadPIDFile(t *testing.T) {
	const ready = "4711\n/data\n1700000000\n5432\n/tmp\n127.0.0.1\n 9986819    655372\nready   \n"
	for name, c := range map[string]struct {
		content string
		want    pidFile
		fails   bool
	}{
		"of a running server":        {content: ready, want: pidFile{4711, 655372, "ready"}},
		"without a postmaster":       {content: strings.Replace(ready, "4711", "-4711", 1), want: pidFile{-4711, 655372, "ready"}},
		"before shared memory":       {content: "4711\n/data\n1700000000\n5432\n", want: pidFile{pid: 4711}},
		"before the status":          {content: strings.TrimSuffix(ready, "ready   \n"), want: pidFile{pid: 4711, shmID: 655372}},
		"with nonsense for a number": {content: strings.Replace(ready, "655372", "many", 1), want: pidFile{4711, 0, "ready"}},
		"that is empty":              {fails: true},
		"with nonsense for a pid":    {content: "x\n", fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeTree(t, dir, map[string]string{"postmaster.pid": c.content})
			got, err := readPIDFile(dir)
			if (err != nil) != c.fails || err == nil && got != c.want {
				t.Errorf("read %+v, %v; want %+v, failure %v", got, err, c.want, c.fails)
			}
		})
	}
	if _, err := readPIDFile(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing file gives %v", err)
	}
}

func FuzzReadPIDFile(f *testing.F) {
	f.Add("4711\n/data\n1700000000\n5432\n/tmp\n127.0.0.1\n 9986819    655372\nready   \n")
	f.Add("-1\n")
	f.Add("\n\n\n\n\n\n1 2\n")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content string) {
		if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := readPIDFile(dir); err != nil && got != (pidFile{}) {
			t.Errorf("%+v beside error %v", got, err)
		}
	})
}

func TestSplitAddressTakesLoopbackOnly(t *testing.T) {
	for address, want := range map[string]struct {
		ip   string
		port int
		ok   bool
	}{
		"127.0.0.1":      {"127.0.0.1", 0, true},
		"127.0.0.9:5432": {"127.0.0.9", 5432, true},
		"::1":            {"::1", 0, true},
		"[::1]:5432":     {"::1", 5432, true},
		"":               {}, "localhost:5432": {}, "0.0.0.0:5432": {}, "10.0.0.1": {}, "127.0.0.1:-1": {}, "127.0.0.1:65536": {}, "127.0.0.1:x": {},
	} {
		ip, port, err := splitAddress(address)
		if (err == nil) != want.ok || ip != want.ip || port != want.port {
			t.Errorf("%q gives %q, %d, %v; want %+v", address, ip, port, err, want)
		}
	}
}

func TestNoLineOfTheCallerLocksTheLabOut(t *testing.T) {
	l := &Lab{opts: Options{HBA: []string{"local all all reject", "host all all all reject"}}.withDefaults()}
	hba := l.hba()
	reject := strings.Index(hba, "host all all all reject")
	if super := strings.LastIndex(hba, "host all postgres"); super < 0 || reject < super {
		t.Errorf("the superuser's lines come after the caller's:\n%s", hba)
	}
	if replication := strings.Index(hba, "host replication postgres,replicator"); replication < 0 || reject < replication {
		t.Errorf("the replication role's lines come after the caller's:\n%s", hba)
	}
	if app := strings.Index(hba, `"keycloak"`); app < reject {
		t.Errorf("the application's lines come before the caller's:\n%s", hba)
	}
}

func TestGuardianRefusesOtherDirectories(t *testing.T) {
	for _, dir := range []string{"/", "/tmp", "relative/" + dirPrefix + "x", t.TempDir()} {
		if g, err := startGuardian(dir); err == nil {
			t.Errorf("%s is guarded, and would be removed", dir)
			_ = g.dismiss()
		}
	}
}
