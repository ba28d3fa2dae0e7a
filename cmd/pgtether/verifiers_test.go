package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/health"
	"github.com/pgtether/pgtether/internal/config"
)

func TestVerifiersComeFromTheFileAtOnceAndFromTheWriterElse(t *testing.T) {
	const verifier = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBA="
	const hash = "md5aabbccddeeff00112233445566778899"
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name, auth, role string
		ctx              context.Context
		known            bool
		err              error
	}{
		{"a verifier in the file", "verifier_file = \"verifiers\"", "scram", ended, true, nil},
		{"a hash in the file", "verifier_file = \"verifiers\"", "old", ended, true, nil},
		{"a role that the file does not have", "verifier_file = \"verifiers\"", "nobody", ended, false, nil},
		{"no source", "", "scram", ended, false, nil},
		{"a function while no writer is open", "verifier_lookup = \"pgtether.scram_verifier\"", "scram", t.Context(), false, errNoWriter},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log strings.Builder
			v := &verifiers{holder: holderOf(t, c.auth, map[string]string{"verifiers": `"scram" "` + verifier + `"` + "\n" + `"old" "` + hash + `"`}),
				log: slog.New(slog.NewTextHandler(&log, nil)), writer: func() (health.Target, bool) { return health.Target{}, false }}
			stored, known, err := v.lookup(c.ctx, c.role)
			if known != c.known || !errors.Is(err, c.err) {
				t.Errorf("known %v, %v", known, err)
			}
			if said := log.String() + stored.String(); strings.Contains(said, verifier) || strings.Contains(said, hash) {
				t.Errorf("a secret is printed: %s", said)
			}
		})
	}
}

// holderOf is a loaded configuration with this in its section auth.
func holderOf(t *testing.T, auth string, files map[string]string) *config.Holder {
	t.Helper()
	dir := t.TempDir()
	admin, err := closedAddress()
	if err != nil {
		t.Fatal(err)
	}
	toml := strings.Replace(strings.Replace(takenConfig, "%q", `"127.0.0.1:6432"`, 1), "%q", `"`+admin+`"`, 1) + "[auth]\n" + auth + "\n"
	for name, content := range map[string]string{"password": "secret", "pgtether.toml": toml} {
		files[name] = content
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "pgtether.toml")
	file, _, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return config.NewHolder(path, file, func(bool, time.Time) {})
}
