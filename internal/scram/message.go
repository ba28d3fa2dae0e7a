package scram

import (
	"bytes"
	"encoding/base64"
	"fmt"
)

// bindingType is the only channel binding that PostgreSQL knows.
const bindingType = "tls-server-end-point"

// attributes reads a SCRAM message from left to right, as read_attr_value and read_any_attr of auth-scram.c do: a value ends at the
// next comma or at the end of the message.
type attributes struct{ rest []byte }

// expect reads the attribute that must come next.
func (a *attributes) expect(name byte) ([]byte, error) {
	if len(a.rest) == 0 || a.rest[0] != name {
		return nil, malformed("Expected attribute \"%c\" but found \"%s\".", name, printable(a.rest))
	}
	if len(a.rest) < 2 || a.rest[1] != '=' {
		return nil, malformed("Expected character \"=\" for attribute \"%c\".", name)
	}
	return a.value(), nil
}

// next reads whatever attribute comes next.
func (a *attributes) next() (name byte, value []byte, err error) {
	if len(a.rest) == 0 {
		return 0, nil, malformed("Attribute expected, but found end of string.")
	}
	name = a.rest[0]
	if lower := name | 0x20; lower < 'a' || lower > 'z' {
		return 0, nil, malformed("Attribute expected, but found invalid character \"%s\".", printable(a.rest))
	}
	if len(a.rest) < 2 || a.rest[1] != '=' {
		return 0, nil, malformed("Expected character \"=\" for attribute \"%c\".", name)
	}
	return name, a.value(), nil
}

// value takes what follows the two bytes "x=" and steps over the comma behind it.
func (a *attributes) value() []byte {
	v, rest, _ := bytes.Cut(a.rest[2:], []byte{','})
	a.rest = rest
	return v
}

// checkText applies the checks that come before any parsing (scram_exchange).
func checkText(msg []byte) error {
	if len(msg) == 0 {
		return malformed("The message is empty.")
	}
	if bytes.IndexByte(msg, 0) >= 0 {
		return malformed("Message length does not match input length.")
	}
	return nil
}

// isNonce says whether every byte may stand in a nonce: printable and no comma (RFC 5802, 7).
func isNonce(b []byte) bool {
	for _, c := range b {
		if c < 0x21 || c > 0x7e || c == ',' {
			return false
		}
	}
	return true
}

// clientFirst is gs2-header client-first-message-bare. The slices alias the message.
type clientFirst struct {
	// flag is 'n' (no channel binding), 'y' (the client could, the server does not offer it) or 'p' (bound).
	flag byte
	// header is the gs2 header with both commas, bare what follows it.
	header, bare []byte
	nonce        []byte
}

// parseClientFirst reads a client-first message in the order of read_client_first_message, for PLUS or for the plain mechanism.
func parseClientFirst(msg []byte, plus bool) (clientFirst, error) {
	if err := checkText(msg); err != nil {
		return clientFirst{}, err
	}
	f := clientFirst{flag: msg[0]}
	a := attributes{rest: msg}
	if err := readBindingFlag(&a, plus); err != nil {
		return clientFirst{}, err
	}
	switch {
	case len(a.rest) > 0 && a.rest[0] == 'a':
		return clientFirst{}, unsupported("client uses authorization identity, but it is not supported")
	case len(a.rest) == 0 || a.rest[0] != ',':
		return clientFirst{}, malformed("Unexpected attribute \"%s\" in client-first-message.", printable(a.rest))
	}
	a.rest = a.rest[1:]
	f.bare = a.rest
	f.header = msg[:len(msg)-len(f.bare)]
	if len(a.rest) > 0 && a.rest[0] == 'm' {
		return clientFirst{}, unsupported("client requires an unsupported SCRAM extension")
	}
	if _, err := a.expect('n'); err != nil { // the user name: PostgreSQL ignores it, the startup packet's counts
		return clientFirst{}, err
	}
	nonce, err := a.expect('r')
	if err != nil {
		return clientFirst{}, err
	}
	if !isNonce(nonce) {
		return clientFirst{}, violation("non-printable characters in SCRAM nonce", "")
	}
	f.nonce = nonce
	for len(a.rest) > 0 { // optional extensions are ignored
		if _, _, err := a.next(); err != nil {
			return clientFirst{}, err
		}
	}
	return f, nil
}

// readBindingFlag reads the first part of the gs2 header, up to the comma before the authorization identity.
func readBindingFlag(a *attributes, plus bool) error {
	switch flag := a.rest[0]; flag {
	case 'n', 'y':
		if plus {
			return malformed("The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.")
		}
		if len(a.rest) < 2 || a.rest[1] != ',' {
			return malformed("Comma expected, but found character \"%s\".", printable(a.rest[1:]))
		}
		a.rest = a.rest[2:]
		return nil
	case 'p':
		if !plus {
			return malformed("The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.")
		}
		kind, err := a.expect('p')
		if err != nil {
			return err
		}
		if string(kind) != bindingType {
			return violation("unsupported SCRAM channel-binding type", "")
		}
		return nil
	default:
		return malformed("Unexpected channel-binding flag \"%s\".", printable(a.rest))
	}
}

// serverFirst is the server's challenge. The nonce aliases the message.
type serverFirst struct {
	nonce      []byte
	salt       []byte
	iterations int
}

// parseServerFirst reads "r=...,s=...,i=..." with nothing behind it, as libpq's read_server_first_message does.
func parseServerFirst(msg []byte) (serverFirst, error) {
	if err := checkText(msg); err != nil {
		return serverFirst{}, err
	}
	a := attributes{rest: msg}
	var f serverFirst
	nonce, err := a.expect('r')
	if err != nil {
		return serverFirst{}, err
	}
	if len(nonce) == 0 || !isNonce(nonce) {
		return serverFirst{}, malformed("Malformed nonce in server-first-message.")
	}
	f.nonce = nonce
	salt, err := a.expect('s')
	if err != nil {
		return serverFirst{}, err
	}
	var ok bool
	if f.salt, ok = decodeStrict(string(salt)); !ok || len(f.salt) == 0 || len(f.salt) > MaxSaltLength {
		return serverFirst{}, malformed("Malformed salt in server-first-message.")
	}
	iterations, err := a.expect('i')
	if err != nil {
		return serverFirst{}, err
	}
	if f.iterations, ok = parseIterations(iterations); !ok {
		return serverFirst{}, malformed("Malformed iteration count in server-first-message.")
	}
	if len(a.rest) != 0 {
		return serverFirst{}, malformed("Garbage found at the end of server-first-message.")
	}
	return f, nil
}

// clientFinal is the client's answer. The slices alias the message.
type clientFinal struct {
	// binding is the value of c=, still in base64; without what precedes ",p=".
	binding, nonce, without []byte
	proof                   [KeyLength]byte
}

// parseClientFinal reads "c=...,r=...[,extensions],p=<proof>" in the order of read_client_final_message.
func parseClientFinal(msg []byte) (clientFinal, error) {
	if err := checkText(msg); err != nil {
		return clientFinal{}, err
	}
	a := attributes{rest: msg}
	var f clientFinal
	var err error
	if f.binding, err = a.expect('c'); err != nil {
		return clientFinal{}, err
	}
	if f.nonce, err = a.expect('r'); err != nil {
		return clientFinal{}, err
	}
	for {
		before := len(msg) - len(a.rest) - 1 // the comma in front of the attribute that comes next
		name, value, err := a.next()
		if err != nil {
			return clientFinal{}, err
		}
		if name != 'p' {
			continue
		}
		if !decodeKey(&f.proof, value) {
			return clientFinal{}, malformed("Malformed proof in client-final-message.")
		}
		if len(a.rest) != 0 {
			return clientFinal{}, malformed("Garbage found at the end of client-final-message.")
		}
		f.without = msg[:before]
		return f, nil
	}
}

// parseServerFinal reads "v=<signature>". A server's "e=<error>" and everything else is an error.
func parseServerFinal(msg []byte) (signature [KeyLength]byte, err error) {
	if err := checkText(msg); err != nil {
		return signature, err
	}
	if msg[0] == 'e' {
		return signature, fmt.Errorf("read server-final-message: server reports an error: %w", ErrServerUnproven)
	}
	a := attributes{rest: msg}
	value, err := a.expect('v')
	if err != nil {
		return signature, err
	}
	if !decodeKey(&signature, value) {
		return signature, malformed("Malformed signature in server-final-message.")
	}
	if len(a.rest) != 0 {
		return signature, malformed("Garbage found at the end of server-final-message.")
	}
	return signature, nil
}

// encodedKeyLength is KeyLength in base64 with padding.
const encodedKeyLength = (KeyLength + 2) / 3 * 4

// decodeKey decodes base64 of exactly KeyLength bytes. Unused low bits of the last character are ignored, as PostgreSQL does.
func decodeKey(dst *[KeyLength]byte, src []byte) bool {
	if len(src) != encodedKeyLength || bytes.ContainsAny(src, "\r\n") {
		return false
	}
	var buf [encodedKeyLength / 4 * 3]byte
	n, err := base64.StdEncoding.Decode(buf[:], src)
	if err != nil || n != KeyLength {
		return false
	}
	copy(dst[:], buf[:])
	clear(buf[:])
	return true
}
