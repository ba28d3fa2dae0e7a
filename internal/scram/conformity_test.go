package scram_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/internal/scram"
)

// partner is whoever answers a client: PostgreSQL, or a Server of ours.
type partner interface {
	// step sends a 'p' body and returns the 'R' body that answers it.
	step(body []byte) ([]byte, error)
}

var errClosedSilently = errors.New("closed without a word")

// postgres is a connection that is in authentication.
type postgres struct{ conn net.Conn }

func (p postgres) step(body []byte) ([]byte, error) {
	if _, err := p.conn.Write(message('p', body)); err != nil {
		return nil, err
	}
	kind, reply, err := readMessage(p.conn)
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET):
		return nil, errClosedSilently
	case err != nil:
		return nil, err
	case kind == 'E':
		return nil, serverError(fields(reply))
	}
	return reply, nil
}

type ours struct{ server *scram.Server }

func (o ours) step(body []byte) ([]byte, error) {
	reply, _, err := o.server.Step(body)
	var e *scram.ExchangeError
	switch {
	case errors.As(err, &e):
		return nil, serverError{'S': "FATAL", 'C': e.SQLState, 'M': e.Message, 'D': e.Detail}
	case errors.Is(err, scram.ErrAuthenticationFailed):
		return nil, serverError{'S': "FATAL", 'C': "28P01", 'M': `password authentication failed for user "` + role + `"`}
	}
	return reply, err
}

// said is the part of an answer that does not depend on nonces.
func said(reply []byte, err error) string {
	var e serverError
	switch {
	case errors.As(err, &e):
		return e['S'] + " " + e['C'] + " " + e['M'] + " | " + e['D']
	case err != nil:
		return err.Error()
	default:
		kept := reply[4:]
		if bytes.HasPrefix(kept, []byte("r=")) {
			_, kept, _ = bytes.Cut(kept, []byte{','})
		} else if len(kept) > 2 {
			kept = kept[:2]
		}
		return string(append(reply[:4:4], kept...))
	}
}

// conformity opens exchanges with PostgreSQL and with a Server that has the same verifier.
type conformity struct {
	node     *lab.Node
	verifier scram.Verifier
	key      scram.ClientKey
}

func (c conformity) partners(t *testing.T) map[string]partner {
	t.Helper()
	conn := dial(t, c.node.Addr())
	if _, err := conn.Write(startup(role, role)); err != nil {
		t.Fatal(err)
	}
	kind, offer, err := readMessage(conn)
	if err != nil || kind != 'R' {
		t.Fatalf("message %q, error %v", kind, err)
	}
	server, err := scram.NewServer(c.verifier)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(offer, server.Offer()) {
		t.Errorf("PostgreSQL offers %q, we %q", offer, server.Offer())
	}
	return map[string]partner{"PostgreSQL": postgres{conn}, "ours": ours{server}}
}

// compare runs the same client against both and wants the same to be said.
func (c conformity) compare(t *testing.T, run func(partner) ([]byte, error)) {
	t.Helper()
	heard := map[string]string{}
	for name, p := range c.partners(t) {
		heard[name] = said(run(p))
	}
	if heard["PostgreSQL"] != heard["ours"] {
		t.Errorf("PostgreSQL says %q, we say %q", heard["PostgreSQL"], heard["ours"])
	}
}

func TestServerSaysWhatPostgreSQLSays(t *testing.T) {
	l := startLab(t, lab.Options{Single: true})
	node := l.Node(lab.RegionA)
	v := storedVerifier(t, node)
	_, key := keysOf(t, l.AppPassword, v.Salt, v.Iterations)
	c := conformity{node: node, verifier: v, key: key}
	t.Run("first message", func(t *testing.T) { firstMessages(t, c) })
	t.Run("final message", func(t *testing.T) { finalMessages(t, c) })
}

// initial is a SASLInitialResponse for the plain mechanism.
func initial(data string) string {
	return "SCRAM-SHA-256\x00" + string(binary.BigEndian.AppendUint32(nil, uint32(len(data)))) + data
}

func firstMessages(t *testing.T, c conformity) {
	frame := len(initial("n,,n=,r="))
	for name, body := range map[string]string{
		"good":                        initial("n,,n=,r=abc"),
		"good, with a user name":      initial("n,,n=someone else,r=abc"),
		"good, with extensions":       initial("n,,n=,r=abc,x=1,Y="),
		"comma at the end":            initial("n,,n=,r=abc,"),
		"empty nonce":                 initial("n,,n=,r="),
		"binding could be had":        initial("y,,n=,r=abc"),
		"no initial response":         "SCRAM-SHA-256\x00\xff\xff\xff\xff",
		"empty body":                  "",
		"mechanism does not end":      "SCRAM-SHA-256",
		"no length":                   "SCRAM-SHA-256\x00\x00\x00\x00",
		"length too great":            "SCRAM-SHA-256\x00\x00\x00\x00\x20n,,n=,r=a",
		"length too small":            "SCRAM-SHA-256\x00\x00\x00\x00\x05n,,n=,r=a",
		"length of 2 GiB":             "SCRAM-SHA-256\x00\x7f\xff\xff\xffn,,n=,r=a",
		"length of -2":                "SCRAM-SHA-256\x00\xff\xff\xff\xfen,,n=,r=a",
		"length of -1 with data":      "SCRAM-SHA-256\x00\xff\xff\xff\xffn,,n=,r=a",
		"PLUS without TLS":            "SCRAM-SHA-256-PLUS\x00\x00\x00\x00\x00",
		"other mechanism":             "PLAIN\x00\x00\x00\x00\x00",
		"other mechanism, no length":  "PLAIN\x00",
		"no mechanism":                "\x00\x00\x00\x00\x00",
		"password":                    "secret\x00",
		"no data":                     initial(""),
		"NUL inside":                  initial("n,,n=,r=a\x00b"),
		"NUL at the end":              initial("n,,n=,r=a\x00"),
		"binding in the message":      initial("p=tls-server-end-point,,n=,r=a"),
		"unknown flag":                initial("x,,n=,r=a"),
		"unprintable flag":            initial("\x01,,n=,r=a"),
		"flag only":                   initial("n"),
		"no comma after the flag":     initial("yn=,r=a"),
		"authorization identity":      initial("n,a=admin,n=,r=a"),
		"no second comma":             initial("n,n=,r=a"),
		"header only":                 initial("n,"),
		"mandatory extension":         initial("n,,m=x,n=,r=a"),
		"no user name":                initial("n,,r=a"),
		"nothing after the header":    initial("n,,"),
		"no equals sign":              initial("n,,n,r=a"),
		"no nonce":                    initial("n,,n=user"),
		"nonce with a space":          initial("n,,n=,r=a b"),
		"nonce above ASCII":           initial("n,,n=,r=\xc3\xa9"),
		"extension without a value":   initial("n,,n=,r=a,x"),
		"extension of a digit":        initial("n,,n=,r=a,1=x"),
		"longest message":             initial("n,,n=,r=" + strings.Repeat("x", scram.MaxClientMessage-frame)),
		"one byte longer":             initial("n,,n=,r=" + strings.Repeat("x", scram.MaxClientMessage-frame+1)),
		"very long":                   initial("n,,n=,r=" + strings.Repeat("x", 20000)),
		"longest message of nonsense": strings.Repeat("\x00", scram.MaxClientMessage),
	} {
		t.Run(name, func(t *testing.T) {
			c.compare(t, func(p partner) ([]byte, error) { return p.step([]byte(body)) })
		})
	}
}

func finalMessages(t *testing.T, c conformity) {
	proof := func(f string) (before, after string) {
		i := strings.LastIndex(f, ",p=")
		return f[:i], f[i+3:]
	}
	nonce := func(f, with string) string {
		before, after := proof(f)
		return before[:strings.Index(before, ",r=")] + ",r=" + with + ",p=" + after
	}
	for name, bend := range map[string]func(f string) string{
		"good":                     func(f string) string { return f },
		"good, comma at the end":   func(f string) string { return f + "," },
		"wrong proof":              func(f string) string { b, _ := proof(f); return b + ",p=" + strings.Repeat("A", 43) + "=" },
		"unused bits of the proof": func(f string) string { return f[:len(f)-2] + string(nextBase64(f[len(f)-2])) + "=" },
		"empty":                    func(string) string { return "" },
		"NUL":                      func(f string) string { return f + "\x00" },
		"no binding":               func(f string) string { return strings.TrimPrefix(f, "c=biws,") },
		"binding of another flag":  func(f string) string { return strings.Replace(f, "biws", "eSws", 1) },
		"binding empty":            func(f string) string { return strings.Replace(f, "biws", "", 1) },
		"nonce of another":         func(f string) string { return nonce(f, "abc") },
		"nonce empty":              func(f string) string { return nonce(f, "") },
		"nonce very long":          func(f string) string { return nonce(f, strings.Repeat("x", 900)) },
		"message too long":         func(f string) string { return nonce(f, strings.Repeat("x", 1100)) },
		"no nonce":                 func(f string) string { _, p := proof(f); return "c=biws,p=" + p },
		"no proof":                 func(f string) string { b, _ := proof(f); return b },
		"proof empty":              func(f string) string { b, _ := proof(f); return b + ",p=" },
		"proof short":              func(f string) string { return f[:len(f)-4] },
		"proof unpadded":           func(f string) string { return f[:len(f)-1] },
		"proof long":               func(f string) string { return f[:len(f)-1] + "AAAAA" },
		"proof of 800 bytes":       func(f string) string { return f[:len(f)-1] + strings.Repeat("A", 800) },
		"proof with a line end":    func(f string) string { return f[:len(f)-3] + "\n" + f[len(f)-2:] },
		"extension unsigned":       func(f string) string { b, p := proof(f); return b + ",x=1,p=" + p },
		"extension of a digit":     func(f string) string { b, p := proof(f); return b + ",1=x,p=" + p },
		"something behind":         func(f string) string { return f + ",x=1" },
		"two proofs":               func(f string) string { _, p := proof(f); return f + ",p=" + p },
	} {
		t.Run(name, func(t *testing.T) {
			c.compare(t, func(p partner) ([]byte, error) {
				client, err := scram.NewClient(c.key, c.verifier, nil)
				if err != nil {
					return nil, err
				}
				first, _, err := client.Step([]byte("\x00\x00\x00\x0aSCRAM-SHA-256\x00\x00"))
				if err != nil {
					return nil, err
				}
				challenge, err := p.step(first)
				if err != nil {
					return nil, err
				}
				final, _, err := client.Step(challenge)
				if err != nil {
					return nil, err
				}
				return p.step([]byte(bend(string(final))))
			})
		})
	}
}

// nextBase64 changes the lowest bit of a base64 digit, which the last digit of a proof does not use.
func nextBase64(c byte) byte {
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	return digits[strings.IndexByte(digits, c)^1]
}
