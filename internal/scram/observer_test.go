package scram

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// step is one relayed message.
type step struct {
	fromServer bool
	body       []byte
}

func server(body []byte) step { return step{true, body} }
func client(body []byte) step { return step{false, body} }

const offerPlain, offerBoth = "SCRAM-SHA-256\x00\x00", "SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00"

func rfcExchange() []step {
	return []step{
		server(request(authSASL, offerPlain)),
		client(initialBody(MechanismPlain, rfcClientFirst)),
		server(request(authSASLContinue, rfcServerFirst)),
		client([]byte(rfcClientFinal)),
		server(request(authSASLFinal, rfcServerFinal)),
		server(request(authOK, "")),
	}
}

// observe feeds an observer, overwriting each message afterwards as a relay that reuses its buffer does.
func observe(steps []step) *Observer {
	o := new(Observer)
	for _, s := range steps {
		body := append([]byte(nil), s.body...)
		if s.fromServer {
			o.Server(body)
		} else {
			o.Client(body)
		}
		for i := range body {
			body[i] = 0xff
		}
	}
	return o
}

func observeRFC(t testing.TB) *Observer {
	t.Helper()
	o := observe(rfcExchange())
	if !o.Complete() {
		t.Fatalf("the exchange of RFC 7677 is not complete: state %d, %v", o.state, o.why)
	}
	return o
}

func TestObserverRecoversTheKeyOfRFC7677(t *testing.T) {
	v, want := rfcKeys(t)
	got, err := observeRFC(t).ClientKey(v)
	if err != nil {
		t.Fatal(err)
	}
	if *got.bytes() != *want.bytes() {
		t.Errorf("another key was recovered")
	}
}

func TestObserverFollowsEveryHeaderThatClientsSend(t *testing.T) {
	v, want := rfcKeys(t)
	binding := []byte("the hash of a certificate, 32 by")
	for name, c := range map[string]passwordClient{
		"no channel binding":          {header: "n,,"},
		"binding not offered":         {header: "y,,"},
		"bound to the certificate":    {header: "p=tls-server-end-point,,", binding: binding},
		"with optional extensions":    {header: "n,,", nonce: "nonce,x=1,y=2"},
		"with a user name in bare":    {header: "y,,"},
		"nonce of odd but legal text": {header: "n,,", nonce: "!#$%&'()*+-./:;<=>?@[]^_`{|}~"},
	} {
		t.Run(name, func(t *testing.T) {
			c.password = rfcPassword
			if c.nonce == "" {
				c.nonce = "clientnonce"
			}
			nonce, _, _ := strings.Cut(c.nonce, ",")
			first := string(appendServerFirst(nil, []byte(nonce+"server"), v))
			mechanism := MechanismPlain
			if c.binding != nil {
				mechanism = MechanismPlus
			}
			final := c.final(t, first)
			o := observe([]step{
				server(request(authSASL, offerBoth)),
				client(initialBody(mechanism, c.first())),
				server(request(authSASLContinue, first)),
				client([]byte(final)),
				server(request(authSASLFinal, "v="+base64.StdEncoding.EncodeToString(c.serverSignature))),
				server(request(authOK, "")),
			})
			got, err := o.ClientKey(v)
			if err != nil {
				t.Fatal(err)
			}
			if *got.bytes() != *want.bytes() {
				t.Errorf("another key was recovered")
			}
		})
	}
}

func TestObserverFollowsAClientWithoutInitialResponse(t *testing.T) {
	v, _ := rfcKeys(t)
	steps := rfcExchange()
	steps = append([]step{
		steps[0],
		client([]byte("SCRAM-SHA-256\x00\xff\xff\xff\xff")),
		server(request(authSASLContinue, "")),
		client([]byte(rfcClientFirst)),
	}, steps[2:]...)
	if _, err := observe(steps).ClientKey(v); err != nil {
		t.Fatal(err)
	}
}

func TestObserverYieldsNoKeyBeforeAuthenticationOk(t *testing.T) {
	v, _ := rfcKeys(t)
	steps := rfcExchange()
	for n := range steps {
		o := observe(steps[:n])
		if o.Complete() {
			t.Errorf("complete after %d of %d messages", n, len(steps))
		}
		if _, err := o.ClientKey(v); !errors.Is(err, ErrIncomplete) {
			t.Errorf("after %d messages: %v; want ErrIncomplete", n, err)
		}
	}
}

func TestObserverTellsWhyThereIsNoKey(t *testing.T) {
	good, _ := rfcKeys(t)
	bend := func(i int, s step) []step {
		steps := rfcExchange()
		steps[i] = s
		return steps
	}
	stale, _ := passwordKeys(t, rfcPassword, []byte("another salt"), 4096)
	recounted, _ := passwordKeys(t, rfcPassword, good.Salt, 4097)
	otherPassword, _ := passwordKeys(t, "other", good.Salt, good.Iterations)
	otherProof := good.Clone()
	otherProof.StoredKey[0] ^= 1
	long := strings.Repeat("x", MaxClientMessage+1)
	for name, c := range map[string]struct {
		steps    []step
		verifier Verifier
		want     error
	}{
		"salt was changed":                {rfcExchange(), stale, ErrStaleVerifier},
		"iterations were changed":         {rfcExchange(), recounted, ErrStaleVerifier},
		"same salt, other password":       {rfcExchange(), otherPassword, ErrServerUnproven},
		"stored key of another":           {rfcExchange(), otherProof, ErrKeyMismatch},
		"trust":                           {[]step{server(request(authOK, ""))}, good, ErrNotSCRAM},
		"cleartext password":              {[]step{server(request(3, "")), client([]byte("secret\x00")), server(request(authOK, ""))}, good, ErrNotSCRAM},
		"md5":                             {[]step{server(request(5, "salt")), client([]byte("md5...\x00")), server(request(authOK, ""))}, good, ErrNotSCRAM},
		"GSSAPI":                          {[]step{server(request(7, ""))}, good, ErrNotSCRAM},
		"only OAUTHBEARER offered":        {bend(0, server(request(authSASL, "OAUTHBEARER\x00\x00"))), good, ErrNotSCRAM},
		"client chose OAUTHBEARER":        {bend(1, client(initialBody("OAUTHBEARER", "n,,\x01auth=Bearer x\x01\x01"))), good, ErrNotSCRAM},
		"mechanism list does not end":     {bend(0, server(request(authSASL, "SCRAM-SHA-256"))), good, ErrMalformed},
		"bytes behind the list":           {bend(0, server(request(authSASL, offerPlain+"x"))), good, ErrMalformed},
		"a thousand mechanisms":           {bend(0, server(request(authSASL, strings.Repeat("A\x00", 1000)+"\x00"))), good, ErrTooLong},
		"request without a code":          {bend(0, server([]byte{0, 0, 10})), good, ErrMalformed},
		"empty request":                   {bend(2, server(nil)), good, ErrMalformed},
		"server message too long":         {bend(2, server(request(authSASLContinue, strings.Repeat("x", MaxServerMessage)))), good, ErrTooLong},
		"client message too long":         {bend(1, client([]byte(long))), good, ErrTooLong},
		"client-first without a header":   {bend(1, client(initialBody(MechanismPlain, "r=abc"))), good, ErrMalformed},
		"length lies":                     {bend(1, client([]byte("SCRAM-SHA-256\x00\x7f\xff\xff\xffn,,n=,r=a"))), good, ErrMalformed},
		"server nonce of another":         {bend(2, server(request(authSASLContinue, strings.Replace(rfcServerFirst, "r=r", "r=R", 1)))), good, ErrOutOfOrder},
		"client answers another nonce":    {bend(3, client([]byte(strings.Replace(rfcClientFinal, "r=r", "r=R", 1)))), good, ErrOutOfOrder},
		"proof too short":                 {bend(3, client([]byte("c=biws,r=x,p=AAAA"))), good, ErrMalformed},
		"server reports an error":         {bend(4, server(request(authSASLFinal, "e=invalid-proof"))), good, ErrServerUnproven},
		"server signature of another":     {bend(4, server(request(authSASLFinal, "v="+strings.Repeat("A", 43)+"="))), good, ErrServerUnproven},
		"final skipped":                   {bend(4, server(request(authOK, ""))), good, ErrOutOfOrder},
		"two offers":                      {append(rfcExchange()[:1], rfcExchange()...), good, ErrOutOfOrder},
		"client speaks first":             {append([]step{client([]byte("x"))}, rfcExchange()...), good, ErrOutOfOrder},
		"message after the end":           {append(rfcExchange(), client([]byte("x"))), good, ErrOutOfOrder},
		"second exchange on the same one": {append(rfcExchange(), rfcExchange()...), good, ErrOutOfOrder},
	} {
		t.Run(name, func(t *testing.T) {
			o := observe(c.steps)
			if key, err := o.ClientKey(c.verifier); !errors.Is(err, c.want) || key.held != nil {
				t.Errorf("got error %v; want %v", err, c.want)
			}
		})
	}
}

func TestObserverCanBeAskedAgainWithAFreshVerifier(t *testing.T) {
	v, _ := rfcKeys(t)
	stale, _ := passwordKeys(t, rfcPassword, []byte("another salt"), 4096)
	o := observeRFC(t)
	if _, err := o.ClientKey(stale); !errors.Is(err, ErrStaleVerifier) {
		t.Fatalf("stale verifier: %v", err)
	}
	if _, err := o.ClientKey(v); err != nil {
		t.Fatalf("fresh verifier: %v", err)
	}
}

func TestWipedObserverHasForgottenTheExchangeAndStartsAnew(t *testing.T) {
	v, _ := rfcKeys(t)
	o := observeRFC(t)
	bare, first, without := o.bare, o.first, o.without
	o.Wipe()
	for _, b := range [][]byte{bare, first, without, o.proof[:]} {
		if strings.Trim(string(b), "\x00") != "" {
			t.Errorf("bytes of the exchange are still there")
		}
	}
	if _, err := o.ClientKey(v); !errors.Is(err, ErrIncomplete) {
		t.Errorf("a key after Wipe: %v", err)
	}
	for _, s := range rfcExchange() {
		if s.fromServer {
			o.Server(s.body)
		} else {
			o.Client(s.body)
		}
	}
	if _, err := o.ClientKey(v); err != nil {
		t.Errorf("a new exchange on a wiped observer: %v", err)
	}
}

// FuzzObserver feeds any sequence of messages: a first byte with the direction, two bytes of length, the body. It must never panic, never
// grow, and yield no key but the real one.
func FuzzObserver(f *testing.F) {
	v, want := rfcKeys(f)
	encode := func(steps []step) (b []byte) {
		for _, s := range steps {
			dir := byte(0)
			if s.fromServer {
				dir = 1
			}
			b = append(b, dir, byte(len(s.body)>>8), byte(len(s.body)))
			b = append(b, s.body...)
		}
		return b
	}
	f.Add(encode(rfcExchange()))
	f.Add(encode(rfcExchange()[:3]))
	f.Add(encode([]step{server(request(authSASL, offerBoth)), client(initialBody(MechanismPlus, "p=tls-server-end-point,,n=,r=a"))}))
	f.Fuzz(func(t *testing.T, b []byte) {
		o := new(Observer)
		for len(b) >= 3 {
			n := min(int(b[1])<<8|int(b[2]), len(b)-3)
			if body := b[3 : 3+n]; b[0]&1 == 1 {
				o.Server(body)
			} else {
				o.Client(body)
			}
			b = b[3+n:]
		}
		if kept := len(o.bare) + len(o.first) + len(o.without) + len(o.nonce); kept > 3*MaxServerMessage {
			t.Fatalf("observer keeps %d bytes", kept)
		}
		if key, err := o.ClientKey(v); err == nil && *key.bytes() != *want.bytes() {
			t.Fatalf("a key was recovered that is not the role's")
		}
	})
}

func TestTheChallengeNamesSaltAndIterations(t *testing.T) {
	v, _ := rfcKeys(t)
	if _, ok := new(Observer).Challenge(); ok {
		t.Error("an exchange that was not seen has a challenge")
	}
	got, ok := observeRFC(t).Challenge()
	if !ok || got != v.Challenge() {
		t.Errorf("challenge %x, %v; the verifier's is %x", got, ok, v.Challenge())
	}
	other, another := v.Clone(), v.Clone()
	other.Iterations++
	another.Salt[0] ^= 1
	if got == other.Challenge() || got == another.Challenge() {
		t.Error("another verifier has the same challenge")
	}
}
