package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

const (
	thePassword = "hunter2-of-the-probe"
	theToken    = "token-of-the-admin"
	theVerifier = "SCRAM-SHA-256$4096:c2FsdA==$" + storedKey + ":U2VydmVyS2V5U2VydmVyS2V5U2VydmVyS2V5U2VydmU="
	storedKey   = "U3RvcmVkS2V5U3RvcmVkS2V5U3RvcmVkS2V5U3RvcmU="
)

// withSecrets is a configuration that holds every kind of secret.
func withSecrets(t *testing.T) *File {
	t.Helper()
	dir := t.TempDir()
	writeIn(t, dir, "password", thePassword+"\n")
	writeIn(t, dir, "token", theToken+"\r\n")
	writeIn(t, dir, "verifiers", `"key""cloak" "`+theVerifier+`"`+"\n")
	crt, key := certificate(t, dir, "server", testNow.AddDate(0, -1, 0), testNow.AddDate(1, 0, 0))
	path := writeIn(t, dir, "pgtether.toml", strings.Replace(valid, `user = "pgtether"`, "user = \"pgtether\"\npassword_file = \"password\"", 1)+
		"[admin]\ntoken_file = \"token\"\n[auth]\nscram = \"proxy\"\nverifier_file = \"verifiers\"\n"+
		fmt.Sprintf("[listen]\ntls_cert = %q\ntls_key = %q\n", crt, key))
	f, warnings, err := load(path, testSystem(nil), true)
	if err != nil {
		t.Fatal(err)
	}
	if len(warnings) > 0 {
		t.Errorf("warnings: %v", warnings)
	}
	return f
}

func TestSecretsReachThoseWhoAskForThem(t *testing.T) {
	f := withSecrets(t)
	if got := f.ProbePassword().Reveal(); got != thePassword {
		t.Errorf("probe password %q", got)
	}
	if got := f.AdminToken().Reveal(); got != theToken {
		t.Errorf("admin token %q", got)
	}
	if got, ok := f.Verifier(`key"cloak`); !ok || got.Reveal() != theVerifier {
		t.Errorf("verifier %q, %v", got.Reveal(), ok)
	}
	if _, ok := f.Verifier("nobody"); ok {
		t.Error("a role without a line has a verifier")
	}
	if got := f.Health().Password; got != thePassword {
		t.Errorf("the prober gets the password %q", got)
	}
}

func TestNoSecretIsEverPrinted(t *testing.T) {
	f := withSecrets(t)
	verifier, _ := f.Verifier(`key"cloak`)
	printed := map[string]string{}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		printed["File "+verb] = fmt.Sprintf(verb, f) + fmt.Sprintf(verb, *f)
		printed["material "+verb] = fmt.Sprintf(verb, *f.material)
		printed["Secret "+verb] = fmt.Sprintf(verb, f.ProbePassword()) + fmt.Sprintf(verb, f.AdminToken()) + fmt.Sprintf(verb, verifier)
		printed["nested "+verb] = fmt.Sprintf(verb, struct{ inner Secret }{f.ProbePassword()})
	}
	var log bytes.Buffer
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		slog.New(handler).Info("configuration", "file", f, "value", *f, "secret", f.ProbePassword(), "material", *f.material)
	}
	printed["slog"] = log.String()
	encoded, err := json.Marshal(map[string]any{"file": f, "secret": f.AdminToken(), "verifiers": f.material.verifiers})
	if err != nil {
		t.Fatal(err)
	}
	printed["json"] = string(encoded)
	for _, k := range diff(f, f) {
		printed["diff"] += k.String()
	}
	for how, text := range printed {
		for _, secret := range []string{thePassword, theToken, storedKey, fmt.Sprintf("%x", thePassword), fmt.Sprintf("%x", theToken)} {
			if strings.Contains(text, secret) {
				t.Errorf("%s prints the secret %q", how, secret)
			}
		}
	}
	if !strings.Contains(printed["Secret %v"], hidden) || !strings.Contains(printed["json"], hidden) {
		t.Errorf("a secret prints as %q and %q, want %q", printed["Secret %v"], printed["json"], hidden)
	}
}

func TestARefusalNeverShowsAVerifier(t *testing.T) {
	dir := t.TempDir()
	writeIn(t, dir, "verifiers", `"keycloak" "`+theVerifier+`" `+"trailing\n"+`keycloak2 "`+theVerifier+"\n"+`"" "`+theVerifier+"\"\n")
	path := writeIn(t, dir, "pgtether.toml", valid+"[auth]\nscram = \"proxy\"\nverifier_file = \"verifiers\"\n")
	_, _, err := load(path, testSystem(nil), true)
	if len(Problems(err)) != 3 || strings.Contains(err.Error(), storedKey) {
		t.Errorf("error = %v", err)
	}
}

func TestTheZeroSecretIsNone(t *testing.T) {
	if (Secret{}).IsSet() || NewSecret("").IsSet() || (Secret{}).Reveal() != "" || !NewSecret("x").IsSet() {
		t.Error("IsSet is wrong for an empty secret")
	}
}

func FuzzParseVerifiers(f *testing.F) {
	f.Add([]byte(`"keycloak" "` + theVerifier + `"`))
	f.Add([]byte("; comment\n\n\"a\"\"b\"\t\"SCRAM-SHA-256$\"\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := &report{file: "pgtether.toml"}
		for role := range parseVerifiers(r, "verifiers", data) {
			if role == "" {
				t.Fatal("a verifier without a role")
			}
		}
	})
}
