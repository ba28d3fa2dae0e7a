package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/pgtether/pgtether/internal/scram"
)

// keeper of credentials without a server around it.
func newTestCredentials(t testing.TB, source func(context.Context, string) (Stored, bool, error)) *credentials {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var goes sync.WaitGroup
	c := newCredentials(ctx, &goes, slog.New(slog.DiscardHandler), source, func() bool { return source != nil })
	t.Cleanup(func() {
		cancel()
		goes.Wait()
		c.close()
	})
	return c
}

// frameOf is an AuthenticationRequest.
func frameOf(code byte, data string) []byte {
	return authFrame('R', append([]byte{0, 0, 0, code}, data...))
}

// conversation is what a server and its client say during a login, in turn.
type conversation [][]byte

// show lets the watch see it.
func (c conversation) show(w *watch) {
	for _, frame := range c {
		if frame[0] == 'R' {
			w.request(frame)
		} else {
			w.answered(frame)
		}
	}
}

// recordedLogin is what is said when a client with the key logs in at a server with the verifier.
func recordedLogin(t testing.TB, v scram.Verifier, key scram.ClientKey) (said conversation) {
	t.Helper()
	server, err := scram.NewServer(v)
	if err != nil {
		t.Fatal(err)
	}
	client, err := scram.NewClient(key, v, nil)
	if err != nil {
		t.Fatal(err)
	}
	request := server.Offer()
	for {
		said = append(said, authFrame('R', request))
		answer, _, err := client.Step(request)
		if err != nil {
			t.Fatal(err)
		}
		if answer == nil {
			return append(said, frameOf(authOK, ""))
		}
		said = append(said, authFrame('p', answer))
		if request, _, err = server.Step(answer); err != nil {
			t.Fatal(err)
		}
	}
}

// scramLogin is a watch that has seen a client with the key log in at a server with the verifier.
func scramLogin(t testing.TB, v scram.Verifier, key scram.ClientKey) *watch {
	t.Helper()
	w := new(watch)
	recordedLogin(t, v, key).show(w)
	return w
}

// plainLogin is a watch that has seen one request and the client's answer to it.
func plainLogin(request []byte, answer string) *watch {
	w := new(watch)
	w.request(request)
	if answer != "" {
		w.answered(authFrame('p', []byte(answer+"\x00")))
	}
	if w.method != methodTrust {
		w.request(frameOf(authOK, ""))
	}
	return w
}

// secretPassword is the password of every role here.
const secretPassword = "the password itself"

// credentialsOfEveryMethod are ready for use.
func credentialsOfEveryMethod(t testing.TB) map[authMethod]*credential {
	t.Helper()
	v, key := keyOf(t, secretPassword, "0123456789abcdef")
	hash := holdSecret([]byte("0123456789abcdef0123456789abcdef"))
	c := newTestCredentials(t, func(_ context.Context, role string) (Stored, bool, error) {
		if role == "md5" {
			return Stored{md5: hash.clone()}, true, nil
		}
		return StoredVerifier(v.Clone()), true, nil
	})
	made := map[authMethod]*credential{}
	for role, w := range map[string]*watch{
		"scram": scramLogin(t, v, key), "md5": plainLogin(frameOf(authMD5, "salt"), string(appendMD5Answer(nil, hash, [4]byte([]byte("salt"))))),
		"password": plainLogin(frameOf(authCleartext, ""), secretPassword), "trust": plainLogin(frameOf(authOK, ""), ""),
	} {
		k, why := c.learn(role, w, false, true)
		if why != "" || standing(k.standing.Load()) != stands {
			t.Fatalf("%s: no key: %s", role, why)
		}
		made[k.method] = k
	}
	return made
}

func TestALoginAgainAnswersOnlyWhatTheFirstOneWasAsked(t *testing.T) {
	made := credentialsOfEveryMethod(t)
	offer := string(frameOf(authSASL, "SCRAM-SHA-256\x00\x00"))
	bad := map[string][]byte{
		"nothing": nil, "a type alone": []byte("R"), "no code": []byte("R\x00\x00\x00\x04"), "half a code": []byte("R\x00\x00\x00\x06\x00\x00"),
		"a length too small": append(frameOf(authOK, "")[:4], 7, 0, 0, 0, 0), "a length too great": append([]byte("R\x7f\xff\xff\xff"), 0, 0, 0, 0),
		"a length of -1": append([]byte("R\xff\xff\xff\xff"), 0, 0, 0, 0), "another message": authFrame('E', []byte("\x00\x00\x00\x00")),
		"bytes behind": append(frameOf(authOK, ""), 0), "an unknown request": frameOf(99, ""), "SASL goes on": frameOf(authSASLContinue, "r=x,s=AAAA,i=1"),
		"SASL ends": frameOf(authSASLFinal, "v=AAAA"), "GSSAPI": frameOf(authGSS, ""), "SSPI": frameOf(authSSPI, ""), "GSSAPI goes on": frameOf(authGSSContinue, "x"),
		"SASL without SCRAM": frameOf(authSASL, "PLAIN\x00\x00"), "SASL without an end": frameOf(authSASL, "SCRAM-SHA-256"), "no SASL at all": frameOf(authSASL, ""),
		"channel binding alone": frameOf(authSASL, "SCRAM-SHA-256-PLUS\x00\x00"),
		"a short salt":          frameOf(authMD5, "abc"), "a long salt": frameOf(authMD5, "abcde"), "a password and more": frameOf(authCleartext, "x"),
		"Kerberos 5": frameOf(2, ""), "crypt": frameOf(4, "ab"),
	}
	good := map[authMethod][]byte{methodTrust: frameOf(authOK, ""), methodPassword: frameOf(authCleartext, ""), methodMD5: frameOf(authMD5, "salt"), methodSCRAM: []byte(offer)}
	for method, k := range made {
		for name, frame := range bad {
			refuses(t, fmt.Sprintf("method %d, %s", method, name), k.begin(true), frame)
		}
		for other, frame := range good {
			if other != method {
				refuses(t, fmt.Sprintf("method %d asked for %d", method, other), k.begin(true), frame)
			}
		}
		r := k.begin(false)
		reply, done, err := r.step(good[method])
		if err != nil || done != (method == methodTrust) || (reply == nil) != done {
			t.Errorf("method %d: reply %q, done %v, %v", method, reply, done, err)
		}
		if !done {
			refuses(t, fmt.Sprintf("method %d is asked twice", method), r, good[method])
		}
	}
}

// refuses wants nothing to be said to the frame, and nothing after it.
func refuses(t *testing.T, what string, r *relogin, frame []byte) {
	t.Helper()
	for range 2 {
		reply, done, err := r.step(frame)
		if reply != nil || done || err == nil {
			t.Errorf("%s: reply %q, done %v, %v", what, reply, done, err)
		}
		if err != nil && strings.Contains(err.Error(), secretPassword) {
			t.Errorf("%s: the error shows the password: %v", what, err)
		}
	}
	if bytes.ContainsFunc(r.secret.bytes(), func(c rune) bool { return c != 0 }) {
		t.Errorf("%s: the secret was not wiped", what)
	}
}

func TestWhatProvesItselfToAnybodyNeedsALegAsProtectedAsTheFirst(t *testing.T) {
	hash := holdSecret([]byte("0123456789abcdef0123456789abcdef"))
	c := newTestCredentials(t, func(context.Context, string) (Stored, bool, error) { return Stored{md5: hash.clone()}, true, nil })
	for name, login := range map[string]func() (*watch, []byte){
		"password": func() (*watch, []byte) {
			return plainLogin(frameOf(authCleartext, ""), secretPassword), frameOf(authCleartext, "")
		},
		"md5": func() (*watch, []byte) {
			return plainLogin(frameOf(authMD5, "salt"), string(appendMD5Answer(nil, hash, [4]byte([]byte("salt"))))), frameOf(authMD5, "abcd")
		},
	} {
		for _, sealed := range []bool{false, true} {
			for _, encrypted := range []bool{false, true} {
				w, request := login()
				k, _ := c.learn(name, w, sealed, true)
				reply, _, err := k.begin(encrypted).step(request)
				if refused := sealed && !encrypted; refused != (reply == nil) || refused != errors.Is(err, errLessProtected) {
					t.Errorf("%s, first leg encrypted %v, second %v: %q, %v", name, sealed, encrypted, reply, err)
				}
			}
		}
	}
}

func TestAKeyThatIsGoneLogsNobodyIn(t *testing.T) {
	for method, k := range credentialsOfEveryMethod(t) {
		if method == methodTrust {
			continue
		}
		before, key, kept := k.begin(true), k.key, k.secret
		k.all.release(k)
		if kept.bytes() != nil && bytes.ContainsFunc(kept.bytes(), func(c rune) bool { return c != 0 }) {
			t.Errorf("method %d: the secret is %q after its last session", method, kept.bytes())
		}
		if v, _ := keyOf(t, secretPassword, "0123456789abcdef"); key.Matches(v) {
			t.Errorf("method %d: the key is there after its last session", method)
		}
		if _, _, err := k.begin(true).step(frameOf(authOK, "")); !errors.Is(err, errCredentialGone) {
			t.Errorf("method %d: %v", method, err)
		}
		if before.over != nil { // a login that has begun ends by itself
			t.Errorf("method %d: %v", method, before.over)
		}
		before.end()
	}
}

func TestNoPrintedFormShowsASecret(t *testing.T) {
	for method, k := range credentialsOfEveryMethod(t) {
		r := k.begin(true)
		defer r.end()
		s := &session{learned: k}
		w := watch{method: method, answer: holdSecret([]byte(secretPassword))}
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%c", "%p"} {
			for _, v := range []any{k, r, w, &w, s, k.of, Stored{md5: holdSecret([]byte(secretPassword))}, k.all} {
				text := fmt.Sprintf(verb, v)
				for _, form := range []string{secretPassword, fmt.Sprintf("%x", secretPassword), fmt.Sprint([]byte(secretPassword)), "0123456789abcdef0123456789abcdef"} {
					if strings.Contains(text, strings.Trim(form, "[]")) {
						t.Errorf("%T as %s shows a secret", v, verb)
					}
				}
			}
		}
	}
}

func FuzzReloginStep(f *testing.F) {
	made := credentialsOfEveryMethod(f)
	f.Add(frameOf(authOK, ""), frameOf(authCleartext, ""), byte(methodTrust))
	f.Add(frameOf(authSASL, "SCRAM-SHA-256\x00\x00"), frameOf(authSASLContinue, "r=abc,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096"), byte(methodSCRAM))
	f.Add(frameOf(authMD5, "salt"), frameOf(authOK, ""), byte(methodMD5))
	f.Fuzz(func(t *testing.T, first, second []byte, method byte) {
		k := made[authMethod(method)]
		if k == nil {
			return
		}
		r := k.begin(false)
		defer r.end()
		for _, frame := range [][]byte{first, second} {
			reply, done, err := r.step(frame)
			switch {
			case err != nil && (reply != nil || done), done && reply != nil:
				t.Fatalf("reply %q, done %v, %v", reply, done, err)
			case err == nil && (len(frame) < headerLength+4 || frame[0] != 'R'):
				t.Fatalf("taken for a request: %q", frame)
			case reply != nil && (reply[0] != 'p' || len(reply) != 1+int(reply[4])+int(reply[3])<<8):
				t.Fatalf("the reply is no message: %q", reply)
			case done && k.method == methodSCRAM: // nobody can guess the server's proof
				t.Fatal("a server that knows nothing was believed")
			}
			if strings.Contains(string(reply), secretPassword) && k.method != methodPassword {
				t.Fatal("the password was said")
			}
		}
	})
}
