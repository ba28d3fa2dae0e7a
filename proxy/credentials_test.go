package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/pgtether/pgtether/internal/scram"
)

// askedSource is a source that has to be asked: it answers once the test lets it, and counts the questions.
type askedSource struct {
	mu      sync.Mutex
	stored  map[string]scram.Verifier
	err     error
	asked   atomic.Int32
	atOnce  atomic.Int32
	most    int32
	answers chan struct{} // one for each answer; nil: at once
}

func (a *askedSource) look(ctx context.Context, role string) (Stored, bool, error) {
	a.asked.Add(1)
	now := a.atOnce.Add(1)
	defer a.atOnce.Add(-1)
	a.mu.Lock()
	a.most = max(a.most, now)
	a.mu.Unlock()
	if a.answers != nil {
		select {
		case <-a.answers:
		case <-ctx.Done():
			return Stored{}, false, context.Cause(ctx)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return Stored{}, false, a.err
	}
	v, ok := a.stored[role]
	return StoredVerifier(v.Clone()), ok, nil
}

func (a *askedSource) set(role string, v scram.Verifier, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stored, a.err = map[string]scram.Verifier{role: v}, err
}

// state renders what a session with the credential would be told.
func state(k *credential, why string) string {
	_, now := (&session{learned: k, unlearned: why}).credential()
	return now
}

func TestALookupRunsBehindTheLoginOncePerRole(t *testing.T) {
	v, key := keyOf(t, "a", "0123456789abcdef")
	source := &askedSource{answers: make(chan struct{})}
	source.set("app", v, nil)
	c := newTestCredentials(t, source.look)
	var sessions []*credential
	for range 100 {
		k, why := c.learn("app", scramLogin(t, v, key), false, false) // returns although nobody answers
		if state(k, why) != noKey {
			t.Fatalf("state %q", state(k, why))
		}
		sessions = append(sessions, k)
	}
	if n := len(c.roles["app"].entries); n != 1 {
		t.Errorf("%d credentials of one password", n)
	}
	source.answers <- struct{}{}
	eventually(t, "the key is there", func() bool { return state(sessions[99], "") == "" })
	if n := source.asked.Load(); n != 1 {
		t.Errorf("%d questions for 100 logins of one role", n)
	}
	if _, err := login(v, sessions[0]); err != nil {
		t.Error(err)
	}
	for i, k := range sessions {
		key := k.key
		c.release(k)
		if last := i == len(sessions)-1; key.Matches(v) == last {
			t.Fatalf("after %d of %d sessions: key is there %v", i+1, len(sessions), !last)
		}
	}
	k, why := c.learn("app", scramLogin(t, v, key), false, false)
	if state(k, why) != "" || source.asked.Load() != 1 {
		t.Errorf("a client that comes back at once: %q after %d questions", state(k, why), source.asked.Load())
	}
}

// login logs in at a server with the verifier.
func login(v scram.Verifier, k *credential) (bool, error) {
	server, err := scram.NewServer(v)
	if err != nil {
		return false, err
	}
	r := k.begin(true)
	defer r.end()
	request := server.Offer()
	for {
		reply, _, err := r.step(authFrame('R', request))
		if err != nil {
			return false, err
		}
		if reply == nil {
			_, done, err := r.step(frameOf(authOK, ""))
			return done, err
		}
		if request, _, err = server.Step(reply[headerLength:]); err != nil {
			return false, err
		}
	}
}

func TestAChangedPasswordEndsTheOldCredentialOnly(t *testing.T) {
	before, keyBefore := keyOf(t, "a", "0123456789abcdef")
	after, keyAfter := keyOf(t, "b", "fedcba9876543210")
	source := &askedSource{}
	source.set("app", before, nil)
	c := newTestCredentials(t, source.look)
	first, _ := c.learn("app", scramLogin(t, before, keyBefore), false, true)
	held := first.key
	source.set("app", after, nil)
	if state(first, "") != "" {
		t.Fatal("no key at first")
	}
	second, _ := c.learn("app", scramLogin(t, after, keyAfter), false, false) // what is known of the role does not fit: it is asked about anew
	eventually(t, "the new one is known", func() bool { return state(second, "") == "" })
	if got := state(first, ""); got != passwordChanged || held.Matches(before) {
		t.Errorf("the old one: %q, key there %v", got, held.Matches(before))
	}
	source.set("somebody else", before, nil) // expired, or the role may not log in any more: none is valid
	c.refresh(t.Context(), []string{"app", "app", "nobody"})
	if got := state(second, ""); got != passwordChanged {
		t.Errorf("after the end of its validity: %q", got)
	}
	source.set("app", after, nil)
	third, _ := c.learn("app", scramLogin(t, after, keyAfter), false, true)
	if state(third, "") != "" || third != second {
		t.Errorf("after it is valid again: %q", state(third, ""))
	}
}

func TestNothingIsConcludedFromASourceThatCannotBeAsked(t *testing.T) {
	v, key := keyOf(t, "a", "0123456789abcdef")
	source := &askedSource{}
	source.set("app", v, nil)
	c := newTestCredentials(t, source.look)
	k, _ := c.learn("app", scramLogin(t, v, key), false, true)
	source.set("app", v, errors.New("no writer is open"))
	c.refresh(t.Context(), []string{"app"})
	if got := state(k, ""); got != "" {
		t.Errorf("after a failed question: %q", got)
	}
	late, _ := c.learn("late", scramLogin(t, v, key), false, false)
	eventually(t, "it is asked in vain", func() bool { return source.asked.Load() >= 3 })
	if got := state(late, ""); got != noKey {
		t.Errorf("a login that nobody can be asked about: %q", got)
	}
	source.set("late", v, nil)
	eventually(t, "it is asked again by itself", func() bool { return state(late, "") == "" })
}

func TestAVerifierThatDoesNotFitIsNoKeyUntilItIsPutRight(t *testing.T) {
	v, key := keyOf(t, "a", "0123456789abcdef")
	sameSalt, _ := keyOf(t, "b", "0123456789abcdef")
	otherSalt, _ := keyOf(t, "a", "fedcba9876543210")
	for name, wrong := range map[string]scram.Verifier{"of another password": sameSalt, "with another salt": otherSalt, "broken": {}} {
		source := &askedSource{}
		source.set("app", wrong, nil)
		c := newTestCredentials(t, source.look)
		k, _ := c.learn("app", scramLogin(t, v, key), false, true)
		if got := state(k, ""); got != noKey {
			t.Errorf("a verifier %s: %q", name, got)
		}
		source.set("app", v, nil) // the file is corrected and loaded again
		c.refresh(t.Context(), []string{"app"})
		if got := state(k, ""); got != "" {
			t.Errorf("after a verifier %s was put right: %q", name, got)
		}
	}
}

// A key that others have proved is found by the logins that prove it too, whatever else their server took.
func TestALoginHasTheKeyOnlyOfWhatItProved(t *testing.T) {
	const salt = "0123456789abcdef"
	v, key := keyOf(t, "a", salt)
	other, otherKey := keyOf(t, "b", salt)
	source := &askedSource{}
	source.set("app", v, nil)
	c := newTestCredentials(t, source.look)
	first, _ := c.learn("app", scramLogin(t, v, key), false, true)
	wrong, _ := c.learn("app", scramLogin(t, other, otherKey), false, true)
	if state(first, "") != "" || state(wrong, "") != noKey {
		t.Errorf("right: %q, wrong: %q", state(first, ""), state(wrong, ""))
	}
	second, _ := c.learn("app", scramLogin(t, v, key), false, true)
	proxied := new(watch)
	proxied.proved(key.Clone(), v)
	third, _ := c.learn("app", proxied, false, true)
	if second != first || third != first {
		t.Error("logins with one password have more than one credential")
	}
}

func TestOneObservedLoginOfARoleIsKeptAndWiped(t *testing.T) {
	source := &askedSource{answers: make(chan struct{})}
	c := newTestCredentials(t, source.look)
	var keys []*credential
	for i := range 20 {
		v, key := keyOf(t, "a", "0123456789abcde"+string(rune('a'+i)))
		k, _ := c.learn("app", scramLogin(t, v, key), false, false)
		keys = append(keys, k)
	}
	kept := 0
	for _, k := range keys {
		if k.awaits != nil {
			kept++
		}
	}
	last := keys[19].awaits
	if kept != 1 || last == nil || !last.observer.Complete() {
		t.Fatalf("%d logins are kept", kept)
	}
	observer := last.observer
	for _, k := range keys {
		c.release(k)
	}
	if observer.Complete() || len(c.roles["app"].entries) != 0 {
		t.Error("the observed login outlives the last session")
	}
}

func TestRefreshAsksAFewAtATimeAndEndsWithItsContext(t *testing.T) {
	v, key := keyOf(t, "a", "0123456789abcdef")
	source := &askedSource{}
	c := newTestCredentials(t, source.look)
	var roles []string
	for i := range 50 {
		role := "role" + string(rune('a'+i))
		source.set(role, v, nil)
		if k, _ := c.learn(role, scramLogin(t, v, key), false, true); state(k, "") != "" {
			t.Fatal("no key")
		}
		roles = append(roles, role)
	}
	source.answers = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { c.refresh(ctx, slices.Concat(roles, roles)); close(done) }()
	eventually(t, "as many as may be are asked", func() bool { return source.atOnce.Load() == questionsAtOnce })
	cancel()
	<-done
	if source.most > questionsAtOnce {
		t.Errorf("%d questions at once", source.most)
	}
}

func TestWithoutASourceOnlyWhatNeedsNoneIsLearned(t *testing.T) {
	v, key := keyOf(t, "a", "0123456789abcdef")
	c := newTestCredentials(t, nil)
	cases := map[string]struct {
		frames []string // the server's and the client's, in turn
		want   string
	}{
		"trust":                       {[]string{string(frameOf(authOK, ""))}, ""},
		"password":                    {[]string{string(frameOf(authCleartext, "")), "p\x00\x00\x00\x06a\x00", string(frameOf(authOK, ""))}, ""},
		"md5":                         {[]string{string(frameOf(authMD5, "salt")), "p\x00\x00\x00\x06a\x00", string(frameOf(authOK, ""))}, noVerifierSource},
		"GSSAPI":                      {[]string{string(frameOf(authGSS, "")), "p\x00\x00\x00\x04", string(frameOf(authGSSContinue, "x")), "p\x00\x00\x00\x04", string(frameOf(authOK, ""))}, notRepeatable},
		"SSPI":                        {[]string{string(frameOf(authSSPI, "")), "p\x00\x00\x00\x04", string(frameOf(authOK, ""))}, notRepeatable},
		"two passwords":               {[]string{string(frameOf(authCleartext, "")), "p\x00\x00\x00\x06a\x00", string(frameOf(authCleartext, "")), "p\x00\x00\x00\x06b\x00", string(frameOf(authOK, ""))}, notRepeatable},
		"a password without an end":   {[]string{string(frameOf(authCleartext, "")), "p\x00\x00\x00\x05a", string(frameOf(authOK, ""))}, notRepeatable},
		"two texts":                   {[]string{string(frameOf(authCleartext, "")), "p\x00\x00\x00\x08a\x00b\x00", string(frameOf(authOK, ""))}, notRepeatable},
		"no text":                     {[]string{string(frameOf(authCleartext, "")), "p\x00\x00\x00\x04", string(frameOf(authOK, ""))}, notRepeatable},
		"another message":             {[]string{string(frameOf(authCleartext, "")), "Q", string(frameOf(authOK, ""))}, notRepeatable},
		"a salt too short":            {[]string{string(frameOf(authMD5, "abc")), "p\x00\x00\x00\x06a\x00", string(frameOf(authOK, ""))}, notRepeatable},
		"a password, then SCRAM":      {[]string{string(frameOf(authCleartext, "")), "p\x00\x00\x00\x06a\x00", string(frameOf(authSASL, "SCRAM-SHA-256\x00\x00")), "p\x00\x00\x00\x04", string(frameOf(authOK, ""))}, notRepeatable},
		"let in before the answer":    {[]string{string(frameOf(authCleartext, "")), "", string(frameOf(authOK, ""))}, notRepeatable},
		"nothing at all was asked of": {nil, notRepeatable},
	}
	for name, tc := range cases {
		w := &watch{blind: true}
		for i, frame := range tc.frames {
			if i%2 == 0 {
				w.request([]byte(frame))
			} else if frame != "" {
				w.answered([]byte(frame))
			}
		}
		if k, why := c.learn(name, w, false, false); state(k, why) != tc.want {
			t.Errorf("%s: %q, want %q", name, state(k, why), tc.want)
		}
	}
	w := scramLogin(t, v, key)
	blind := &watch{blind: true, method: methodSCRAM}
	if k, why := c.learn("app", blind, false, false); state(k, why) != noVerifierSource {
		t.Errorf("SCRAM: %q", state(k, why))
	}
	w.wipe()
	if !slices.Contains(CredentialObstacles(), noKey) || len(CredentialObstacles()) != 4 {
		t.Errorf("the list of obstacles: %v", CredentialObstacles())
	}
}

// What a SCRAM login costs more is a few hashes of short messages, and without a source nothing but a look at each message.
func TestWatchingCostsNothingWithoutASource(t *testing.T) {
	frames := [][]byte{frameOf(authSASL, "SCRAM-SHA-256\x00\x00"), authFrame('p', []byte("initial")), frameOf(authSASLContinue, "first"),
		authFrame('p', []byte("final")), frameOf(authSASLFinal, "v"), frameOf(authOK, "")}
	if n := testing.AllocsPerRun(100, func() {
		w := watch{blind: true}
		for i, frame := range frames {
			if i%2 == 0 || i > 4 {
				w.request(frame)
			} else {
				w.answered(frame)
			}
		}
		w.close()
		w.wipe()
	}); n != 0 {
		t.Errorf("%v allocations for a login", n)
	}
}
