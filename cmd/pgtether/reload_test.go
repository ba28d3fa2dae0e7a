package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/decision"
	"github.com/pgtether/pgtether/internal/config"
)

// TestAReloadWhoseClientGoesAwayLeavesTheEngineAndTheFileWithOneMode: the engine is busy, and its configuration waits for it, while the client gives up.
func TestAReloadWhoseClientGoesAwayLeavesTheEngineAndTheFileWithOneMode(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pgtether.toml")
	var addresses [2]string
	for i := range addresses {
		var err error
		if addresses[i], err = closedAddress(); err != nil {
			t.Fatal(err)
		}
	}
	write := func(mode string) {
		text := strings.Replace(fmt.Sprintf(takenConfig, addresses[0], addresses[1]), `mode = "observe"`, `mode = "`+mode+`"`, 1)
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.WriteFile(filepath.Join(dir, "password"), []byte("secret"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("observe")
	file, _, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	d, err := newDaemon(path, file, slog.New(slog.DiscardHandler), &slog.LevelVar{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	defer func() { _ = d.server.Shutdown(context.Background()) }()
	write("manual")
	impatient, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	reloaded := make(chan error, 1)
	go func() {
		_, _, err := d.reload(impatient)
		reloaded <- err
	}()
	<-impatient.Done()
	time.Sleep(100 * time.Millisecond)

	running, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- d.loop.Run(running) }()
	if _, err := d.loop.WhatIf(t.Context(), decision.Question{}); err != nil {
		t.Fatal(err)
	}
	if err := <-reloaded; err != nil {
		t.Errorf("the reload failed: %v", err)
	}
	if engine, file := d.loop.View().Status.Mode.String(), d.holder.Current().Failover.Mode; engine != file {
		t.Errorf("the engine is in the mode %s, the file says %s", engine, file)
	}
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the engine ended with %v", err)
	}
}
