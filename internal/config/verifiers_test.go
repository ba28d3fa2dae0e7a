package config

import (
	"testing"

	"github.com/pgtether/pgtether/proxy"
)

func TestVerifiersAreOfUseWhereSCRAMIsRelayedToo(t *testing.T) {
	const hash = "md5aabbccddeeff00112233445566778899"
	dir := t.TempDir()
	writeIn(t, dir, "verifiers", `"keycloak" "`+theVerifier+`"`+"\n"+`"old" "`+hash+`"`+"\n")
	for _, c := range []struct {
		name, auth string
		want       proxy.Verifiers
	}{
		{"neither", "", proxy.VerifiersNone},
		{"a file", "[auth]\nverifier_file = \"verifiers\"\n", proxy.VerifiersAtHand},
		{"a function", "[auth]\nverifier_lookup = \"pgtether.scram_verifier\"\n", proxy.VerifiersAsked},
		{"a function, SCRAM answered", "[auth]\nscram = \"proxy\"\nverifier_lookup = \"pgtether.scram_verifier\"\n", proxy.VerifiersAsked},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, _, err := Load(writeIn(t, dir, "pgtether.toml", valid+c.auth))
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Proxy().Verifiers; got != c.want {
				t.Errorf("the data plane gets %q, want %q", got, c.want)
			}
			for role, want := range map[string]string{"keycloak": theVerifier, "old": hash} {
				if got, ok := f.Verifier(role); ok != (c.want == proxy.VerifiersAtHand) || ok && got.Reveal() != want {
					t.Errorf("%s: stored password %q, %v", role, got.Reveal(), ok)
				}
			}
		})
	}
}
