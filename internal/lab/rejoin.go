package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// Demote stops the node cleanly, if it runs, and starts it as a standby of primary without touching its data. That is how an old
// primary rejoins after a switchover; one whose WAL has diverged starts, is refused by the primary and never streams. Demote
// does not wait for that: AwaitStreaming and AwaitCaughtUp do.
func (n *Node) Demote(ctx context.Context, primary *Node) error {
	n.lifecycle.Lock()
	defer n.lifecycle.Unlock()
	if n.Running() {
		if err := n.stop(ctx, Fast); err != nil {
			return err
		}
	}
	if err := primary.ensureSlot(ctx, n); err != nil {
		return err
	}
	if err := n.followInConfig(primary); err != nil {
		return err
	}
	return n.start(ctx)
}

// Rewind makes the node a standby of primary with pg_rewind, whatever state it is in, and waits until it streams
// and has caught up.
func (n *Node) Rewind(ctx context.Context, primary *Node) error {
	n.lifecycle.Lock()
	defer n.lifecycle.Unlock()
	program := n.lab.install.program("pg_rewind")
	if program == "" {
		return fmt.Errorf("rewind node %s: the installation in %s has no pg_rewind: use Rebuild", n.name, n.lab.install.binDir)
	}
	if err := n.endOrStop(ctx); err != nil {
		return err
	}
	// Right after a promotion the source's control file still shows the old timeline, and pg_rewind would find nothing to do.
	if err := primary.Exec(ctx, "postgres", "CHECKPOINT"); err != nil {
		return err
	}
	if err := primary.ensureSlot(ctx, n); err != nil {
		return err
	}
	if err := n.writeConfig(); err != nil { // it may run crash recovery on the target first
		return err
	}
	err := n.lab.run(ctx, tool{path: program, args: []string{
		"--target-pgdata", n.dataDir, "--source-server", primary.SuperDSN("postgres"), "--no-sync"}})
	if err != nil {
		return fmt.Errorf("rewind node %s to %s: %w", n.name, primary.name, err)
	}
	if err := n.followInConfig(primary); err != nil {
		return err
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	return n.awaitFollowing(ctx, primary)
}

// Rebuild throws the node's data away, takes a fresh base backup of primary and waits until it streams and has caught
// up. It works in any state.
func (n *Node) Rebuild(ctx context.Context, primary *Node) error {
	n.lifecycle.Lock()
	defer n.lifecycle.Unlock()
	if n == primary {
		return fmt.Errorf("rebuild node %s from itself: its data would be lost", n.name)
	}
	if err := n.endAll(); err != nil {
		return err
	}
	if err := os.RemoveAll(n.dataDir); err != nil {
		return fmt.Errorf("clear node %s: %w", n.name, err)
	}
	if err := n.cloneAsStandby(ctx, primary); err != nil {
		return err
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	return n.awaitFollowing(ctx, primary)
}

func (n *Node) awaitFollowing(ctx context.Context, upstream *Node) error {
	if err := n.AwaitStreaming(ctx); err != nil {
		return err
	}
	return n.AwaitCaughtUp(ctx, upstream)
}

// endOrStop brings the server down: cleanly when it can, else by force.
func (n *Node) endOrStop(ctx context.Context) error {
	if n.Running() {
		_ = n.Thaw()
		if err := n.stop(ctx, Fast); err == nil {
			return nil
		}
	}
	return n.endAll()
}

// AddStandby makes and starts another standby of upstream, which may itself be a standby, and waits until it streams. An address
// is as in Options.Addresses; "" is a free port of 127.0.0.1.
func (l *Lab) AddStandby(ctx context.Context, name, address string, upstream *Node) (*Node, error) {
	n, err := l.newNode(name, address)
	if err != nil {
		return nil, err
	}
	if err := n.cloneAsStandby(ctx, upstream); err != nil {
		return nil, err
	}
	if err := n.startOnFreePort(ctx); err != nil {
		return nil, err
	}
	return n, n.awaitFollowing(ctx, upstream)
}

// AddCluster makes and starts a server that is no relative of the others: another system identifier, the same roles and
// passwords. With the address of a node that is down it takes that node's place.
func (l *Lab) AddCluster(ctx context.Context, name, address string) (*Node, error) {
	n, err := l.newNode(name, address)
	if err != nil {
		return nil, err
	}
	return n, n.startAsCluster(ctx)
}

// AddCopy makes and starts a copy of a running primary that is a primary too: same system identifier, same timeline, and from
// then on a history of its own.
func (l *Lab) AddCopy(ctx context.Context, name, address string, source *Node) (*Node, error) {
	n, err := l.newNode(name, address)
	if err != nil {
		return nil, err
	}
	if err := n.cloneAsPrimary(ctx, source); err != nil {
		return nil, err
	}
	return n, n.startOnFreePort(ctx)
}

// cloneAsPrimary fills the node's empty data directory with a base backup that follows nobody.
func (n *Node) cloneAsPrimary(ctx context.Context, source *Node) error {
	if program := n.lab.install.program("pg_basebackup"); program != "" {
		err := n.lab.run(ctx, tool{path: program, args: []string{
			"--pgdata", n.dataDir, "--dbname", source.primaryConninfo(replicationRole, n.lab.replPassword),
			"--wal-method=stream", "--checkpoint=fast", "--no-sync"}})
		if err != nil {
			return fmt.Errorf("copy node %s to %s: %w", source.name, n.name, err)
		}
	} else if err := n.copyOnline(ctx, source); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(n.dataDir, "standby.signal")); err != nil {
		return fmt.Errorf("copy node %s to %s: %w", source.name, n.name, err)
	}
	return n.setAuto(map[string]string{"primary_conninfo": "", "primary_slot_name": ""})
}
