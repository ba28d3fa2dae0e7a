package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Kill9 ends the whole server at one blow, as a loss of power would for its clients: every process is frozen first and killed
// then, so that no child does anything after the first has died. It returns when all are gone.
func (n *Node) Kill9() error {
	if !n.Running() && len(n.Processes()) == 0 {
		return fmt.Errorf("kill node %s: it is not running", n.name)
	}
	return n.endAll()
}

// Kill9Postmaster kills the first process alone. Its children notice and leave, idle ones at once, busy ones only at the end of
// what they do: a busy backend was seen to acknowledge commits for another 0.37 s. Processes tells who is left.
func (n *Node) Kill9Postmaster() error {
	pm := n.postmaster()
	if !pm.running() {
		return fmt.Errorf("kill postmaster of node %s: it is not running", n.name)
	}
	if err := sendSignal(pm.pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill postmaster of node %s: %w", n.name, err)
	}
	<-pm.done
	return nil
}

// Kill9Child kills one child whose process title contains kind ("checkpointer", "walsender", "client backend" has none: use
// the role's name). The postmaster then ends all sessions and runs crash recovery.
func (n *Node) Kill9Child(kind string) error {
	pm := n.postmaster()
	for _, pid := range n.Processes() {
		if pid != pm.pid && strings.Contains(processTitle(pid), kind) {
			if err := sendSignal(pid, syscall.SIGKILL); err != nil {
				return fmt.Errorf("kill %s of node %s: %w", kind, n.name, err)
			}
			return nil
		}
	}
	return fmt.Errorf("kill %s of node %s: no such process", kind, n.name)
}

// endAll freezes and kills whatever works in the data directory, reaps the postmaster and removes its shared memory.
func (n *Node) endAll() error {
	pm := n.postmaster()
	_ = n.signalAll(sigStop) // so that nobody forks or answers between two kills; who is gone already is fine
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := await(ctx, func(context.Context) error {
		if err := n.signalAll(syscall.SIGKILL); err != nil {
			return final(err)
		}
		if left := n.Processes(); len(left) > 0 || pm.running() {
			return fmt.Errorf("processes %v of node %s are still there", left, n.name)
		}
		return nil
	})
	removeSharedMemory(n.dataDir)
	return err
}

// signalAll signals the postmaster first, so that it starts no child meanwhile, and then the others.
func (n *Node) signalAll(sig syscall.Signal) error {
	var errs []error
	send := func(pid int) {
		if err := sendSignal(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
			errs = append(errs, fmt.Errorf("signal process %d of node %s: %w", pid, n.name, err))
		}
	}
	if pm := n.postmaster(); pm.running() {
		send(pm.pid)
	}
	for _, pid := range n.Processes() {
		send(pid)
	}
	return errors.Join(errs...)
}

// FreezePostmaster stops the first process with SIGSTOP: new connections are accepted by the kernel and never answered, sessions
// go on, the standby keeps streaming (the gray failure in which nothing may be promoted).
func (n *Node) FreezePostmaster() error {
	pm := n.postmaster()
	if !pm.running() {
		return fmt.Errorf("freeze postmaster of node %s: it is not running", n.name)
	}
	if err := sendSignal(pm.pid, sigStop); err != nil {
		return fmt.Errorf("freeze postmaster of node %s: %w", n.name, err)
	}
	return awaitStates([]int{pm.pid}, "T")
}

// FreezeAll stops every process of the server, as a paused virtual machine would.
func (n *Node) FreezeAll() error {
	if !n.Running() {
		return fmt.Errorf("freeze node %s: it is not running", n.name)
	}
	// A child may be forked between the listing and the stop of the postmaster: look until two listings agree.
	var frozen []int
	for {
		if err := n.signalAll(sigStop); err != nil {
			return fmt.Errorf("freeze node %s: %w", n.name, err)
		}
		now := n.Processes()
		if err := awaitStates(now, "T"); err != nil {
			return fmt.Errorf("freeze node %s: %w", n.name, err)
		}
		slices.Sort(now)
		if slices.Equal(frozen, now) {
			return nil
		}
		frozen = now
	}
}

// Thaw lets a frozen server go on.
func (n *Node) Thaw() error {
	if !n.Running() {
		return fmt.Errorf("thaw node %s: it is not running", n.name)
	}
	if err := n.signalAll(sigContinue); err != nil {
		return fmt.Errorf("thaw node %s: %w", n.name, err)
	}
	return awaitStates(n.Processes(), "SRDI")
}

// awaitStates waits until every process is in one of the given states of /proc or gone.
func awaitStates(pids []int, states string) error {
	return await(context.Background(), func(context.Context) error {
		for _, pid := range pids {
			if state := processState(pid); state != 0 && state != 'Z' && !strings.ContainsRune(states, rune(state)) {
				return fmt.Errorf("process %d leaves state %c", pid, state)
			}
		}
		return nil
	})
}

// Promote asks the standby to become a primary, as a person would by hand, and returns when it is out of recovery.
func (n *Node) Promote(ctx context.Context) error {
	return n.withSuper(ctx, "postgres", func(ctx context.Context, c *pgx.Conn) error {
		var done bool
		seconds := int(patience / time.Second)
		if err := c.QueryRow(ctx, "SELECT pg_promote(true, $1)", seconds).Scan(&done); err != nil {
			return fmt.Errorf("promote: %w", err)
		}
		if !done {
			return fmt.Errorf("promote: still in recovery after %d s; the request stands", seconds)
		}
		return nil
	})
}

// PauseReplay stops the standby's replay and returns when it stands still; what is received meanwhile is kept, not applied.
func (n *Node) PauseReplay(ctx context.Context) error {
	paused := "pg_get_wal_replay_pause_state() = 'paused'"
	if n.lab.install.major < 14 {
		paused = "pg_is_wal_replay_paused()"
	}
	return n.withSuper(ctx, "postgres", func(ctx context.Context, c *pgx.Conn) error {
		if _, err := c.Exec(ctx, "SELECT pg_wal_replay_pause()"); err != nil {
			return fmt.Errorf("pause replay: %w", err)
		}
		return awaitTrue(ctx, c, paused)
	})
}

// ResumeReplay lets it go on.
func (n *Node) ResumeReplay(ctx context.Context) error {
	return n.Exec(ctx, "postgres", "SELECT pg_wal_replay_resume()")
}

// AwaitStreaming waits until the node receives WAL as a standby. It may still be on an older timeline at that moment, and a
// promotion then would make a second timeline of the same number: AwaitCaughtUp excludes that.
func (n *Node) AwaitStreaming(ctx context.Context) error {
	return n.Await(ctx, "EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')")
}

// AwaitCaughtUp waits until the standby has replayed all that upstream had written, or replayed, when this was called.
func (n *Node) AwaitCaughtUp(ctx context.Context, upstream *Node) error {
	lsn, err := upstream.QueryText(ctx, "postgres",
		"SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END")
	if err != nil {
		return err
	}
	return n.Await(ctx, "pg_last_wal_replay_lsn() >= '"+lsn+"'::pg_lsn")
}

// Await waits until a boolean SQL expression is true on the node, asked as superuser in database postgres.
func (n *Node) Await(ctx context.Context, condition string) error {
	return n.withSuper(ctx, "postgres", func(ctx context.Context, c *pgx.Conn) error {
		return awaitTrue(ctx, c, condition)
	})
}

func awaitTrue(ctx context.Context, c *pgx.Conn, condition string) error {
	return await(ctx, func(ctx context.Context) error {
		var holds *bool
		if err := c.QueryRow(ctx, "SELECT ("+condition+")::bool").Scan(&holds); err != nil {
			return final(fmt.Errorf("ask whether %s: %w", condition, err))
		}
		if holds == nil || !*holds {
			return fmt.Errorf("it is not true that %s", condition)
		}
		return nil
	})
}
