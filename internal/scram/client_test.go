package scram

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func newTestClient(t testing.TB, key ClientKey, v Verifier, binding []byte) *Client {
	t.Helper()
	c, err := NewClient(key, v, binding)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientLogsInAtAServerThatKnowsTheVerifier(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		password := rapid.StringMatching(`[ -~]{0,20}`).Draw(rt, "password")
		salt := rapid.SliceOfN(rapid.Byte(), 1, MaxSaltLength).Draw(rt, "salt")
		v, key := passwordKeys(t, password, salt, rapid.IntRange(1, 20).Draw(rt, "iterations"))
		s, c := newTestServer(t, v), newTestClient(t, key, v, nil)
		request := s.Offer()
		for serverDone := false; ; {
			reply, done, err := c.Step(request)
			if err != nil || done {
				rt.Fatalf("client: done %v, error %v", done, err)
			}
			if serverDone {
				break
			}
			if request, serverDone, err = s.Step(reply); err != nil {
				rt.Fatalf("server: %v", err)
			}
		}
		if reply, done, err := c.Step(appendAuthRequest(nil, authOK)); err != nil || !done || reply != nil {
			rt.Fatalf("after AuthenticationOk: reply %q, done %v, error %v", reply, done, err)
		}
		if got, ok := s.ClientKey(); !ok || *got.bytes() != *key.bytes() {
			rt.Fatalf("the server got another key")
		}
	})
}

// script is a hostile or broken server: each answer may depend on what the client sent.
type script []func(sent []byte) []byte

func say(code uint32, data string) func([]byte) []byte {
	return func([]byte) []byte { return request(code, data) }
}

// challenge answers a client-first message with a nonce that extends the client's.
func challenge(v Verifier, change func(string) string) func([]byte) []byte {
	return func(sent []byte) []byte {
		_, nonce, _ := strings.Cut(string(sent), "r=")
		return request(authSASLContinue, change(string(appendServerFirst(nil, []byte(nonce+"server"), v))))
	}
}

func asIs(s string) string { return s }

func (s script) run(c *Client) (done bool, err error) {
	var reply []byte
	for _, answer := range s {
		if reply, done, err = c.Step(answer(reply)); err != nil || done {
			return done, err
		}
	}
	return done, err
}

func TestClientTrustsNoServerThatDoesNotProveItself(t *testing.T) {
	v, key := rfcKeys(t)
	stale, _ := passwordKeys(t, rfcPassword, []byte("another salt"), 4096)
	offer, ok := say(authSASL, offerBoth), say(authOK, "")
	replace := func(old, with string) func([]byte) []byte {
		return challenge(v, func(s string) string { return strings.Replace(s, old, with, 1) })
	}
	for name, c := range map[string]struct {
		script script
		want   error
	}{
		"let in at once (trust)":          {script{ok}, ErrServerUnproven},
		"cleartext password asked":        {script{say(3, "")}, ErrNotSCRAM},
		"md5 asked":                       {script{say(5, "salt")}, ErrNotSCRAM},
		"final as a beginning":            {script{say(authSASLFinal, "v=")}, ErrNotSCRAM},
		"only OAUTHBEARER":                {script{say(authSASL, "OAUTHBEARER\x00\x00")}, ErrNotSCRAM},
		"only PLUS":                       {script{say(authSASL, "SCRAM-SHA-256-PLUS\x00\x00")}, ErrNotSCRAM},
		"no mechanisms":                   {script{say(authSASL, "\x00")}, ErrNotSCRAM},
		"list does not end":               {script{say(authSASL, "SCRAM-SHA-256\x00")}, ErrMalformed},
		"empty offer":                     {script{say(authSASL, "")}, ErrMalformed},
		"no code":                         {script{func([]byte) []byte { return nil }}, ErrMalformed},
		"offer too long":                  {script{say(authSASL, strings.Repeat("A", MaxServerMessage)+"\x00\x00")}, ErrTooLong},
		"two offers":                      {script{offer, offer}, ErrOutOfOrder},
		"let in after the first message":  {script{offer, ok}, ErrServerUnproven},
		"empty challenge":                 {script{offer, say(authSASLContinue, "")}, ErrMalformed},
		"challenge too long":              {script{offer, say(authSASLContinue, "r="+strings.Repeat("x", MaxServerMessage))}, ErrTooLong},
		"nonce of another":                {script{offer, say(authSASLContinue, rfcServerFirst)}, ErrMalformed},
		"nonce not extended":              {script{offer, replace("server", "")}, ErrMalformed},
		"nonce with a space":              {script{offer, replace("server", "ser ver")}, ErrMalformed},
		"no salt":                         {script{offer, replace("s=", "x=")}, ErrMalformed},
		"salt empty":                      {script{offer, replace("W22ZaJ0SNY7soEsUEjb6gQ==", "")}, ErrMalformed},
		"salt no base64":                  {script{offer, replace("W22Z", "!!!!")}, ErrMalformed},
		"no iterations":                   {script{offer, replace(",i=4096", "")}, ErrMalformed},
		"zero iterations":                 {script{offer, replace("i=4096", "i=0")}, ErrMalformed},
		"negative iterations":             {script{offer, replace("i=4096", "i=-1")}, ErrMalformed},
		"iterations above int":            {script{offer, replace("i=4096", "i=2147483648")}, ErrMalformed},
		"most iterations":                 {script{offer, replace("i=4096", "i=2147483647")}, ErrStaleVerifier},
		"mandatory extension":             {script{offer, replace("r=", "m=x,r=")}, ErrMalformed},
		"something behind":                {script{offer, replace("i=4096", "i=4096,x=1")}, ErrMalformed},
		"password was changed":            {script{offer, challenge(stale, asIs)}, ErrStaleVerifier},
		"fewer iterations":                {script{offer, replace("i=4096", "i=1")}, ErrStaleVerifier},
		"let in without a proof":          {script{offer, challenge(v, asIs), ok}, ErrServerUnproven},
		"signature of another":            {script{offer, challenge(v, asIs), say(authSASLFinal, rfcServerFinal)}, ErrServerUnproven},
		"signature short":                 {script{offer, challenge(v, asIs), say(authSASLFinal, "v=AAAA")}, ErrMalformed},
		"error in place of the signature": {script{offer, challenge(v, asIs), say(authSASLFinal, "e=other-error")}, ErrServerUnproven},
		"nothing in the final":            {script{offer, challenge(v, asIs), say(authSASLFinal, "")}, ErrMalformed},
		"second challenge":                {script{offer, challenge(v, asIs), challenge(v, asIs)}, ErrOutOfOrder},
	} {
		t.Run(name, func(t *testing.T) {
			client := newTestClient(t, key, v, nil)
			done, err := c.script.run(client)
			if !errors.Is(err, c.want) || done {
				t.Errorf("done %v, error %v; want %v", done, err, c.want)
			}
			if e := (*ExchangeError)(nil); errors.As(err, &e) {
				t.Errorf("the server's nonsense would be told to a client as its own: %v", err)
			}
			for _, code := range []uint32{authSASL, authSASLContinue, authSASLFinal, authOK} {
				if reply, done, err := client.Step(request(code, offerBoth)); err == nil || done || reply != nil {
					t.Errorf("the login goes on after its end with request %d", code)
				}
			}
		})
	}
}

func TestClientProvesNothingToAServerWithAnotherVerifier(t *testing.T) {
	v, key := rfcKeys(t)
	stale, _ := passwordKeys(t, rfcPassword, []byte("another salt"), 4096)
	c := newTestClient(t, key, v, nil)
	first, _, err := c.Step(request(authSASL, offerPlain))
	if err != nil {
		t.Fatal(err)
	}
	if reply, _, err := c.Step(challenge(stale, asIs)(first)); !errors.Is(err, ErrStaleVerifier) || reply != nil {
		t.Errorf("reply %q, error %v", reply, err)
	}
}

func TestClientSaysWhetherItBinds(t *testing.T) {
	v, key := rfcKeys(t)
	hash := []byte("the hash of a certificate, 32 by")
	for name, c := range map[string]struct {
		binding                  []byte
		offer, mechanism, header string
		want                     error
	}{
		"no binding, plain offered":   {nil, offerPlain, MechanismPlain, "n,,", nil},
		"no binding, PLUS offered":    {nil, offerBoth, MechanismPlain, "n,,", nil},
		"binding, PLUS offered":       {hash, offerBoth, MechanismPlus, "p=tls-server-end-point,,", nil},
		"binding, PLUS taken away":    {hash, offerPlain, "", "", ErrNoChannelBinding},
		"binding, nothing of SCRAM's": {hash, "OAUTHBEARER\x00\x00", "", "", ErrNoChannelBinding},
	} {
		t.Run(name, func(t *testing.T) {
			client := newTestClient(t, key, v, c.binding)
			reply, _, err := client.Step(request(authSASL, c.offer))
			if !errors.Is(err, c.want) {
				t.Fatalf("error %v; want %v", err, c.want)
			}
			if c.want != nil {
				return
			}
			mechanism, rest, err := cutMechanism(reply)
			if err != nil || mechanism != c.mechanism {
				t.Fatalf("mechanism %q, error %v", mechanism, err)
			}
			data, err := cutInitialData(rest)
			if err != nil {
				t.Fatal(err)
			}
			f, err := parseClientFirst(data, c.binding != nil)
			if err != nil || string(f.header) != c.header {
				t.Fatalf("header %q, error %v", f.header, err)
			}
			if raw, err := base64.StdEncoding.DecodeString(string(f.nonce)); err != nil || len(raw) != nonceLength {
				t.Errorf("nonce %q: %v", f.nonce, err)
			}
			final, _, err := client.Step(challenge(v, asIs)(reply))
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := parseClientFinal(final)
			if want := base64.StdEncoding.EncodeToString([]byte(c.header + string(c.binding))); err != nil || string(parsed.binding) != want {
				t.Errorf("binding %q, error %v; want %q", parsed.binding, err, want)
			}
		})
	}
}

func TestClientIsNotMadeFromPartsThatDoNotFit(t *testing.T) {
	v, key := rfcKeys(t)
	other, _ := passwordKeys(t, "other", v.Salt, v.Iterations)
	for name, c := range map[string]struct {
		key     ClientKey
		v       Verifier
		binding []byte
		want    error
	}{
		"no key":               {ClientKey{}, v, nil, ErrKeyMismatch},
		"key of another":       {key, other, nil, ErrKeyMismatch},
		"no verifier":          {key, Verifier{}, nil, ErrInvalidVerifier},
		"empty hash":           {key, v, []byte{}, ErrNoBindingHash},
		"hash of 65 bytes":     {key, v, make([]byte, 65), ErrNoBindingHash},
		"hash of a whole cert": {key, v, make([]byte, 1500), ErrNoBindingHash},
	} {
		if got, err := NewClient(c.key, c.v, c.binding); !errors.Is(err, c.want) || got != nil {
			t.Errorf("%s: error %v; want %v", name, err, c.want)
		}
	}
}

func TestClientGivesUpWithoutRandomness(t *testing.T) {
	v, key := rfcKeys(t)
	c := newTestClient(t, key, v, nil)
	c.random = strings.NewReader("too short")
	if reply, done, err := c.Step(request(authSASL, offerPlain)); err == nil || done || reply != nil {
		t.Errorf("reply %q, done %v, error %v", reply, done, err)
	}
}

// FuzzClient lets a server say anything, three times: the login is never done.
func FuzzClient(f *testing.F) {
	v, key := rfcKeys(f)
	f.Add(request(authSASL, offerBoth), request(authSASLContinue, rfcServerFirst), request(authSASLFinal, rfcServerFinal))
	zeroNonce := strings.Repeat("A", 24)
	f.Add(request(authSASL, offerPlain), request(authSASLContinue, string(appendServerFirst(nil, []byte(zeroNonce+"x"), v))), request(authOK, ""))
	f.Add(request(authOK, ""), request(3, ""), request(5, "abcd"))
	f.Fuzz(func(t *testing.T, a, b, d []byte) {
		c := newTestClient(t, key, v, nil)
		c.random = fill(0)
		for _, body := range [][]byte{a, b, d, appendAuthRequest(nil, authOK)} {
			if _, done, _ := c.Step(body); done {
				t.Fatalf("login done with %q, %q, %q", a, b, d)
			}
		}
	})
}
