package scram

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// The mechanisms of PostgreSQL's AuthenticationSASL that this package knows.
const (
	// MechanismPlain is SCRAM-SHA-256 without channel binding.
	MechanismPlain = "SCRAM-SHA-256"
	// MechanismPlus is SCRAM-SHA-256 bound to the TLS channel.
	MechanismPlus = "SCRAM-SHA-256-PLUS"
)

// Codes of AuthenticationRequest, the first four bytes of an 'R' message's body (src/include/libpq/protocol.h).
const (
	authOK           = 0
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

const (
	// MaxClientMessage bounds the body of a client's SASL message in bytes: PG_MAX_SASL_MESSAGE_LENGTH (src/include/libpq/sasl.h)
	// counts the length word too.
	MaxClientMessage = 1024 - 4
	// MaxServerMessage bounds the body of a server's SASL message in bytes: a nonce that begins with the client's (MaxClientMessage),
	// a salt of MaxSaltLength in base64, the rest of the frame. PostgreSQL's are about 100 bytes long.
	MaxServerMessage = 2048
	// maxMechanisms bounds the list in AuthenticationSASL. PostgreSQL 18 offers at most two of SCRAM.
	maxMechanisms = 32
)

// authRequest splits the body of an 'R' message into its code and data.
func authRequest(body []byte) (code uint32, data []byte, err error) {
	if len(body) < 4 {
		return 0, nil, fmt.Errorf("read authentication request of %d bytes: %w", len(body), ErrMalformed)
	}
	if len(body) > MaxServerMessage {
		return 0, nil, fmt.Errorf("read authentication request of %d bytes: %w", len(body), ErrTooLong)
	}
	return binary.BigEndian.Uint32(body), body[4:], nil
}

func appendAuthRequest(dst []byte, code uint32) []byte {
	return binary.BigEndian.AppendUint32(dst, code)
}

// parseMechanisms reads the data of AuthenticationSASL: names ended by NUL, the list ended by an empty name.
func parseMechanisms(data []byte) ([]string, error) {
	var names []string
	for {
		name, rest, found := bytes.Cut(data, []byte{0})
		if !found {
			return nil, fmt.Errorf("read SASL mechanisms: list does not end: %w", ErrMalformed)
		}
		if len(name) == 0 {
			if len(rest) != 0 {
				return nil, fmt.Errorf("read SASL mechanisms: %d bytes after the list: %w", len(rest), ErrMalformed)
			}
			return names, nil
		}
		if len(names) == maxMechanisms {
			return nil, fmt.Errorf("read SASL mechanisms: more than %d: %w", maxMechanisms, ErrTooLong)
		}
		names = append(names, string(name))
		data = rest
	}
}

func appendMechanisms(dst []byte, names ...string) []byte {
	for _, name := range names {
		dst = append(dst, name...)
		dst = append(dst, 0)
	}
	return append(dst, 0)
}

// cutMechanism reads the beginning of a SASLInitialResponse's body: the mechanism's name, ended by NUL. What follows is the length of the
// client's first message as an int32, or -1 when it sent none, and the message.
func cutMechanism(body []byte) (name string, rest []byte, err error) {
	b, rest, found := bytes.Cut(body, []byte{0})
	if !found {
		return "", nil, violation("invalid string in message", "")
	}
	return string(b), rest, nil
}

// cutInitialData reads the rest of a SASLInitialResponse's body. Data is nil when there was none (-1); else it aliases the body. The claimed
// length is compared with what is there, never used to reserve or to slice memory. The errors are those of pqformat.c.
func cutInitialData(rest []byte) (data []byte, err error) {
	if len(rest) < 4 {
		return nil, violation("insufficient data left in message", "")
	}
	claimed := int64(int32(binary.BigEndian.Uint32(rest)))
	data = rest[4:]
	if claimed == -1 {
		claimed, data = 0, nil
	}
	switch left := int64(len(rest) - 4); {
	case claimed < 0 || claimed > left:
		return nil, violation("insufficient data left in message", "")
	case claimed < left:
		return nil, violation("invalid message format", "")
	}
	return data, nil
}

func appendInitialResponse(dst []byte, mechanism string, data []byte) []byte {
	dst = append(dst, mechanism...)
	dst = append(dst, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(data)))
	return append(dst, data...)
}

// offers says whether a server's list holds a mechanism.
func offers(names []string, mechanism string) bool { return slices.Contains(names, mechanism) }
