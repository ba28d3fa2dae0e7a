package proxy

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pgtether/pgtether/internal/pgwire"
)

const (
	// keyLength30 and keyLength32 are the lengths of the secrets that clients get, by protocol version: 4 bytes are all that 3.0 allows.
	keyLength30, keyLength32 = 4, 32
	// cancelTimeout bounds the forwarding of one cancel request, from the dial to the server's end of file.
	cancelTimeout = 5 * time.Second
	// cancelsAtOnce bounds the requests that are being forwarded.
	cancelsAtOnce = 16
	// cancelsPerSecond and cancelBurst bound the requests of one address that reach a server.
	cancelsPerSecond, cancelBurst = 50, 200
)

// Results of cancel requests.
const (
	cancelForwarded   = "forwarded"
	cancelUnknownKey  = "unknown_key"
	cancelEpochClosed = "epoch_closed"
	cancelNotAllowed  = "not_allowed"
	cancelRateLimited = "rate_limited"
	cancelFailed      = "failed"
)

// CancelResults lists how a cancel request can come out: the label values of pgtether_cancels_total.
func CancelResults() []string {
	return []string{cancelForwarded, cancelUnknownKey, cancelEpochClosed, cancelNotAllowed, cancelRateLimited, cancelFailed}
}

// cancelTarget is the backend that a client's key stands for.
type cancelTarget struct {
	key     pgwire.CancelKey
	backend *backend
}

// keyring holds the cancel keys that clients have been given. The pid in a key is the backend's own, which people and drivers use; the secret is
// the proxy's, so that a key stays the client's when its session gets another backend. Several keys may bear one pid.
type keyring struct {
	mu    sync.Mutex
	byPID map[uint32][]issuedKey
}

type issuedKey struct {
	secret []byte
	target cancelTarget
}

func newKeyring() *keyring { return &keyring{byPID: map[uint32][]issuedKey{}} }

// issue makes a key for the target with a secret of n bytes. forget drops it; it may be called more than once.
func (k *keyring) issue(n int, target cancelTarget) (key pgwire.CancelKey, forget func(), err error) {
	pid := target.key.PID
	k.mu.Lock()
	defer k.mu.Unlock()
	secret := make([]byte, n)
	for {
		if _, err := rand.Read(secret); err != nil {
			return key, nil, fmt.Errorf("make cancel key: %w", err)
		}
		if _, taken := findKey(k.byPID[pid], secret); !taken {
			break
		}
	}
	k.byPID[pid] = append(k.byPID[pid], issuedKey{secret: secret, target: target})
	return pgwire.CancelKey{PID: pid, Secret: secret}, func() { k.forget(pid, secret) }, nil
}

// repoint makes a client's key stand for another target. It does nothing when the key was forgotten.
func (k *keyring) repoint(key pgwire.CancelKey, target cancelTarget) {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := k.byPID[key.PID]
	if i, ok := findKey(keys, key.Secret); ok {
		keys[i].target = target
	}
}

func (k *keyring) forget(pid uint32, secret []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := k.byPID[pid]
	i, ok := findKey(keys, secret)
	if !ok {
		return
	}
	keys[i] = keys[len(keys)-1]
	if k.byPID[pid] = keys[:len(keys)-1]; len(keys) == 1 {
		delete(k.byPID, pid)
	}
}

// find returns the target of a client's key.
func (k *keyring) find(key pgwire.CancelKey) (cancelTarget, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := k.byPID[key.PID]
	if i, ok := findKey(keys, key.Secret); ok {
		return keys[i].target, true
	}
	return cancelTarget{}, false
}

// findKey compares in a time that does not depend on how much of a secret is right.
func findKey(keys []issuedKey, secret []byte) (at int, ok bool) {
	for i := range keys {
		if subtle.ConstantTimeCompare(keys[i].secret, secret) == 1 {
			at, ok = i, true
		}
	}
	return at, ok
}

// cancel serves a CancelRequest. Nothing is ever sent back; the connection is closed when the request has taken its course, which is what drivers
// wait for.
func (s *Server) cancel(client *clientLeg, from netip.Addr, key pgwire.CancelKey) {
	defer client.close()
	result := s.tryCancel(from, key)
	s.metrics.Cancels(result).Inc()
	s.log.Debug("cancel request", "client", from, "pid", key.PID, "result", result)
}

// tryCancel forwards the request if its key is known, its backend's epoch is open and it can do no harm.
func (s *Server) tryCancel(from netip.Addr, key pgwire.CancelKey) (result string) {
	target, ok := s.keys.find(key)
	if !ok {
		target, ok = s.opaqueTarget(key)
	}
	if !ok {
		return cancelUnknownKey
	}
	if !s.cancelLimiter.allow(from) {
		return cancelRateLimited
	}
	return s.forwardCancel(target)
}

// opaqueTarget is the target of a key that an opaque session may have got from the server itself, where the proxy could not see it: pgjdbc asks in clear
// to cancel what runs under TLS. The writer judges the key, as it does for a client that asks it directly.
func (s *Server) opaqueTarget(key pgwire.CancelKey) (cancelTarget, bool) {
	route := s.table.current()
	if route == nil || s.cfg.Load().Listen.TLS != TLSPassthrough {
		return cancelTarget{}, false
	}
	return cancelTarget{key: key, backend: &backend{epoch: route.Epoch}}, true
}

// forwardCancel cancels what a backend is running.
func (s *Server) forwardCancel(target cancelTarget) (result string) {
	ctx, cancel := context.WithTimeout(s.ctx, cancelTimeout)
	defer cancel()
	select {
	case s.cancelSlots <- struct{}{}:
		defer func() { <-s.cancelSlots }()
	case <-ctx.Done():
		return cancelFailed
	}
	epoch := target.backend.epoch
	route := s.table.current()
	switch {
	case route == nil || route.Epoch != epoch:
		return cancelEpochClosed
	case s.deps.CancelAllowed != nil && !s.deps.CancelAllowed(epoch):
		return cancelNotAllowed
	}
	err := s.sendCancel(ctx, route, target)
	switch {
	case err == nil:
		return cancelForwarded
	case route.ctx.Err() != nil:
		return cancelEpochClosed
	default:
		s.log.Debug("cancel request failed", "node", route.Node, "err", err)
		return cancelFailed
	}
}

// sendCancel opens a connection of its own for the request, encrypted if the session's is, and waits until the server has closed it: then the
// signal has been sent.
func (s *Server) sendCancel(ctx context.Context, route *openRoute, target cancelTarget) error {
	deadline, _ := ctx.Deadline()
	b, err := s.dial(ctx, route, deadline, nil)
	if err != nil {
		return err
	}
	defer s.dispose(b, false)
	if target.backend.isEncrypted() {
		if err := b.encrypt(s.cfg.Load(), deadline); err != nil {
			return err
		}
	}
	_ = b.SetDeadline(deadline)
	if _, err := b.conn.Write(pgwire.AppendCancel(nil, target.key)); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(b.conn, 1024)); err != nil && !isReset(err) && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
