package scram

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

func TestClientFirstIsTakenApartWhereProofAndBindingNeedIt(t *testing.T) {
	for name, c := range map[string]struct {
		message             string
		plus                bool
		flag                byte
		header, bare, nonce string
	}{
		"libpq":            {"n,,n=,r=abc", false, 'n', "n,,", "n=,r=abc", "abc"},
		"RFC 7677":         {rfcClientFirst, false, 'n', "n,,", "n=user,r=rOprNGfwEbeRWgbNEkqO", "rOprNGfwEbeRWgbNEkqO"},
		"not offered":      {"y,,n=,r=abc", false, 'y', "y,,", "n=,r=abc", "abc"},
		"bound":            {"p=tls-server-end-point,,n=*,r=abc", true, 'p', "p=tls-server-end-point,,", "n=*,r=abc", "abc"},
		"extensions":       {"n,,n=,r=abc,x=1,Y=", false, 'n', "n,,", "n=,r=abc,x=1,Y=", "abc"},
		"empty nonce":      {"n,,n=,r=", false, 'n', "n,,", "n=,r=", ""},
		"comma at the end": {"n,,n=,r=abc,", false, 'n', "n,,", "n=,r=abc,", "abc"},
		"equals in values": {"n,,n=a=3Db,r=a=b=", false, 'n', "n,,", "n=a=3Db,r=a=b=", "a=b="},
	} {
		f, err := parseClientFirst([]byte(c.message), c.plus)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if f.flag != c.flag || string(f.header) != c.header || string(f.bare) != c.bare || string(f.nonce) != c.nonce {
			t.Errorf("%s: flag %c, header %q, bare %q, nonce %q", name, f.flag, f.header, f.bare, f.nonce)
		}
	}
}

func TestClientFirstForPLUSMustBind(t *testing.T) {
	for message, want := range map[string]string{
		"n,,n=,r=a":                     "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
		"y,,n=,r=a":                     "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
		"p":                             "Expected character \"=\" for attribute \"p\".",
		"p,,n=,r=a":                     "Expected character \"=\" for attribute \"p\".",
		"p=tls-unique,,n=,r=a":          "",
		"p=,,n=,r=a":                    "",
		"p=tls-server-end-pointX,,n=,r": "",
		"p=tls-server-end-point":        "Unexpected attribute \"0x00\" in client-first-message.",
	} {
		_, err := parseClientFirst([]byte(message), true)
		var e *ExchangeError
		if !errors.As(err, &e) || e.Detail != want || e.SQLState != "08P01" {
			t.Errorf("%q: %v; want %q", message, err, want)
		}
	}
}

func TestIterationsAreAPlainPositiveNumber(t *testing.T) {
	for s, want := range map[string]int{"1": 1, "4096": 4096, "2147483647": MaxIterations} {
		if got, ok := parseIterations([]byte(s)); !ok || got != want {
			t.Errorf("%q: %d, %v", s, got, ok)
		}
	}
	for _, s := range []string{"", "0", "00", "01", "-1", "+1", " 1", "1 ", "1e3", "0x1", "١", "2147483648", "4294967297", "18446744073709551617", strings.Repeat("9", 1000)} {
		if got, ok := parseIterations([]byte(s)); ok {
			t.Errorf("%q is read as %d", s, got)
		}
	}
}

func TestServerFinalHoldsOneSignature(t *testing.T) {
	signature, err := parseServerFinal([]byte(rfcServerFinal))
	if err != nil || "v="+encodeKey(signature) != rfcServerFinal {
		t.Fatalf("signature %s, error %v", encodeKey(signature), err)
	}
	for _, s := range []string{"", "v", "v=", "v=AAAA", "x=1", "v=" + strings.Repeat("A", 44), rfcServerFinal + ",x=1", rfcServerFinal + "\x00", " " + rfcServerFinal} {
		if _, err := parseServerFinal([]byte(s)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v; want ErrMalformed", s, err)
		}
	}
}

func TestMechanismsRoundTrip(t *testing.T) {
	for _, names := range [][]string{nil, {MechanismPlain}, {MechanismPlus, MechanismPlain}, {"OAUTHBEARER"}} {
		got, err := parseMechanisms(appendMechanisms(nil, names...))
		if err != nil || strings.Join(got, "|") != strings.Join(names, "|") {
			t.Errorf("%q: %q, %v", names, got, err)
		}
	}
}

func FuzzMechanisms(f *testing.F) {
	for _, s := range []string{offerPlain, offerBoth, "", "\x00", "A", "A\x00", "\x00A\x00\x00", strings.Repeat("A\x00", 40) + "\x00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := parseMechanisms(b)
		if err != nil {
			return
		}
		if len(names) > maxMechanisms || !bytes.Equal(appendMechanisms(nil, names...), b) {
			t.Fatalf("%q is read as %q", b, names)
		}
	})
}

func FuzzInitialResponse(f *testing.F) {
	for _, s := range []string{
		string(initialBody(MechanismPlain, rfcClientFirst)), "SCRAM-SHA-256\x00\xff\xff\xff\xff", "\x00\x00\x00\x00\x00",
		"SCRAM-SHA-256\x00\x7f\xff\xff\xff", "SCRAM-SHA-256\x00\x80\x00\x00\x00", "x", "",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		mechanism, rest, err := cutMechanism(b)
		if err != nil {
			return
		}
		data, err := cutInitialData(rest)
		if err != nil {
			return
		}
		back := append([]byte(mechanism), "\x00\xff\xff\xff\xff"...)
		if data != nil {
			back = appendInitialResponse(nil, mechanism, data)
		}
		if !bytes.Equal(back, b) {
			t.Fatalf("%q is read as %q %q", b, mechanism, data)
		}
	})
}

func FuzzClientFirst(f *testing.F) {
	for _, s := range []string{rfcClientFirst, "y,,n=,r=a", "n,a=x,n=,r=a", "n,,m=1,n=,r=a", "n,,n=,r=a,", "n,,n=,r=a,x=,y=1", "n", "", ","} {
		f.Add([]byte(s), false)
		f.Add([]byte("p=tls-server-end-point"+strings.TrimLeft(s, "ny")), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, plus bool) {
		m, err := parseClientFirst(b, plus)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%q: error of another kind: %v", b, err)
			}
			return
		}
		if string(m.header)+string(m.bare) != string(b) || bytes.Count(m.header, []byte{','}) != 2 {
			t.Fatalf("%q is cut into %q and %q", b, m.header, m.bare)
		}
		if plus != (m.flag == 'p') || !isNonce(m.nonce) || !bytes.Contains(m.bare, append([]byte(",r="), m.nonce...)) {
			t.Fatalf("%q: plus %v, flag %c, nonce %q", b, plus, m.flag, m.nonce)
		}
	})
}

func FuzzServerFirst(f *testing.F) {
	for _, s := range []string{rfcServerFirst, "r=a,s=AA==,i=1", "r=a,s=AA==,i=2147483648", "m=x,r=a,s=AA==,i=1", "r=a,s=,i=1", "r=,s=AA==,i=1", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseServerFirst(b)
		if err != nil {
			return
		}
		back := appendServerFirst(nil, m.nonce, Verifier{Salt: m.salt, Iterations: m.iterations})
		if !bytes.Equal(bytes.TrimSuffix(b, []byte{','}), back) {
			t.Fatalf("%q is read as %q", b, back)
		}
	})
}

func FuzzClientFinal(f *testing.F) {
	for _, s := range []string{rfcClientFinal, "c=biws,r=a,x=1,p=" + strings.Repeat("A", 43) + "=", "c=,r=,p=", "c=biws,r=a,p", "c=biws,r=a,p=AAAA,p=AAAA", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseClientFinal(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("%q: error of another kind: %v", b, err)
			}
			return
		}
		head, tail, ok := strings.Cut(string(b), string(m.without))
		if !ok || head != "" || !strings.HasPrefix(tail, ",p=") || strings.Contains(tail[1:], ",p=") {
			t.Fatalf("%q: the proof covers %q", b, m.without)
		}
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(tail[3:], ","))
		if err != nil || !bytes.Equal(raw, m.proof[:]) {
			t.Fatalf("%q: proof %x, %v", b, m.proof, err)
		}
	})
}

func FuzzServerFinal(f *testing.F) {
	for _, s := range []string{rfcServerFinal, "e=invalid-proof", "v=", "v=" + strings.Repeat("A", 44), ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		signature, err := parseServerFinal(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrServerUnproven) {
				t.Fatalf("%q: error of another kind: %v", b, err)
			}
			return
		}
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(string(b[2:]), ","))
		if err != nil || !bytes.Equal(raw, signature[:]) {
			t.Fatalf("%q is read as %x", b, signature)
		}
	})
}
