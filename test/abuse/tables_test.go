package abuse

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"unicode/utf8"
)

// inClearOnly are the families of inputs to a listener in clear.
func inClearOnly() []family {
	return []family{
		{"length words", lengthWords()},
		{"truncated", truncated()},
		{"contradictions", contradictions()},
		{"oddities", oddities()},
		{"versions", versions()},
		{"foreign protocols", foreign()},
		{"encryption requests", requestsInClear()},
		{"cancel requests", cancels()},
		{"passwords", passwords()},
		{"SCRAM, first message", saslFirsts()},
		{"SCRAM, final message", saslFinals()},
		{"replication", replications()},
		{"unknown types", unknownTypes()},
		{"impossible lengths", impossibleLengths()},
		{"unfinished", unfinished()},
		{"confused", confused()},
		{"storms", storms()},
		{"vanishing", vanishing()},
	}
}

// overTLS are those to a listener that encrypts.
func overTLS() []family {
	return []family{{"handshakes", handshakes()}, {"direct TLS", directly()}, {"inside TLS", insideTLS()}}
}

// hostileFamily is hostile servers that have something in common.
type hostileFamily struct {
	name    string
	servers []hostile
}

func hostileFamilies() []hostileFamily {
	return []hostileFamily{
		{"first answer", firstAnswers()},
		{"silence and ends", silences()},
		{"authentication", authentications()},
		{"between AuthenticationOk and ReadyForQuery", readinesses()},
		{"proof", proofs()},
		{"ends at every step", endsAtEveryStep()},
		{"in a session", inSessions()},
	}
}

// least is how many bad inputs there have to be.
const least = 300

func TestEveryBadInputHasANameOfItsOwnAndThereAreEnough(t *testing.T) {
	families := append(inClearOnly(), overTLS()...)
	families = append(families, family{"TLS demanded", requiredTLS()}, family{"TLS passed through", passedThrough()}, family{"slow", slow()})
	clients, servers := 0, 0
	used := map[*difference]bool{}
	seen := map[string]bool{}
	name := func(group, name string) {
		if name == "" || seen[group+"/"+name] {
			t.Errorf("%s: the name %q is empty or not its own", group, name)
		}
		seen[group+"/"+name] = true
	}
	for _, f := range families {
		for _, in := range f.inputs {
			clients++
			name(f.name, in.name)
			used[in.differs] = true
		}
	}
	for _, f := range append(hostileFamilies(), hostileFamily{"never", always()}, hostileFamily{"TLS", toTLS()}) {
		for _, h := range f.servers {
			servers++
			name(f.name, h.name)
		}
	}
	for _, m := range mistakes() {
		name("mistakes", m.name)
	}
	for name, d := range differences {
		if !used[d] || d.postgres == "" || d.pgtether == "" || d.why == "" {
			t.Errorf("the difference %s is not used, or not explained", name)
		}
	}
	t.Logf("%d bad inputs of clients, %d hostile servers, %d mistakes in a configuration, %d intended differences", clients, servers, len(mistakes()), len(differences))
	if clients < least {
		t.Errorf("%d bad inputs of clients, want %d", clients, least)
	}
}

// checkLog fails unless every line of the log is one that the proxy meant to write: what comes from the network can neither begin a line nor steer a
// terminal, and no password is in it.
func (f *front) checkLog(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(f.Log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		line = bytes.TrimSuffix(line, []byte("\n"))
		if !bytes.HasPrefix(line, []byte("time=2")) || !utf8.Valid(line) || bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("a line of the log: %q", line)
		}
	}
	if strings.Contains(string(text), password) {
		t.Error("a password is in the log")
	}
}
