package config

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestALongPathIsNamedToItsEnd(t *testing.T) {
	deep := filepath.Join(strings.Repeat("folder/", 20), "probe-password")
	path := write(t, "pgtether.toml", strings.Replace(valid, `user = "pgtether"`, "user = \"pgtether\"\npassword_file = \""+deep+`"`, 1))
	_, _, err := load(path, testSystem(nil), true)
	if err == nil || !strings.Contains(err.Error(), `probe-password" does not exist`) {
		t.Errorf("refused with %v", err)
	}
	path = write(t, "pgtether.toml", strings.Replace(valid, `user = "pgtether"`, "user = \"pgtether\"\npassword_file = \""+strings.Repeat("x", 100_000)+`"`, 1))
	if _, _, err = load(path, testSystem(nil), true); err == nil || len(err.Error()) > 1000 {
		t.Errorf("a path that no system takes is refused with %.200v", err)
	}
}
