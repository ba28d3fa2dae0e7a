package config

import (
	"bufio"
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// verifierPrefix begins a SCRAM verifier as pg_authid.rolpassword has it.
const verifierPrefix = "SCRAM-SHA-256$"

// verifierForm is SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>; the keys are 32 bytes in base64. One that was cut short when it was
// copied is found here and not at the first login.
var verifierForm = regexp.MustCompile(`^SCRAM-SHA-256\$[1-9][0-9]{0,9}:[A-Za-z0-9+/]+={0,2}\$[A-Za-z0-9+/]{43}=:[A-Za-z0-9+/]{43}=$`)

// md5Form is an MD5 hash as pg_authid.rolpassword has it.
var md5Form = regexp.MustCompile(`^md5[0-9a-f]{32}$`)

// parseVerifiers reads auth.verifier_file: one role per line, "role" "SCRAM-SHA-256$..." or "role" "md5...", in double quotes, as in PgBouncer's
// auth_file; a quote inside is doubled. Empty lines and lines that begin with ; or # say nothing. What is wrong is reported with the line of that
// file; a verifier is never part of a message.
func parseVerifiers(r *report, file string, data []byte) map[string]Secret {
	const path = "auth.verifier_file"
	found := map[string]Secret{}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxSecretFile)
	n := 0
	for lines.Scan() {
		n++
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == ';' || line[0] == '#' {
			continue
		}
		role, verifier, err := parseVerifierLine(line)
		switch _, twice := found[role]; {
		case err != nil:
			r.add(path, "%q line %d: %s", file, n, err.Error())
		case twice:
			r.add(path, "%q line %d: the role %s is there twice", file, n, quote(role))
		default:
			found[role] = verifier
		}
	}
	if err := lines.Err(); err != nil {
		r.add(path, "%q line %d: a line is longer than %s", file, n+1, Size(maxSecretFile))
	}
	if len(found) == 0 {
		r.refuse(path, `%q holds no role; write one line per role: "keycloak" "SCRAM-SHA-256$..." (from pg_authid.rolpassword)`, file)
	}
	return found
}

// errVerifierLine is returned for a line that is not a role and a verifier.
var errVerifierLine = fmt.Errorf(`not a role and its verifier; write "role" "%s..."`, verifierPrefix)

func parseVerifierLine(line string) (string, Secret, error) {
	role, rest, ok := cutQuoted(line)
	if !ok || role == "" {
		return "", Secret{}, errVerifierLine
	}
	verifier, rest, ok := cutQuoted(strings.TrimLeft(rest, " \t"))
	if !ok || strings.TrimSpace(rest) != "" {
		return "", Secret{}, errVerifierLine
	}
	if md5Form.MatchString(verifier) {
		return role, NewSecret(verifier), nil
	}
	if !strings.HasPrefix(verifier, verifierPrefix) {
		return "", Secret{}, fmt.Errorf("the role %s has neither a SCRAM-SHA-256 verifier nor an MD5 hash: %w", quote(role), errVerifierLine)
	}
	if !verifierForm.MatchString(verifier) {
		return "", Secret{}, fmt.Errorf("the verifier of the role %s is damaged; copy it again from pg_authid.rolpassword", quote(role))
	}
	return role, NewSecret(verifier), nil
}

// cutQuoted takes one text in double quotes from the beginning of s; a doubled quote stands for one.
func cutQuoted(s string) (text, rest string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		return "", s, false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] != '"':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		default:
			return b.String(), s[i+1:], true
		}
	}
	return "", s, false
}
