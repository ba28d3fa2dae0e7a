package scram

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// passwordKeys does what PostgreSQL does when a password is set (RFC 5802, 3): the verifier and the key that belongs to it.
func passwordKeys(t testing.TB, password string, salt []byte, iterations int) (Verifier, ClientKey) {
	t.Helper()
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, KeyLength)
	if err != nil {
		t.Fatal(err)
	}
	key, err := NewClientKey(hmacOf(salted, "Client Key"))
	if err != nil {
		t.Fatal(err)
	}
	stored := sha256.Sum256(key.bytes()[:])
	return Verifier{Iterations: iterations, Salt: salt, StoredKey: stored[:], ServerKey: hmacOf(salted, "Server Key")}, key
}

func hmacOf(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

// passwordClient is a client of the usual kind: it knows the password and derives everything from what the server shows. Its steps
// are plain text, so that a test can bend each of them.
type passwordClient struct {
	password, header, nonce string
	binding                 []byte
	serverSignature         []byte
}

func (c *passwordClient) bare() string  { return "n=,r=" + c.nonce }
func (c *passwordClient) first() string { return c.header + c.bare() }

// final answers a server-first message.
func (c *passwordClient) final(t testing.TB, serverFirstText string) string {
	t.Helper()
	f, err := parseServerFirst([]byte(serverFirstText))
	if err != nil {
		t.Fatalf("server-first-message %q: %v", serverFirstText, err)
	}
	v, key := passwordKeys(t, c.password, f.salt, f.iterations)
	without := "c=" + base64.StdEncoding.EncodeToString(append([]byte(c.header), c.binding...)) + ",r=" + string(f.nonce)
	auth := c.bare() + "," + serverFirstText + "," + without
	signature := hmacOf(v.StoredKey, auth)
	proof := make([]byte, KeyLength)
	for i := range proof {
		proof[i] = key.bytes()[i] ^ signature[i]
	}
	c.serverSignature = hmacOf(v.ServerKey, auth)
	return without + ",p=" + base64.StdEncoding.EncodeToString(proof)
}

func request(code uint32, data string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, code), data...)
}

func initialBody(mechanism, data string) []byte {
	return appendInitialResponse(nil, mechanism, []byte(data))
}

// text returns the data of an authentication request after checking its code.
func text(t testing.TB, body []byte, code uint32) string {
	t.Helper()
	got, data, err := authRequest(body)
	if err != nil || got != code {
		t.Fatalf("authentication request: code %d, error %v; want code %d", got, err, code)
	}
	return string(data)
}

// fill is a source of "randomness" that repeats one byte.
type fill byte

func (f fill) Read(p []byte) (int, error) {
	copy(p, bytes.Repeat([]byte{byte(f)}, len(p)))
	return len(p), nil
}

// RFC 7677, 3: user "user", password "pencil".
const (
	rfcClientFirst = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
	rfcServerFirst = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
	rfcClientFinal = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
	rfcServerFinal = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
	rfcPassword    = "pencil"
)

func rfcKeys(t testing.TB) (Verifier, ClientKey) {
	t.Helper()
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	return passwordKeys(t, rfcPassword, salt, 4096)
}

func encodeKey(k [KeyLength]byte) string { return base64.StdEncoding.EncodeToString(k[:]) }
