package scram

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
)

// emptyPassword is the verifier of the empty password from PostgreSQL's own regression test (src/test/regress/sql/password.sql).
const emptyPassword = "SCRAM-SHA-256$4096:hpFyHTUsSWcR7O9P$LgZFIt6Oqdo27ZFKbZ2nV+vtnYM995pDh9ca6WSi120=:qVV5NeluNfUPkwm7Vqat25RjSPLkGeoZBQs6wVv+um4="

func TestVerifierFromPostgreSQLIsReadAndFitsItsPassword(t *testing.T) {
	v, err := ParseVerifier(emptyPassword)
	if err != nil {
		t.Fatal(err)
	}
	want, key := passwordKeys(t, "", v.Salt, v.Iterations)
	if !v.Equal(want) {
		t.Errorf("keys are not those of the empty password")
	}
	if !key.Matches(v) {
		t.Errorf("the empty password's client key does not match")
	}
	if got := string(v.appendSecret(nil)); got != emptyPassword {
		t.Errorf("written back as %q", got)
	}
}

func TestVerifierOutsideTheFormIsRefused(t *testing.T) {
	const salt, key = "A6xHKoH/494E941doaPOYg==", "Ky+A30sewHIH3VHQLRN9vYsuzlgNyGNKCh37dy96Rqw="
	form := func(iterations, salt, stored, server string) string {
		return "SCRAM-SHA-256$" + iterations + ":" + salt + "$" + stored + ":" + server
	}
	b64 := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for name, s := range map[string]string{
		"empty":                      "",
		"md5":                        "md53725413363ab045e20521bf36b8d8d7f",
		"plain text":                 "secret",
		"other scheme":               "SCRAM-SHA-1$4096:" + salt + "$" + key + ":" + key,
		"lower case scheme":          "scram-sha-256$4096:" + salt + "$" + key + ":" + key,
		"scheme only":                "SCRAM-SHA-256$",
		"no salt":                    "SCRAM-SHA-256$4096$" + key + ":" + key,
		"no keys":                    "SCRAM-SHA-256$4096:" + salt,
		"no server key":              "SCRAM-SHA-256$4096:" + salt + "$" + key,
		"no iterations":              form("", salt, key, key),
		"zero iterations":            form("0", salt, key, key),
		"negative iterations":        form("-4096", salt, key, key),
		"signed iterations":          form("+4096", salt, key, key),
		"leading zero":               form("04096", salt, key, key),
		"iterations in hex":          form("0x1000", salt, key, key),
		"iterations above int":       form("2147483648", salt, key, key),
		"iterations above int64":     form("99999999999999999999", salt, key, key),
		"iterations with a space":    form("4096 ", salt, key, key),
		"empty salt":                 form("4096", "", key, key),
		"salt no base64":             form("4096", "A6xH!", key, key),
		"salt unpadded":              form("4096", "A6xHKoH/494E941doaPOYg", key, key),
		"salt with a line end":       form("4096", "A6xHKoH/494E\n941doaPOYg==", key, key),
		"salt too long":              form("4096", b64(MaxSaltLength+1), key, key),
		"stored key short":           form("4096", salt, b64(KeyLength-1), key),
		"stored key long":            form("4096", salt, "Ky+A30sewHIH3VHQLRN9vYsuzlgNyGNKCh37dy96RqwAAAAA", key), // regress_passwd_sha_len1
		"server key long":            form("4096", salt, key, "COPdlNiIkrsacU5QoxydEuOH6e/KfiipeETb/bPw8ZIAAAAA"), // regress_passwd_sha_len2
		"server key short":           form("4096", salt, key, b64(KeyLength-1)),
		"server key empty":           form("4096", salt, key, ""),
		"key with unused bits set":   form("4096", salt, "Ky+A30sewHIH3VHQLRN9vYsuzlgNyGNKCh37dy96Rqx=", key),
		"something behind":           form("4096", salt, key, key) + ":more",
		"white space behind":         form("4096", salt, key, key) + " ",
		"line end behind":            form("4096", salt, key, key) + "\n",
		"NUL inside":                 form("4096", salt, key, key[:10]+"\x00"+key[11:]),
		"a megabyte of dollar signs": "SCRAM-SHA-256" + strings.Repeat("$", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			v, err := ParseVerifier(s)
			if !errors.Is(err, ErrInvalidVerifier) {
				t.Fatalf("got %v, error %v; want ErrInvalidVerifier", v, err)
			}
			for _, secret := range []string{key[:8], salt[:8]} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("error tells what the verifier holds: %v", err)
				}
			}
		})
	}
}

func TestVerifierAtEachBoundIsAccepted(t *testing.T) {
	keys := "$" + strings.Repeat("A", 43) + "=:" + strings.Repeat("A", 43) + "="
	for name, s := range map[string]string{
		"one iteration":     "SCRAM-SHA-256$1:AA==" + keys,
		"most iterations":   "SCRAM-SHA-256$2147483647:AA==" + keys,
		"shortest salt":     "SCRAM-SHA-256$4096:AA==" + keys,
		"longest salt":      "SCRAM-SHA-256$4096:" + base64.StdEncoding.EncodeToString(make([]byte, MaxSaltLength)) + keys,
		"PostgreSQL's own":  emptyPassword,
		"10000 iterations ": "SCRAM-SHA-256$10000:AAAA" + keys,
	} {
		v, err := ParseVerifier(s)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := v.Validate(); err != nil {
			t.Errorf("%s: parsed but not valid: %v", name, err)
		}
	}
}

func TestVerifierMadeByHandIsValidated(t *testing.T) {
	good, _ := rfcKeys(t)
	for name, bend := range map[string]func(*Verifier){
		"zero value":           func(v *Verifier) { *v = Verifier{} },
		"no iterations":        func(v *Verifier) { v.Iterations = 0 },
		"too many iterations":  func(v *Verifier) { v.Iterations = MaxIterations + 1 },
		"no salt":              func(v *Verifier) { v.Salt = nil },
		"salt too long":        func(v *Verifier) { v.Salt = make([]byte, MaxSaltLength+1) },
		"stored key too short": func(v *Verifier) { v.StoredKey = v.StoredKey[1:] },
		"server key too long":  func(v *Verifier) { v.ServerKey = append(v.ServerKey, 0) },
	} {
		v := good.Clone()
		bend(&v)
		if err := v.Validate(); !errors.Is(err, ErrInvalidVerifier) {
			t.Errorf("%s: got %v; want ErrInvalidVerifier", name, err)
		}
		if _, err := NewServer(v); !errors.Is(err, ErrInvalidVerifier) {
			t.Errorf("%s: a server was made: %v", name, err)
		}
		if _, err := (new(Observer)).ClientKey(v); !errors.Is(err, ErrInvalidVerifier) {
			t.Errorf("%s: an observer used it: %v", name, err)
		}
	}
	if err := good.Validate(); err != nil {
		t.Errorf("good verifier: %v", err)
	}
}

func TestVerifiersAreEqualOnlyInEveryPart(t *testing.T) {
	a, _ := rfcKeys(t)
	if b := a.Clone(); !a.Equal(b) || a.Fingerprint() != b.Fingerprint() {
		t.Errorf("a clone is not equal")
	}
	for name, bend := range map[string]func(*Verifier){
		"iterations": func(v *Verifier) { v.Iterations++ },
		"salt":       func(v *Verifier) { v.Salt[0] ^= 1 },
		"stored key": func(v *Verifier) { v.StoredKey[31] ^= 1 },
		"server key": func(v *Verifier) { v.ServerKey[0] ^= 1 },
	} {
		b := a.Clone()
		bend(&b)
		if a.Equal(b) || a.Fingerprint() == b.Fingerprint() {
			t.Errorf("equal although %s differs", name)
		}
	}
}

func FuzzParseVerifier(f *testing.F) {
	for _, s := range []string{
		emptyPassword, "SCRAM-SHA-256$", "SCRAM-SHA-256$4096:$:", "SCRAM-SHA-256$4096:AA==$$:", "md5abc",
		"SCRAM-SHA-256$2147483647:AA==$LgZFIt6Oqdo27ZFKbZ2nV+vtnYM995pDh9ca6WSi120=:qVV5NeluNfUPkwm7Vqat25RjSPLkGeoZBQs6wVv+um4=",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVerifier(s)
		if err != nil {
			if !errors.Is(err, ErrInvalidVerifier) {
				t.Fatalf("error of another kind: %v", err)
			}
			return
		}
		if got := string(v.appendSecret(nil)); got != s {
			t.Fatalf("%q is read but written back as %q", s, got)
		}
		if err := v.Validate(); err != nil {
			t.Fatalf("%q is read but not valid: %v", s, err)
		}
	})
}
