package scram

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func newTestMock(t testing.TB, iterations int) *Mock {
	t.Helper()
	m, err := NewMock(iterations)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestUnknownRoleLooksLikeAWrongPassword(t *testing.T) {
	v, _ := rfcKeys(t)
	for name, s := range map[string]*Server{
		"known role":   newTestServer(t, v),
		"unknown role": newTestMock(t, v.Iterations).Server("nobody"),
	} {
		t.Run(name, func(t *testing.T) {
			if got := text(t, s.Offer(), authSASL); got != offerPlain {
				t.Errorf("offers %q", got)
			}
			c := passwordClient{password: "a guess", header: "n,,", nonce: "abc"}
			challenge := start(t, s, c.first())
			f, err := parseServerFirst([]byte(challenge))
			if err != nil {
				t.Fatal(err)
			}
			if len(f.salt) != len(v.Salt) || f.iterations != v.Iterations || len(f.nonce) != len("abc")+24 {
				t.Errorf("challenge %q has another form than that of a role of PostgreSQL's", challenge)
			}
			reply, done, err := s.Step([]byte(c.final(t, challenge)))
			if !errors.Is(err, ErrAuthenticationFailed) || err.Error() != ErrAuthenticationFailed.Error() || done || reply != nil {
				t.Errorf("reply %q, done %v, error %v", reply, done, err)
			}
		})
	}
}

func TestUnknownRoleFailsEvenWithTheRightProof(t *testing.T) {
	_, key := rfcKeys(t)
	s := newTestMock(t, 0).Server("nobody")
	// Give the fake verifier the stored key of a password that the client knows: the worst that could ever happen.
	real, _ := rfcKeys(t)
	s.verifier.StoredKey = real.StoredKey
	challenge := start(t, s, rfcClientFirst)
	without := "c=biws,r=" + string(s.nonce)
	proof := mask(key, s.verifier, s.bare, []byte(challenge), []byte(without))
	body := append([]byte(without+",p="), encodeKey(proof)...)
	if _, done, err := s.Step(body); !errors.Is(err, ErrAuthenticationFailed) || done {
		t.Errorf("done %v, error %v", done, err)
	}
	if _, ok := s.ClientKey(); ok {
		t.Errorf("a key came out")
	}
}

func TestMockShowsEachRoleOneSaltAndNoTwoRolesTheSame(t *testing.T) {
	m := newTestMock(t, 0)
	seen := map[string]string{}
	for _, role := range []string{"", "a", "b", "ab", "keycloak", "keycloak ", "Keycloak", strings.Repeat("x", 63)} {
		first, again := m.verifier(role), m.verifier(role)
		if !first.Equal(again) {
			t.Errorf("role %q shows two salts", role)
		}
		if other, ok := seen[string(first.Salt)]; ok {
			t.Errorf("roles %q and %q show the same salt", role, other)
		}
		seen[string(first.Salt)] = role
		if bytes.Equal(first.StoredKey, first.ServerKey) || bytes.HasPrefix(first.StoredKey, first.Salt) {
			t.Errorf("role %q: keys and salt are not independent", role)
		}
		if err := first.Validate(); err != nil {
			t.Errorf("role %q: %v", role, err)
		}
	}
	if other := newTestMock(t, 0); bytes.Equal(other.verifier("a").Salt, m.verifier("a").Salt) {
		t.Errorf("two processes show the same salt: it does not depend on a secret")
	}
}

func TestMockIterationsAreThoseOfTheRealVerifiers(t *testing.T) {
	for given, want := range map[int]int{0: 4096, 1: 1, 10000: 10000, MaxIterations: MaxIterations} {
		if got := newTestMock(t, given).verifier("a").Iterations; got != want {
			t.Errorf("%d: shows %d; want %d", given, got, want)
		}
	}
	for _, bad := range []int{-1, MaxIterations + 1} {
		if _, err := NewMock(bad); !errors.Is(err, ErrInvalidVerifier) {
			t.Errorf("%d: %v; want ErrInvalidVerifier", bad, err)
		}
	}
}
