package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pgtether/pgtether/health"
	"github.com/pgtether/pgtether/internal/config"
	"github.com/pgtether/pgtether/internal/scram"
)

// verifierTimeout bounds the question to the writer for a role's verifier.
const verifierTimeout = 3 * time.Second

// errNoWriter is returned for a lookup while no writer is open.
var errNoWriter = errors.New("no writer is open")

// verifiers finds the SCRAM verifier of a role for auth.scram = "proxy": in the configured file, else by the configured function on the writer.
type verifiers struct {
	holder *config.Holder
	log    *slog.Logger
	// writer returns how to reach the writer now; false while none is open.
	writer func() (health.Target, bool)
}

// lookup returns the role's verifier; false means that the role has none and cannot log in. A password that is not stored for SCRAM is none: as at
// PostgreSQL itself, a client must not learn from the answer which roles exist.
func (v *verifiers) lookup(ctx context.Context, role string) (scram.Verifier, bool, error) {
	file := v.holder.Current()
	secret, ok := file.Verifier(role)
	text := secret.Reveal()
	if !ok {
		if file.Auth.VerifierLookup == "" {
			return scram.Verifier{}, false, nil
		}
		var err error
		if text, ok, err = v.ask(ctx, file.Auth.VerifierLookup, role); err != nil || !ok {
			return scram.Verifier{}, false, err
		}
	}
	parsed, err := scram.ParseVerifier(text)
	if err != nil {
		v.log.Warn("the stored password of a role is no SCRAM verifier", "user", role, "err", err)
		return scram.Verifier{}, false, nil
	}
	return parsed, true, nil
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
