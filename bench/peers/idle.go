package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// measureIdle starts a fresh peer in front of a fresh server of idle sessions, opens them and returns how much memory each one takes.
func measureIdle(ctx context.Context, st *stage, p *peer, _ int) (_ Result, err error) {
	var server string
	if err := loopback(&server); err != nil {
		return nil, err
	}
	_, stop, err := startRole(roleServer, server, st.node.Addr())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := awaitIdle(ctx, server); err != nil {
		return nil, err
	}
	fresh, err := st.start(ctx, p.name, server)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, fresh.stop()) }()
	if err := awaitIdle(ctx, fresh.address); err != nil {
		return nil, err
	}
	before, err := residentKiB(fresh.pid)
	if err != nil {
		return nil, err
	}
	sessions, err := openIdle(ctx, fresh.address, min(st.set.idle, mostIdle(p.kind)))
	defer closeAll(sessions)
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, st.set.each); err != nil { // what a login needed is given back meanwhile, if ever
		return nil, err
	}
	after, err := residentKiB(fresh.pid)
	if err != nil {
		return nil, err
	}
	return Result{kibEach: (after - before) / float64(len(sessions))}, nil
}

// mostIdle is how many sessions a peer can hold with the descriptors that there are: two for a session, but six for io.Copy, which splices
// through a pipe of its own in each direction.
func mostIdle(kind string) int {
	if kind == kindIOCopy {
		return descriptors() / 6
	}
	return descriptors() / 2
}

// awaitIdle returns when a login works.
func awaitIdle(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		c, err := loginIdle(ctx, address)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for a server of idle sessions: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// openIdle opens n sessions, some at a time; it returns those that it could open also with an error.
func openIdle(ctx context.Context, address string, n int) (sessions []net.Conn, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex // guards sessions and err
	left := make(chan struct{}, n)
	for range n {
		left <- struct{}{}
	}
	close(left)
	for range 16 {
		all.Go(func() {
			for range left {
				c, failed := loginIdle(ctx, address)
				mu.Lock()
				if failed == nil {
					sessions = append(sessions, c)
				} else if err == nil {
					err = fmt.Errorf("open idle session %d: %w", len(sessions)+1, failed)
					cancel()
				}
				stop := err != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	all.Wait()
	return sessions, err
}

func closeAll(sessions []net.Conn) {
	for _, c := range sessions {
		_ = c.Close() // nothing is sent any more that could be lost
	}
}
