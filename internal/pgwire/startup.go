package pgwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// MaxStartupPacketLength bounds a startup packet without its own length word, as MAX_STARTUP_PACKET_LENGTH does in PostgreSQL
// (src/include/libpq/pqcomm.h).
const MaxStartupPacketLength = 10000

// Request codes that stand in the place of a protocol version (src/include/libpq/pqcomm.h).
const (
	cancelRequestCode = 1234<<16 | 5678
	sslRequestCode    = 1234<<16 | 5679
	gssencRequestCode = 1234<<16 | 5680
	// tlsHandshakeByte is the first byte of a TLS ClientHello: a client with sslnegotiation=direct sends it instead of a length.
	tlsHandshakeByte = 0x16
)

// Version is a protocol version: the major number in the upper half, the minor in the lower.
type Version uint32

// The versions that are spoken. 3.1 was skipped on purpose.
const (
	Version30 Version = 3 << 16
	Version32 Version = 3<<16 | 2
)

// Major returns the major number.
func (v Version) Major() int { return int(v >> 16) }

// Minor returns the minor number.
func (v Version) Minor() int { return int(v & 0xffff) }

// String prints the version as people write it ("3.2").
func (v Version) String() string { return fmt.Sprintf("%d.%d", v.Major(), v.Minor()) }

// Kind says what a first packet asks for.
type Kind uint8

// The kinds of first packets.
const (
	// KindStartup is a StartupMessage of any version.
	KindStartup Kind = iota + 1
	KindSSLRequest
	KindGSSENCRequest
	KindCancel
	// KindDirectTLS is a TLS ClientHello; only its first byte has been read, and is Raw.
	KindDirectTLS
)

// Packet is one first packet as it came: Raw is everything that was read, its length word included.
type Packet struct {
	Kind Kind
	Raw  []byte
}

var (
	// ErrBadLength is returned for a length that PostgreSQL does not accept. PostgreSQL closes such a connection without a word.
	ErrBadLength = errors.New("bad length of startup packet")
	// ErrMalformedStartup is returned for a packet whose inside contradicts its length.
	ErrMalformedStartup = errors.New("malformed startup packet")
	// ErrMissingUser is returned for a StartupMessage that names no user.
	ErrMissingUser = errors.New("no PostgreSQL user name specified in startup packet")
)

// UnsupportedMajorError is returned for a StartupMessage whose major version is not 3.
type UnsupportedMajorError struct{ Version Version }

// Error implements error.
func (e *UnsupportedMajorError) Error() string {
	return fmt.Sprintf("unsupported frontend protocol %s", e.Version)
}

// ReadPacket reads exactly one first packet and never a byte more. A peer that closes before the first byte yields io.EOF, one that closes
// in the middle io.ErrUnexpectedEOF. Memory grows with what has arrived, not with what a length promises.
func ReadPacket(r io.Reader) (Packet, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:1]); err != nil {
		return Packet{}, err
	}
	if head[0] == tlsHandshakeByte {
		return Packet{Kind: KindDirectTLS, Raw: []byte{tlsHandshakeByte}}, nil
	}
	if err := readRest(r, head[1:4]); err != nil {
		return Packet{}, err
	}
	length := int64(binary.BigEndian.Uint32(head[:4]))
	// ProcessStartupPacket (src/backend/tcop/backend_startup.c) takes 4 off and refuses what is below 4 or above the maximum.
	if body := length - 4; body < 4 || body > MaxStartupPacketLength {
		return Packet{}, fmt.Errorf("read startup packet of length %d: %w", length, ErrBadLength)
	}
	if err := readRest(r, head[4:8]); err != nil {
		return Packet{}, err
	}
	p := Packet{Kind: kindOf(binary.BigEndian.Uint32(head[4:8]))}
	raw, err := readBody(r, head[:], int(length))
	if err != nil {
		return Packet{}, err
	}
	p.Raw = raw
	return p, nil
}

// readBody appends what follows head until length bytes are there, in steps.
func readBody(r io.Reader, head []byte, length int) ([]byte, error) {
	const step = 1024
	raw := append(make([]byte, 0, min(length, step)), head...)
	for len(raw) < length {
		have := len(raw)
		raw = append(raw, make([]byte, min(length-have, step))...)
		if err := readRest(r, raw[have:]); err != nil {
			return nil, err
		}
	}
	return raw, nil
}

func readRest(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func kindOf(code uint32) Kind {
	switch code {
	case cancelRequestCode:
		return KindCancel
	case sslRequestCode:
		return KindSSLRequest
	case gssencRequestCode:
		return KindGSSENCRequest
	default:
		return KindStartup
	}
}

// Param is one parameter of a StartupMessage.
type Param struct{ Name, Value string }

// Startup is a parsed StartupMessage. Params are in the order in which they came, duplicates and protocol options included.
type Startup struct {
	Version Version
	Params  []Param
	// Raw is the packet as it came.
	Raw []byte
}

// ParseStartup parses a packet of KindStartup. It returns *UnsupportedMajorError for a major version other than 3, ErrMalformedStartup, or
// ErrMissingUser (with the Startup, so that it can be told who asked).
func ParseStartup(raw []byte) (*Startup, error) {
	if len(raw) < 8 || int64(binary.BigEndian.Uint32(raw)) != int64(len(raw)) {
		return nil, fmt.Errorf("parse startup packet of %d bytes: %w", len(raw), ErrMalformedStartup)
	}
	s := &Startup{Version: Version(binary.BigEndian.Uint32(raw[4:])), Raw: raw}
	if s.Version.Major() != 3 {
		return nil, &UnsupportedMajorError{Version: s.Version}
	}
	rest := string(raw[8:])
	s.Params = make([]Param, 0, min(strings.Count(rest, "\x00")/2, usualParams))
	for {
		name, after, ok := strings.Cut(rest, "\x00")
		if !ok {
			return nil, fmt.Errorf("parse startup packet: no terminator at the end: %w", ErrMalformedStartup)
		}
		if name == "" {
			if len(after) != 0 {
				return nil, fmt.Errorf("parse startup packet: %d bytes after the terminator: %w", len(after), ErrMalformedStartup)
			}
			break
		}
		value, after, ok := strings.Cut(after, "\x00")
		if !ok {
			return nil, fmt.Errorf("parse startup packet: parameter %q has no value: %w", name, ErrMalformedStartup)
		}
		s.Params = append(s.Params, Param{Name: name, Value: value})
		rest = after
	}
	if s.User() == "" {
		return s, ErrMissingUser
	}
	return s, nil
}

// usualParams is how many parameters clients send at most, as a rule.
const usualParams = 8

func cutString(b []byte) (s string, after []byte, ok bool) {
	for i, c := range b {
		if c == 0 {
			return string(b[:i]), b[i+1:], true
		}
	}
	return "", nil, false
}

// Get returns the value of a parameter; of duplicates the last one counts, as in PostgreSQL.
func (s *Startup) Get(name string) (string, bool) {
	for i := len(s.Params) - 1; i >= 0; i-- {
		if s.Params[i].Name == name {
			return s.Params[i].Value, true
		}
	}
	return "", false
}

// User returns the role that logs in; empty only when ParseStartup returned ErrMissingUser.
func (s *Startup) User() string {
	v, _ := s.Get("user")
	return v
}

// Database returns the database, which defaults to the user's name.
func (s *Startup) Database() string {
	if v, ok := s.Get("database"); ok && v != "" {
		return v
	}
	return s.User()
}

// Replication says whether this is a replication connection: "database", or what parse_bool takes for true
// (src/backend/tcop/backend_startup.c; a value that is no boolean is left to the server to refuse, as a replication connection).
func (s *Startup) Replication() bool {
	v, ok := s.Get("replication")
	if !ok {
		return false
	}
	truth, valid := parseBool(v)
	return !valid || truth
}

// RelaxesCommits reports whether the session may begin with a lower synchronous_commit: a parameter of that name, in any case, whose value is
// none of the high ones, or options that name it at all. In options backslashes escape and '-' may stand for '_' (postgres.c,
// process_postgres_switches; guc.c, ParseLongOption).
func (s *Startup) RelaxesCommits() bool {
	for _, p := range s.Params {
		switch {
		case p.Name == "options" && holdsName([]byte(optionsAsWritten.Replace(p.Value))):
			return true
		case len(p.Name) == len(commitName) && isName([]byte(p.Name)) && (p.Value == "" || !isHigh(keyWord(p.Value))):
			return true
		}
	}
	return false
}

// parseBool follows parse_bool_with_len (src/backend/utils/adt/bool.c): unique prefixes in any case.
func parseBool(s string) (value, valid bool) {
	l := strings.ToLower(s)
	switch {
	case l == "":
		return false, false
	case strings.HasPrefix("true", l), strings.HasPrefix("yes", l), l == "on", l == "1":
		return true, true
	case strings.HasPrefix("false", l), strings.HasPrefix("no", l), l == "off", l == "of", l == "0":
		return false, true
	default:
		return false, false
	}
}

// CancelKey identifies a backend to a CancelRequest.
type CancelKey struct {
	PID uint32
	// Secret has exactly 4 bytes on protocol 3.0 and 4 to 256 on 3.2.
	Secret []byte
}

// Bounds of a cancel key's secret in bytes (protocol 3.2; PostgreSQL itself sends 4 on 3.0 and 32 on 3.2).
const (
	MinSecretLength = 4
	MaxSecretLength = 256
)

// ErrCancelKey is returned for a CancelRequest or BackendKeyData whose key has an impossible length.
var ErrCancelKey = errors.New("bad length of cancel key")

// ParseCancel parses a packet of KindCancel. The secret shares memory with raw.
func ParseCancel(raw []byte) (CancelKey, error) {
	if len(raw) < 12 {
		return CancelKey{}, fmt.Errorf("parse cancel request of %d bytes: %w", len(raw), ErrCancelKey)
	}
	return parseKey(raw[8:])
}

// AppendCancel appends a CancelRequest.
func AppendCancel(dst []byte, k CancelKey) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(12+len(k.Secret)))
	dst = binary.BigEndian.AppendUint32(dst, cancelRequestCode)
	dst = binary.BigEndian.AppendUint32(dst, k.PID)
	return append(dst, k.Secret...)
}

// ParseBackendKeyData parses the body of a BackendKeyData message ('K'). The secret shares memory with body.
func ParseBackendKeyData(body []byte) (CancelKey, error) { return parseKey(body) }

// AppendBackendKeyData appends a BackendKeyData message.
func AppendBackendKeyData(dst []byte, k CancelKey) []byte {
	dst = append(dst, 'K')
	dst = binary.BigEndian.AppendUint32(dst, uint32(8+len(k.Secret)))
	dst = binary.BigEndian.AppendUint32(dst, k.PID)
	return append(dst, k.Secret...)
}

func parseKey(b []byte) (CancelKey, error) {
	if len(b) < 4+MinSecretLength || len(b) > 4+MaxSecretLength {
		return CancelKey{}, fmt.Errorf("parse cancel key of %d bytes: %w", len(b), ErrCancelKey)
	}
	return CancelKey{PID: binary.BigEndian.Uint32(b), Secret: b[4:]}, nil
}

// AppendSSLRequest appends the packet that asks a server for TLS.
func AppendSSLRequest(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, 8)
	return binary.BigEndian.AppendUint32(dst, sslRequestCode)
}

// optionsAsWritten undoes the ways in which options may write a parameter's name.
var optionsAsWritten = strings.NewReplacer("\\", "", "-", "_")
