package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pgtether/pgtether/health"
	"github.com/pgtether/pgtether/internal/config"
	"github.com/pgtether/pgtether/proxy"
)

// verifierTimeout bounds the question to the writer for a role's verifier.
const verifierTimeout = 3 * time.Second

// errNoWriter is returned for a lookup while no writer is open.
var errNoWriter = errors.New("no writer is open")

// verifiers finds what is stored as a role's password: in the configured file, else by the configured function on the writer.
type verifiers struct {
	holder *config.Holder
	log    *slog.Logger
	// writer returns how to reach the writer now; false while none is open.
	writer func() (health.Target, bool)
}

// lookup returns what is stored as the role's password; false means that the role has none that may be used. What is no stored password of
// PostgreSQL's is none. From a file it answers without waiting.
func (v *verifiers) lookup(ctx context.Context, role string) (proxy.Stored, bool, error) {
	file := v.holder.Current()
	secret, ok := file.Verifier(role)
	text := secret.Reveal()
	if !ok {
		if file.Auth.VerifierLookup == "" {
			return proxy.Stored{}, false, nil
		}
		var err error
		if text, ok, err = v.ask(ctx, file.Auth.VerifierLookup, role); err != nil || !ok {
			return proxy.Stored{}, false, err
		}
	}
	stored, err := proxy.ParseStored(text)
	if err != nil {
		v.log.Warn("what a role's password is stored as cannot be used", "user", role, "err", err)
		return proxy.Stored{}, false, nil
	}
	return stored, true, nil
}

func (v *verifiers) ask(ctx context.Context, function, role string) (string, bool, error) {
	target, ok := v.writer()
	if !ok {
		return "", false, fmt.Errorf("look up verifier of role %q: %w", role, errNoWriter)
	}
	ctx, cancel := context.WithTimeout(ctx, verifierTimeout)
	defer cancel()
	text, ok, err := health.LookupVerifier(ctx, target, function, role)
	if err != nil {
		return "", false, fmt.Errorf("look up verifier of role %q: %w", role, err)
	}
	return text, ok, nil
}
