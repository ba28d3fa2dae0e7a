package scram

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func newTestServer(t testing.TB, v Verifier) *Server {
	t.Helper()
	s, err := NewServer(v)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start runs an exchange up to the server's challenge.
func start(t testing.TB, s *Server, clientFirst string) (serverFirst string) {
	t.Helper()
	reply, done, err := s.Step(initialBody(MechanismPlain, clientFirst))
	if err != nil || done {
		t.Fatalf("client-first-message %q: done %v, error %v", clientFirst, done, err)
	}
	return text(t, reply, authSASLContinue)
}

func TestServerOffersNoChannelBinding(t *testing.T) {
	v, _ := rfcKeys(t)
	if got := text(t, newTestServer(t, v).Offer(), authSASL); got != offerPlain {
		t.Errorf("offers %q", got)
	}
}

func TestServerAnswersTheExchangeOfRFC7677(t *testing.T) {
	v, want := rfcKeys(t)
	s := newTestServer(t, v)
	start(t, s, rfcClientFirst)
	// The server of the example chose this nonce; everything else of its first message follows from the verifier.
	s.nonce = []byte("rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0")
	s.first = appendServerFirst(nil, s.nonce, v)
	if string(s.first) != rfcServerFirst {
		t.Fatalf("server-first-message is %q", s.first)
	}
	reply, done, err := s.Step([]byte(rfcClientFinal))
	if err != nil || !done {
		t.Fatalf("done %v, error %v", done, err)
	}
	if got := text(t, reply, authSASLFinal); got != rfcServerFinal {
		t.Errorf("server-final-message is %q", got)
	}
	key, ok := s.ClientKey()
	if !ok || *key.bytes() != *want.bytes() {
		t.Errorf("the client key was not recovered")
	}
	s.Wipe()
	if _, ok := s.ClientKey(); ok || !key.Matches(v) {
		t.Errorf("after Wipe the server has a key, or the caller's is gone")
	}
}

func TestServerLetsInWhoKnowsThePasswordAndNobodyElse(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		password := rapid.StringMatching(`[ -~]{0,20}`).Draw(rt, "password")
		guess := rapid.OneOf(rapid.Just(password), rapid.StringMatching(`[ -~]{0,20}`)).Draw(rt, "guess")
		salt := rapid.SliceOfN(rapid.Byte(), 1, MaxSaltLength).Draw(rt, "salt")
		iterations := rapid.IntRange(1, 50).Draw(rt, "iterations")
		header := rapid.SampledFrom([]string{"n,,", "y,,"}).Draw(rt, "header")
		nonce := rapid.StringMatching(`[!-+\--~]{1,60}`).Draw(rt, "nonce")
		v, key := passwordKeys(t, password, salt, iterations)
		s := newTestServer(t, v)
		c := passwordClient{password: guess, header: header, nonce: nonce}
		final := c.final(t, start(t, s, c.first()))
		reply, done, err := s.Step([]byte(final))
		if guess != password {
			if !errors.Is(err, ErrAuthenticationFailed) || done || reply != nil {
				rt.Fatalf("password %q, guess %q: done %v, error %v", password, guess, done, err)
			}
			if _, ok := s.ClientKey(); ok {
				rt.Fatalf("a key without a proof")
			}
			return
		}
		if err != nil || !done {
			rt.Fatalf("right password: done %v, error %v", done, err)
		}
		if got := text(t, reply, authSASLFinal); got != "v="+base64.StdEncoding.EncodeToString(c.serverSignature) {
			rt.Fatalf("server-final-message is %q", got)
		}
		if got, ok := s.ClientKey(); !ok || *got.bytes() != *key.bytes() {
			rt.Fatalf("the client key was not recovered")
		}
	})
}

func TestServerAsksForAMissingInitialResponse(t *testing.T) {
	v, _ := rfcKeys(t)
	s := newTestServer(t, v)
	reply, done, err := s.Step([]byte("SCRAM-SHA-256\x00\xff\xff\xff\xff"))
	if err != nil || done || text(t, reply, authSASLContinue) != "" {
		t.Fatalf("reply %q, done %v, error %v; want an empty challenge", reply, done, err)
	}
	c := passwordClient{password: rfcPassword, header: "n,,", nonce: "abc"}
	reply, _, err = s.Step([]byte(c.first()))
	if err != nil {
		t.Fatal(err)
	}
	if _, done, err := s.Step([]byte(c.final(t, text(t, reply, authSASLContinue)))); err != nil || !done {
		t.Fatalf("done %v, error %v", done, err)
	}
}

func TestServerNoncesAreFreshAndExtendTheClients(t *testing.T) {
	v, _ := rfcKeys(t)
	seen := map[string]bool{}
	for range 100 {
		f, err := parseServerFirst([]byte(start(t, newTestServer(t, v), rfcClientFirst)))
		if err != nil {
			t.Fatal(err)
		}
		own, ok := strings.CutPrefix(string(f.nonce), "rOprNGfwEbeRWgbNEkqO")
		if raw, err := base64.StdEncoding.DecodeString(own); !ok || err != nil || len(raw) != nonceLength || seen[own] {
			t.Fatalf("nonce %q: fresh %v, error %v", f.nonce, !seen[own], err)
		}
		seen[own] = true
	}
}

func TestServerRefusesAFirstMessageWithPostgreSQLsWords(t *testing.T) {
	v, _ := rfcKeys(t)
	plain := func(s string) []byte { return initialBody(MechanismPlain, s) }
	for name, c := range map[string]struct {
		body                []byte
		sqlstate, say, more string
	}{
		"empty body":              {nil, "08P01", "invalid string in message", ""},
		"mechanism does not end":  {[]byte(MechanismPlain), "08P01", "invalid string in message", ""},
		"no length":               {[]byte(MechanismPlain + "\x00\x00\x00"), "08P01", "insufficient data left in message", ""},
		"length too great":        {[]byte(MechanismPlain + "\x00\x00\x00\x00\x20n,,n=,r=a"), "08P01", "insufficient data left in message", ""},
		"length too small":        {[]byte(MechanismPlain + "\x00\x00\x00\x00\x05n,,n=,r=a"), "08P01", "invalid message format", ""},
		"length of 2 GiB":         {[]byte(MechanismPlain + "\x00\x7f\xff\xff\xffn,,n=,r=a"), "08P01", "insufficient data left in message", ""},
		"length of -2":            {[]byte(MechanismPlain + "\x00\xff\xff\xff\xfen,,n=,r=a"), "08P01", "insufficient data left in message", ""},
		"length of -1 with data":  {[]byte(MechanismPlain + "\x00\xff\xff\xff\xffn,,n=,r=a"), "08P01", "invalid message format", ""},
		"least length":            {[]byte(MechanismPlain + "\x00\x80\x00\x00\x00"), "08P01", "insufficient data left in message", ""},
		"channel binding chosen":  {initialBody(MechanismPlus, "p=tls-server-end-point,,n=,r=a"), "08P01", "client selected an invalid SASL authentication mechanism", ""},
		"other mechanism":         {initialBody("PLAIN", "\x00u\x00p"), "08P01", "client selected an invalid SASL authentication mechanism", ""},
		"no mechanism":            {initialBody("", "n,,n=,r=a"), "08P01", "client selected an invalid SASL authentication mechanism", ""},
		"no data":                 {plain(""), "08P01", "malformed SCRAM message", "The message is empty."},
		"NUL inside":              {plain("n,,n=,r=a\x00b"), "08P01", "malformed SCRAM message", "Message length does not match input length."},
		"NUL at the end":          {plain("n,,n=,r=a\x00"), "08P01", "malformed SCRAM message", "Message length does not match input length."},
		"binding in the message":  {plain("p=tls-server-end-point,,n=,r=a"), "08P01", "malformed SCRAM message", "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data."},
		"unknown flag":            {plain("x,,n=,r=a"), "08P01", "malformed SCRAM message", "Unexpected channel-binding flag \"'x'\"."},
		"unprintable flag":        {plain("\x01,,n=,r=a"), "08P01", "malformed SCRAM message", "Unexpected channel-binding flag \"0x01\"."},
		"flag only":               {plain("n"), "08P01", "malformed SCRAM message", "Comma expected, but found character \"0x00\"."},
		"no comma after the flag": {plain("yn=,r=a"), "08P01", "malformed SCRAM message", "Comma expected, but found character \"'n'\"."},
		"authorization identity":  {plain("n,a=admin,n=,r=a"), "0A000", "client uses authorization identity, but it is not supported", ""},
		"no second comma":         {plain("n,n=,r=a"), "08P01", "malformed SCRAM message", "Unexpected attribute \"'n'\" in client-first-message."},
		"header only":             {plain("n,"), "08P01", "malformed SCRAM message", "Unexpected attribute \"0x00\" in client-first-message."},
		"mandatory extension":     {plain("n,,m=x,n=,r=a"), "0A000", "client requires an unsupported SCRAM extension", ""},
		"no user name":            {plain("n,,r=a"), "08P01", "malformed SCRAM message", "Expected attribute \"n\" but found \"'r'\"."},
		"nothing after header":    {plain("n,,"), "08P01", "malformed SCRAM message", "Expected attribute \"n\" but found \"0x00\"."},
		"no equals sign":          {plain("n,,n,r=a"), "08P01", "malformed SCRAM message", "Expected character \"=\" for attribute \"n\"."},
		"no nonce":                {plain("n,,n=user"), "08P01", "malformed SCRAM message", "Expected attribute \"r\" but found \"0x00\"."},
		"nonce with a space":      {plain("n,,n=,r=a b"), "08P01", "non-printable characters in SCRAM nonce", ""},
		"nonce above ASCII":       {plain("n,,n=,r=\xc3\xa9"), "08P01", "non-printable characters in SCRAM nonce", ""},
		"extension without value": {plain("n,,n=,r=a,x"), "08P01", "malformed SCRAM message", "Expected character \"=\" for attribute \"x\"."},
		"extension of a digit":    {plain("n,,n=,r=a,1=x"), "08P01", "malformed SCRAM message", "Attribute expected, but found invalid character \"'1'\"."},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, v)
			_, done, err := s.Step(c.body)
			assertExchangeError(t, err, c.sqlstate, c.say, c.more)
			if done {
				t.Error("done")
			}
			if _, _, err := s.Step(plain("n,,n=,r=a")); !errors.Is(err, ErrOutOfOrder) {
				t.Errorf("the exchange goes on after its end: %v", err)
			}
		})
	}
}

func TestServerRefusesAFinalMessageWithPostgreSQLsWords(t *testing.T) {
	v, _ := rfcKeys(t)
	for name, c := range map[string]struct {
		bend      func(final string) string
		say, more string
	}{
		"empty":                 {func(string) string { return "" }, "malformed SCRAM message", "The message is empty."},
		"NUL":                   {func(f string) string { return f + "\x00" }, "malformed SCRAM message", "Message length does not match input length."},
		"no binding":            {func(f string) string { return strings.TrimPrefix(f, "c=biws,") }, "malformed SCRAM message", "Expected attribute \"c\" but found \"'r'\"."},
		"binding of another":    {func(f string) string { return strings.Replace(f, "biws", "eSws", 1) }, "unexpected SCRAM channel-binding attribute in client-final-message", ""},
		"binding empty":         {func(f string) string { return strings.Replace(f, "biws", "", 1) }, "unexpected SCRAM channel-binding attribute in client-final-message", ""},
		"nonce of another":      {func(f string) string { return strings.Replace(f, "r=abc", "r=abd", 1) }, "invalid SCRAM response", "Nonce does not match."},
		"nonce cut":             {func(f string) string { return strings.Replace(f, "r=abc", "r=", 1) }, "invalid SCRAM response", "Nonce does not match."},
		"only its own nonce":    {func(string) string { return "c=biws,r=abc,p=" + strings.Repeat("A", 43) + "=" }, "invalid SCRAM response", "Nonce does not match."},
		"nonce empty":           {func(string) string { return "c=biws,r=,p=" + strings.Repeat("A", 43) + "=" }, "invalid SCRAM response", "Nonce does not match."},
		"no proof":              {func(f string) string { return f[:strings.LastIndex(f, ",p=")] }, "malformed SCRAM message", "Attribute expected, but found end of string."},
		"proof empty":           {func(f string) string { return f[:strings.LastIndex(f, ",p=")] + ",p=" }, "malformed SCRAM message", "Malformed proof in client-final-message."},
		"proof short":           {func(f string) string { return f[:len(f)-4] }, "malformed SCRAM message", "Malformed proof in client-final-message."},
		"proof unpadded":        {func(f string) string { return f[:len(f)-1] }, "malformed SCRAM message", "Malformed proof in client-final-message."},
		"proof long":            {func(f string) string { return f[:len(f)-1] + "AAAAA" }, "malformed SCRAM message", "Malformed proof in client-final-message."},
		"proof of 900 bytes":    {func(f string) string { return f[:len(f)-1] + strings.Repeat("A", 900) }, "malformed SCRAM message", "Malformed proof in client-final-message."},
		"proof with a line end": {func(f string) string { return f[:len(f)-3] + "\n" + f[len(f)-2:] }, "malformed SCRAM message", "Malformed proof in client-final-message."},
		"something behind":      {func(f string) string { return f + ",x=1" }, "malformed SCRAM message", "Garbage found at the end of client-final-message."},
		"two proofs":            {func(f string) string { return f + f[strings.LastIndex(f, ",p="):] }, "malformed SCRAM message", "Garbage found at the end of client-final-message."},
		"extension of a digit":  {func(f string) string { return strings.Replace(f, ",p=", ",1=x,p=", 1) }, "malformed SCRAM message", "Attribute expected, but found invalid character \"'1'\"."},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t, v)
			client := passwordClient{password: rfcPassword, header: "n,,", nonce: "abc"}
			final := client.final(t, start(t, s, client.first()))
			reply, done, err := s.Step([]byte(c.bend(final)))
			assertExchangeError(t, err, "08P01", c.say, c.more)
			if done || reply != nil {
				t.Errorf("reply %q, done %v", reply, done)
			}
			if _, _, err := s.Step([]byte(final)); !errors.Is(err, ErrOutOfOrder) {
				t.Errorf("the right answer was taken after a wrong one: %v", err)
			}
		})
	}
}

func assertExchangeError(t *testing.T, err error, sqlstate, message, detail string) {
	t.Helper()
	var e *ExchangeError
	if !errors.As(err, &e) {
		t.Fatalf("error %v; want an ExchangeError", err)
	}
	if e.SQLState != sqlstate || e.Message != message || e.Detail != detail {
		t.Errorf("got %s %q %q; want %s %q %q", e.SQLState, e.Message, e.Detail, sqlstate, message, detail)
	}
	if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), message) {
		t.Errorf("error %q", err)
	}
}

func TestServerTakesExtensionsIntoTheProofAsPostgreSQLDoes(t *testing.T) {
	v, _ := rfcKeys(t)
	s := newTestServer(t, v)
	c := passwordClient{password: rfcPassword, header: "n,,", nonce: "abc,x=first"}
	challenge := start(t, s, c.first())
	f, err := parseServerFirst([]byte(challenge))
	if err != nil {
		t.Fatal(err)
	}
	_, key := rfcKeys(t)
	without := "c=biws,r=" + string(f.nonce) + ",e=last"
	proof := mask(key, v, []byte(c.bare()), []byte(challenge), []byte(without))
	if _, done, err := s.Step([]byte(without + ",p=" + base64.StdEncoding.EncodeToString(proof[:]))); err != nil || !done {
		t.Errorf("done %v, error %v", done, err)
	}
}

func TestServerBoundsEveryMessage(t *testing.T) {
	v, _ := rfcKeys(t)
	frame := len(initialBody(MechanismPlain, "n,,n=,r="))
	c := passwordClient{password: rfcPassword, header: "n,,"}
	// The longest client-first message that PostgreSQL reads leaves no room to repeat its nonce in the final one: the reply is bounded too.
	c.nonce = strings.Repeat("x", MaxClientMessage-frame)
	challenge := start(t, newTestServer(t, v), c.first())
	if len(challenge)+4 > MaxServerMessage {
		t.Errorf("challenge of %d bytes is above the bound that our own client accepts", len(challenge))
	}
	s := newTestServer(t, v)
	c.nonce += "x"
	if _, _, err := s.Step(initialBody(MechanismPlain, c.first())); !errors.Is(err, ErrTooLong) || !errors.Is(err, ErrAuthenticationFailed) {
		t.Errorf("one byte more: %v; want ErrTooLong", err)
	}
	s = newTestServer(t, v)
	start(t, s, rfcClientFirst)
	if _, _, err := s.Step(make([]byte, MaxClientMessage+1)); !errors.Is(err, ErrTooLong) {
		t.Errorf("final message: %v; want ErrTooLong", err)
	}
}

func TestServerGivesUpWithoutRandomness(t *testing.T) {
	v, _ := rfcKeys(t)
	s := newTestServer(t, v)
	s.random = strings.NewReader("too short")
	if reply, done, err := s.Step(initialBody(MechanismPlain, rfcClientFirst)); err == nil || done || reply != nil {
		t.Errorf("reply %q, done %v, error %v", reply, done, err)
	}
}

// FuzzServer sends two messages of any kind. Nobody gets in without the password, whatever they say.
func FuzzServer(f *testing.F) {
	v, _ := rfcKeys(f)
	f.Add(initialBody(MechanismPlain, rfcClientFirst), []byte(rfcClientFinal))
	f.Add([]byte("SCRAM-SHA-256\x00\xff\xff\xff\xff"), []byte(rfcClientFirst))
	f.Add(initialBody(MechanismPlain, "y,,n=,r=a,x=1"), []byte("c=eSws,r=a,p="))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		s := newTestServer(t, v)
		s.random = fill(0)
		for _, body := range [][]byte{a, b, b} {
			reply, done, err := s.Step(body)
			if done {
				t.Fatalf("let in with %q, %q", a, b)
			}
			if (err == nil) == (reply == nil) || len(reply) > MaxServerMessage {
				t.Fatalf("reply of %d bytes, error %v", len(reply), err)
			}
		}
	})
}
