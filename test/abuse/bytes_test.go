package abuse

import (
	"encoding/binary"
	"strings"
)

// Codes that stand in the place of a protocol version (src/include/libpq/pqcomm.h).
const (
	version30   = 3 << 16
	cancelCode  = 1234<<16 | 5678
	sslCode     = 1234<<16 | 5679
	gssCode     = 1234<<16 | 5680
	longestBody = 10000 // MAX_STARTUP_PACKET_LENGTH, without the length word
)

var (
	sslRequest = packet(sslCode, "")
	gssRequest = packet(gssCode, "")
	terminate  = msg('X', "")
	syncMsg    = msg('S', "")
	flush      = msg('H', "")
)

func word(n int64) string { return string(binary.BigEndian.AppendUint32(nil, uint32(n))) }

func short(n int) string { return string(binary.BigEndian.AppendUint16(nil, uint16(n))) }

// packet is a first packet with a right length word.
func packet(code int64, body string) string { return word(int64(8+len(body))) + word(code) + body }

// startup is a StartupMessage of protocol 3.0 with the given names and values.
func startup(params ...string) string { return startupOf(version30, params...) }

func startupOf(version int64, params ...string) string {
	return packet(version, strings.Join(params, "\x00")+"\x00\x00")
}

// loginAs is a StartupMessage of a role in the database that every server has.
func loginAs(role string, params ...string) string {
	return startup(append([]string{"user", role, "database", "postgres"}, params...)...)
}

// padded is a startup packet of exactly n bytes. The rest is blanks in a parameter that ignores them.
func padded(n int) string {
	const name = "search_path"
	empty := loginAs(trusted, name, "public")
	return loginAs(trusted, name, "public"+strings.Repeat(" ", n-len(empty)))
}

// msg is a message with a right length word, lying one with any other.
func msg(typ byte, body string) string { return lying(typ, int64(4+len(body)), body) }

func lying(typ byte, length int64, body string) string { return string(typ) + word(length) + body }

// key is what a client needs to cancel another session's statement.
type key struct {
	pid    uint32
	secret string
}

func (k key) request() string { return packet(cancelCode, word(int64(k.pid))+k.secret) }

func query(sql string) string { return msg('Q', sql+"\x00") }

func parse(name, sql string) string { return msg('P', name+"\x00"+sql+"\x00"+short(0)) }

func bind(portal, name string) string {
	return msg('B', portal+"\x00"+name+"\x00"+short(0)+short(0)+short(0))
}

func execute(portal string) string { return msg('E', portal+"\x00"+word(0)) }
