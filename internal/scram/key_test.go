package scram

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

// holder stands for any struct of another package that keeps key material.
type holder struct {
	Name     string
	Key      ClientKey
	Verifier Verifier
	Server   *Server
	Client   *Client
	Observer *Observer
	Mock     *Mock
	hidden   ClientKey
}

func TestNothingPrintsKeyMaterial(t *testing.T) {
	v, key := rfcKeys(t)
	server, err := NewServer(v)
	if err != nil {
		t.Fatal(err)
	}
	server.key = key
	client, err := NewClient(key, v, nil)
	if err != nil {
		t.Fatal(err)
	}
	observer := observeRFC(t)
	mock, err := NewMock(0)
	if err != nil {
		t.Fatal(err)
	}
	h := holder{Name: "holder", Key: key, Verifier: v, Server: server, Client: client, Observer: observer, Mock: mock, hidden: key}

	secrets := map[string][]byte{
		"client key": key.bytes()[:], "stored key": v.StoredKey, "server key": v.ServerKey,
		"proof": observer.proof[:], "mock secret": mock.secret[:],
	}
	var out bytes.Buffer
	values := []any{key, &key, v, &v, server, *server, client, *client, observer, *observer, mock, *mock, h, &h, []ClientKey{key}, map[string]Verifier{"a": v}}
	for _, x := range values { // not with %p and %w: for those fmt asks no method, and vet refuses them
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b"} {
			fmt.Fprintf(&out, verb+"\n", x)
		}
		fmt.Fprintln(&out, x)
		for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
			slog.New(handler).Info("message", "value", x)
		}
		if err := json.NewEncoder(&out).Encode(x); err != nil {
			t.Errorf("encode %T: %v", x, err)
		}
	}
	fmt.Fprintln(&out, key.String(), v.String(), fmt.Errorf("use %v: %w", key, ErrKeyMismatch))
	assertHoldsNone(t, out.String(), secrets)
}

// assertHoldsNone looks for the beginning of each secret in the ways that Go prints bytes.
func assertHoldsNone(t *testing.T, out string, secrets map[string][]byte) {
	t.Helper()
	for name, secret := range secrets {
		head := secret[:6]
		decimal := strings.Trim(fmt.Sprint(head), "[]")
		for form, s := range map[string]string{
			"raw": string(head), "hex": hex.EncodeToString(head), "HEX": strings.ToUpper(hex.EncodeToString(head)),
			"base64": base64.StdEncoding.EncodeToString(head), "decimal": decimal, "json": strings.ReplaceAll(decimal, " ", ","),
			"go": strings.Trim(strings.TrimPrefix(fmt.Sprintf("%#v", head), "[]byte"), "{}"), "quoted": strings.Trim(fmt.Sprintf("%q", head), `"`),
		} {
			if strings.Contains(out, s) {
				t.Errorf("the %s was printed (%s)", name, form)
			}
		}
	}
}

func TestWipeEndsEveryCopyOfAKeyButNoClone(t *testing.T) {
	v, key := rfcKeys(t)
	shared, clone := key, key.Clone()
	key.Wipe()
	if *shared.bytes() != ([KeyLength]byte{}) || shared.Matches(v) {
		t.Errorf("a copy of the wiped key still works")
	}
	if !clone.Matches(v) {
		t.Errorf("the clone was wiped too")
	}
	if _, err := NewClient(key, v, nil); !errors.Is(err, ErrKeyMismatch) {
		t.Errorf("a login with a wiped key was prepared: %v", err)
	}
	key.Wipe()
	ClientKey{}.Wipe()
	if (ClientKey{}).Matches(v) || (ClientKey{}).Clone().held != nil {
		t.Errorf("the zero key is a key")
	}
}

func TestWipedVerifierHoldsNoKeys(t *testing.T) {
	v, key := rfcKeys(t)
	v.Wipe()
	if !bytes.Equal(v.StoredKey, make([]byte, KeyLength)) || !bytes.Equal(v.ServerKey, make([]byte, KeyLength)) || key.Matches(v) {
		t.Errorf("keys are still there")
	}
}

func TestClientKeyHasOneLength(t *testing.T) {
	for _, n := range []int{0, 1, KeyLength - 1, KeyLength + 1, 1 << 16} {
		if _, err := NewClientKey(make([]byte, n)); !errors.Is(err, ErrKeyMismatch) {
			t.Errorf("%d bytes: %v; want ErrKeyMismatch", n, err)
		}
	}
	b := bytes.Repeat([]byte{7}, KeyLength)
	k, err := NewClientKey(b)
	if err != nil {
		t.Fatal(err)
	}
	clear(b)
	if k.bytes()[0] != 7 {
		t.Errorf("the key shares the caller's bytes")
	}
}

func TestProofIsUnmaskedOnlyByItsOwnVerifierAndMessages(t *testing.T) {
	v, key := rfcKeys(t)
	bare, first, without := []byte("n=,r=a"), []byte("r=ab,s=AA==,i=1"), []byte("c=biws,r=ab")
	proof := mask(key, v, bare, first, without)
	if got, fits := unmask(v, &proof, bare, first, without); !fits || *got.bytes() != *key.bytes() {
		t.Fatalf("the key was not recovered")
	}
	other, _ := passwordKeys(t, "other", v.Salt, v.Iterations)
	bent := proof
	bent[0] ^= 1
	for name, fits := range map[string]bool{
		"other verifier": func() bool { _, ok := unmask(other, &proof, bare, first, without); return ok }(),
		"bent proof":     func() bool { _, ok := unmask(v, &bent, bare, first, without); return ok }(),
		"other bare":     func() bool { _, ok := unmask(v, &proof, []byte("n=,r=b"), first, without); return ok }(),
		"other first":    func() bool { _, ok := unmask(v, &proof, bare, []byte("r=ac,s=AA==,i=1"), without); return ok }(),
		"other final":    func() bool { _, ok := unmask(v, &proof, bare, first, []byte("c=eSws,r=ab")); return ok }(),
	} {
		if fits {
			t.Errorf("%s: a key was recovered", name)
		}
	}
}
