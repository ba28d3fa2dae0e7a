package health

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Want is what a node must be to be opened as the writer.
type Want struct {
	// SystemID is the database system identifier; a node that does not tell its own does not match.
	SystemID string
	// MinTimeline is the least timeline that will do: after a promotion the old writer's + 1.
	MinTimeline uint32
}

// ProveWritable proves, on one connection, that the node is the wanted primary and commits: it is out of recovery, has the system identifier and the
// timeline (that of its current WAL file: the control file is stale after a promotion), does not make transactions read-only, and has
// acknowledged the commit of a logical message that no table holds. That commit waits for the node's own disk alone (synchronous_commit =
// local), so it does not hang where synchronous_standby_names awaits a node that is gone; whether other commits would is for
// EmptySyncNames. Without an error all of it holds; else one of ErrInRecovery, ErrWrongSystem, ErrOldTimeline, ErrReadOnly, ErrNotCommitted and
// ErrDenied says what does not, or the node did not answer.
func (Operator) ProveWritable(ctx context.Context, t Target, want Want) error {
	return with(ctx, "prove writable", t, func(ctx context.Context, l *link) error {
		if err := l.matches(ctx, want); err != nil {
			return err
		}
		return l.commitMessage(ctx)
	})
}

// matches holds what the node says about itself against what is wanted.
func (l *link) matches(ctx context.Context, want Want) error {
	answers, err := l.ask(ctx, []string{coreStatement(l.major()), systemStatement})
	if err != nil {
		return err
	}
	if err := answers[0].err; err != nil {
		return err
	}
	core, systemID := single(answers[0]), single(answers[1])["system_identifier"]
	recovery, known := boolean(core, "in_recovery").Get()
	timeline := walFileTimeline(core["wal_file"])
	readOnly := boolean(core, "transaction_read_only")
	switch {
	case !known:
		return errNoFacts
	case recovery:
		return refusal{why: ErrInRecovery}
	case !isSystemID(systemID) || systemID != want.SystemID:
		return refusal{ErrWrongSystem, fmt.Sprintf("it is %q, wanted %q", printable(systemID), want.SystemID)}
	case !timeline.Known || timeline.V < want.MinTimeline:
		return refusal{ErrOldTimeline, fmt.Sprintf("it is %d, wanted at least %d", timeline.V, want.MinTimeline)}
	case !readOnly.Known || readOnly.V:
		return refusal{ErrReadOnly, "default_transaction_read_only is on"}
	}
	return nil
}

// commitMessage makes a transaction that writes and demands that its COMMIT was acknowledged as one: a failed transaction answers it with ROLLBACK.
func (l *link) commitMessage(ctx context.Context) error {
	results, err := l.pg.Exec(ctx, "BEGIN; SET LOCAL synchronous_commit = local; "+
		"SELECT pg_logical_emit_message(true, 'pgtether', 'writable'); COMMIT").ReadAll()
	if err != nil {
		return err
	}
	if len(results) != 4 || results[3].CommandTag.String() != "COMMIT" {
		return refusal{why: ErrNotCommitted}
	}
	return nil
}

// ReadSyncNames returns what synchronous_standby_names is on the node. A caller that empties it makes this durable first, to be able to put it back.
func (Operator) ReadSyncNames(ctx context.Context, t Target) (names string, err error) {
	err = with(ctx, "read synchronous_standby_names of", t, func(ctx context.Context, l *link) error {
		names, err = l.setting(ctx, "synchronous_standby_names")
		return err
	})
	return names, err
}

// EmptySyncNames lets a node that was just promoted commit without the node that it replaced: it sets synchronous_standby_names to ” in
// postgresql.auto.conf and returns when new sessions show it empty. was is what it was before, to be put back by RestoreSyncNames once the other node
// streams again; it counts even with an error, because the change may be in force then or come to be. When it is empty already nothing is changed.
//
// It refuses a node in recovery. It must never be called for a node that is being left: emptying it there would acknowledge the commits
// that wait for the standby, and these would be lost.
func (Operator) EmptySyncNames(ctx context.Context, t Target) (was string, err error) {
	err = with(ctx, "empty synchronous_standby_names on", t, func(ctx context.Context, l *link) error {
		if err := l.demandPrimary(ctx); err != nil {
			return err
		}
		if was, err = l.setting(ctx, "synchronous_standby_names"); err != nil || was == "" {
			return err
		}
		return l.setSyncNames(ctx, "")
	})
	return was, err
}

// RestoreSyncNames sets synchronous_standby_names to what EmptySyncNames found and returns when new sessions show it. It writes the recorded value
// to postgresql.auto.conf rather than resetting the parameter: between a reset and a look at what postgresql.conf says now, commits could
// wait for the wrong standby or for none. The value then stays in postgresql.auto.conf, where it wins over later edits of postgresql.conf until
// somebody runs ALTER SYSTEM RESET synchronous_standby_names. Names that are in force already are left as they are.
func (Operator) RestoreSyncNames(ctx context.Context, t Target, names string) error {
	return with(ctx, "restore synchronous_standby_names on", t, func(ctx context.Context, l *link) error {
		now, err := l.setting(ctx, "synchronous_standby_names")
		if err != nil || now == names {
			return err
		}
		return l.setSyncNames(ctx, names)
	})
}

func (l *link) setSyncNames(ctx context.Context, names string) error {
	if err := l.exec(ctx, "ALTER SYSTEM SET synchronous_standby_names = "+quoteText(names)); err != nil {
		return err
	}
	if err := l.reload(ctx); err != nil {
		return err
	}
	return l.awaitSetting(ctx, "synchronous_standby_names", func(r row) bool { return r["setting"] == names })
}

// quoteText makes a literal of any text, whatever standard_conforming_strings is.
func quoteText(s string) string {
	return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
}

// demandPrimary refuses a node in recovery.
func (l *link) demandPrimary(ctx context.Context) error {
	r, err := l.one(ctx, "SELECT pg_is_in_recovery() AS in_recovery")
	switch {
	case err != nil:
		return err
	case r["in_recovery"] != "f":
		return refusal{why: ErrInRecovery}
	}
	return nil
}

// setting is a parameter as this session has it.
func (l *link) setting(ctx context.Context, name string) (string, error) {
	r, err := l.one(ctx, "SELECT current_setting('"+name+"') AS setting")
	return r["setting"], err
}

// reload makes the server read its configuration again.
func (l *link) reload(ctx context.Context) error {
	r, err := l.one(ctx, "SELECT pg_reload_conf() AS asked")
	if err == nil && r["asked"] != "t" {
		return wireError{text: "pg_reload_conf could not signal the server"}
	}
	return err
}

// lookAgain is the time between two looks at a new session.
const lookAgain = 50 * time.Millisecond

// awaitSetting looks at new sessions of the same server until one shows the parameter (its setting and the file that it is from) as wanted, or ctx
// ends. New sessions are children of the postmaster, so what they show is in force.
func (l *link) awaitSetting(ctx context.Context, name string, wanted func(row) bool) error {
	for {
		r, err := l.lookAtNewSession(ctx, name)
		if err == nil && wanted(r) {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = wireError{text: name + " is set, but not in force in time"}
			}
			return err
		case <-time.After(lookAgain):
		}
	}
}

func (l *link) lookAtNewSession(ctx context.Context, name string) (row, error) {
	look, err := connect(ctx, l.target, false)
	defer look.close(ctx)
	if err != nil {
		return nil, err
	}
	return look.one(ctx, "SELECT setting, sourcefile FROM pg_settings WHERE name = '"+name+"'")
}
