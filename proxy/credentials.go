package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pgtether/pgtether/internal/scram"
)

// Why a session cannot be logged in again by the proxy.
const (
	// noVerifierSource: auth.verifier_file and auth.verifier_lookup were not set when it logged in, and its method needs one of them.
	noVerifierSource = "no_verifier_source"
	// noKey: the source has no stored password of the role, or not yet, or one that does not fit what its login showed.
	noKey = "no_key"
	// notRepeatable: the proxy cannot repeat its way to authenticate (GSSAPI, SSPI), or has not seen it (TLS passed through).
	notRepeatable = "auth_method"
	// passwordChanged: the role's password is another one than it logged in with, or is no longer valid.
	passwordChanged = "password_changed"
)

// CredentialObstacles lists why a session cannot be logged in again: a closed list, for metrics and for what people read.
func CredentialObstacles() []string {
	return []string{noVerifierSource, noKey, notRepeatable, passwordChanged}
}

// standing is what a credential is good for at the moment.
type standing uint32

const (
	standsWithoutKey standing = iota
	stands
	standsOutdated
)

// credential is what the proxy can log in with as a role again: one for all sessions of a role that logged in with the same stored password. It is
// kept as long as one of them lives and wiped with the last, or when the stored password is found to have changed. It prints as a placeholder.
type credential struct {
	all    *credentials
	of     *roleSecrets
	method authMethod
	// sealed says that it was given to its server over TLS; SCRAM gives nothing away and leaves it false.
	sealed bool
	// challenge names the verifier that the server showed (methodSCRAM).
	challenge [32]byte
	standing  atomic.Uint32

	// What follows is guarded by all.mu.

	sessions int
	// awaits is an observed login that awaits its verifier: at most one in a role.
	awaits *watch
	// key and verifier are for methodSCRAM, secret is the MD5 hash or the password.
	key      scram.ClientKey
	verifier *scram.Verifier
	secret   secret
}

// credential returns what the proxy can log in with as the session's role again, or why there is nothing. It costs one atomic load.
func (s *session) credential() (c *credential, why string) {
	switch {
	case s.learned == nil && s.unlearned == "":
		return nil, notRepeatable // TLS passed through
	case s.learned == nil:
		return nil, s.unlearned
	}
	switch standing(s.learned.standing.Load()) {
	case stands:
		return s.learned, ""
	case standsOutdated:
		return nil, passwordChanged
	default:
		return nil, noKey
	}
}

// String returns a placeholder.
func (c *credential) String() string { return withheld }

// Format writes the placeholder for every verb.
func (c *credential) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, withheld) }

// LogValue returns the placeholder.
func (c *credential) LogValue() slog.Value { return slog.StringValue(withheld) }

// credentials holds what the proxy has learned while it relayed logins. Nothing of it waits for a network while a login waits for it.
//
// Invariants: a role is asked about by one goroutine at a time in the background; at most one observed login of a role is kept; no credential holds a
// key while no session of its own lives.
type credentials struct {
	// source says what is stored as a role's password, while configured says that there is one.
	source     func(ctx context.Context, role string) (Stored, bool, error)
	configured func() bool
	log        *slog.Logger
	notes      *limiter[string]
	// ctx ends the questions, goes counts the goroutines that ask them.
	ctx  context.Context
	goes *sync.WaitGroup
	// slots bounds the questions under way, questions numbers them.
	slots     chan struct{}
	questions atomic.Uint64
	// trusted is the credential of everybody whose server asks for nothing.
	trusted *credential

	mu    sync.Mutex
	roles map[string]*roleSecrets
}

// roleSecrets is what is known about one role's password.
type roleSecrets struct {
	name    string
	entries []*credential
	// stored is the last answer of the source, known that there was one which is not none; answered is the number of its question.
	stored   Stored
	known    bool
	answered uint64
	// asking says that a goroutine asks, or waits to; wanted that the answer it has now is not enough; notBefore is when it may ask again.
	asking, wanted bool
	notBefore      time.Time
	// forget ends the memory of a role without sessions.
	forget *time.Timer
}

func newCredentials(ctx context.Context, goes *sync.WaitGroup, log *slog.Logger,
	source func(context.Context, string) (Stored, bool, error), configured func() bool) *credentials {
	c := &credentials{ctx: ctx, goes: goes, log: log, source: source, configured: configured, roles: map[string]*roleSecrets{},
		slots: make(chan struct{}, questionsAtOnce), notes: newLimiter[string](1.0/60, 1)}
	c.trusted = &credential{all: c, method: methodTrust}
	c.trusted.standing.Store(uint32(stands))
	return c
}

// atOnce is done: a question under it is answered with what is at hand, or not at all.
var atOnce = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// learn takes what a login that has succeeded has shown, and returns the session's credential, which may have no key yet, or why there is none. sealed
// says that the leg to the node was encrypted, atHand that the source answers without waiting. The watch is used up. What it returns is given back
// by release.
func (c *credentials) learn(role string, w *watch, sealed, atHand bool) (_ *credential, why string) {
	defer w.wipe()
	w.close()
	switch {
	case w.method == methodTrust:
		return c.trusted, ""
	case w.method == methodOther, w.method == methodUnknown:
		return nil, notRepeatable
	case w.method != methodPassword && w.blind:
		return nil, noVerifierSource
	}
	k := c.join(role, w, sealed && w.method != methodSCRAM)
	if standing(k.standing.Load()) != stands && !(atHand && c.ask(atOnce, k.of) == nil) {
		c.want(k.of)
	}
	return k, ""
}

// join finds the credential of the login, or makes it, and gives it what the login has shown.
func (c *credentials) join(role string, w *watch, sealed bool) *credential {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.roles[role]
	if r == nil {
		r = &roleSecrets{name: role}
		c.roles[role] = r
	}
	if r.forget != nil {
		r.forget.Stop()
		r.forget = nil
	}
	k := r.find(w, sealed)
	if k == nil {
		k = &credential{all: c, of: r, method: w.method, sealed: sealed}
		if w.method == methodSCRAM {
			k.challenge = w.challenge()
		}
		r.entries = append(r.entries, k)
	}
	k.sessions++
	switch {
	case standing(k.standing.Load()) == stands:
	case w.method == methodPassword:
		k.secret, w.answer = w.answer, secret{}
		k.standing.Store(uint32(stands))
	case w.verifier != nil:
		k.dropWatch()
		k.key, k.verifier, w.key, w.verifier = w.key, w.verifier, scram.ClientKey{}, nil
		k.standing.Store(uint32(stands))
	default:
		r.await(k, w)
		if r.known {
			_ = k.fit(r.stored) // else it is asked for
		}
	}
	return k
}

// find returns the credential that the login belongs to. That its server let it in does not give it a key which others have proved: a server that is
// not the writer may take any answer. An MD5 login shows nothing of the stored hash: while the hash is not known it is taken for the same as that of
// the login which waits already.
func (r *roleSecrets) find(w *watch, sealed bool) (without *credential) {
	for _, k := range r.entries {
		if k.method != w.method || k.sealed != sealed {
			continue
		}
		now := standing(k.standing.Load())
		switch ready := now == stands; {
		case k.method == methodSCRAM && ready && k.challenge == w.challenge() && w.proves(*k.verifier),
			k.method == methodPassword && k.secret.equal(w.answer),
			k.method == methodMD5 && ready && w.answers(k.secret):
			return k
		case without == nil && (k.method == methodSCRAM && !ready && k.challenge == w.challenge() || k.method == methodMD5 && now == standsWithoutKey):
			without = k
		}
	}
	return without
}

// await keeps the login of k until its verifier is known, and drops the one that was kept before.
func (r *roleSecrets) await(k *credential, w *watch) {
	for _, other := range r.entries {
		other.dropWatch()
	}
	kept := *w
	k.awaits = &kept
	*w = watch{method: w.method}
}

func (k *credential) dropWatch() {
	if k.awaits != nil {
		k.awaits.wipe()
		k.awaits = nil
	}
}

// fit tries the stored password on the login that awaits it. A key that comes of it belongs to the verifier: that was checked.
func (k *credential) fit(stored Stored) error {
	switch {
	case k.awaits == nil:
		return scram.ErrIncomplete
	case k.method == methodSCRAM && stored.scram != nil:
		key, err := k.awaits.observer.ClientKey(*stored.scram)
		if err != nil {
			return err
		}
		v := stored.scram.Clone()
		k.key, k.verifier = key, &v
	case k.method == methodMD5 && stored.md5.held != nil && k.awaits.answers(stored.md5):
		k.secret = stored.md5.clone()
	default:
		return scram.ErrKeyMismatch
	}
	k.dropWatch()
	k.standing.Store(uint32(stands))
	return nil
}

// isOf reports whether the credential was made with what is stored.
func (k *credential) isOf(stored Stored) bool {
	switch k.method {
	case methodSCRAM:
		return stored.scram != nil && k.verifier.Equal(*stored.scram)
	case methodMD5:
		return stored.md5.held != nil && k.secret.equal(stored.md5)
	default:
		return true // whether a password is still the role's only the server can say
	}
}

// lose wipes what the credential holds.
func (k *credential) lose(now standing) {
	k.standing.Store(uint32(now))
	k.dropWatch()
	k.key.Wipe()
	k.secret.wipe()
	if k.verifier != nil {
		k.verifier.Wipe()
	}
	k.key, k.secret, k.verifier = scram.ClientKey{}, secret{}, nil
}

// release gives a session's credential back. The last one wipes it. It is called once.
func (c *credentials) release(k *credential) {
	if k == nil || k == c.trusted {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.sessions--; k.sessions > 0 {
		return
	}
	k.lose(standsWithoutKey)
	r := k.of
	r.drop(k)
	if len(r.entries) == 0 {
		r.forget = time.AfterFunc(storedKept, func() { c.forget(r) })
	}
}

// close wipes everything. Every session has ended, and nobody asks any more.
func (c *credentials) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, r := range c.roles {
		for _, k := range r.entries {
			k.lose(standsWithoutKey)
		}
		if r.forget != nil {
			r.forget.Stop()
		}
		r.stored.wipe()
		delete(c.roles, name)
	}
}
