package lab

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// pollEvery is how often a condition is looked at that gives no sign of its own.
const pollEvery = 10 * time.Millisecond

// finalError ends a wait at once: the condition can never come true.
type finalError struct{ error }

func (e finalError) Unwrap() error { return e.error }

func final(err error) error { return finalError{err} }

// withPatience gives a context a deadline if it has none.
func withPatience(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, patience)
}

// await calls condition until it returns nil, a final error, or the context ends; the error then says what was still missing.
func await(ctx context.Context, condition func(context.Context) error) error {
	ctx, cancel := withPatience(ctx)
	defer cancel()
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		err := condition(ctx)
		var end finalError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &end):
			return end.error
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %w: %w", context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}
