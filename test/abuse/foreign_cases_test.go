package abuse

import (
	"encoding/hex"
	"strings"
)

// foreign are the first words of clients of other protocols. What their first four bytes mean as a length decides what they get.
func foreign() []input {
	// Most of them read as a length that PostgreSQL does not take.
	badLength := func(name, words string) input {
		return input{name: name, does: []step{send(words)}, want: "closed", counts: refused("bad_startup_length")}
	}
	all := []input{
		badLength("HTTP/1.1 GET", "GET / HTTP/1.1\r\nHost: db\r\n\r\n"),
		badLength("HTTP/1.0 HEAD", "HEAD / HTTP/1.0\r\n\r\n"),
		badLength("HTTP POST with a body of 16 kB", "POST / HTTP/1.1\r\nHost: db\r\nContent-Length: 16384\r\n\r\n"+strings.Repeat("a", 16384)),
		badLength("HTTP CONNECT", "CONNECT db:5432 HTTP/1.1\r\n\r\n"),
		badLength("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
		badLength("WebSocket upgrade", "GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"),
		badLength("PROXY protocol 1", "PROXY TCP4 192.0.2.1 192.0.2.2 56324 5432\r\n"+loginAs(trusted)),
		badLength("PROXY protocol 2", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"+strings.Repeat("\x7f", 12)+loginAs(trusted)),
		badLength("SSH", "SSH-2.0-OpenSSH_9.2\r\n"),
		badLength("Redis, one command", "*1\r\n$4\r\nPING\r\n"),
		badLength("Redis inline", "PING\r\n"),
		badLength("memcached", "stats\r\n"),
		badLength("SMTP", "EHLO client.example\r\n"),
		badLength("IMAP", "a001 CAPABILITY\r\n"),
		badLength("POP3", "CAPA\r\n"),
		badLength("FTP", "USER anonymous\r\n"),
		badLength("Telnet negotiation", "\xff\xfd\x18\xff\xfd\x20\xff\xfd\x23\xff\xfd\x27"),
		badLength("SOCKS 5", "\x05\x01\x00\x00\x00"),
		badLength("SOCKS 4", "\x04\x01\x15\x38\x7f\x00\x00\x01root\x00"),
		badLength("MySQL login, its length little-endian", "\x20\x00\x00\x01\x85\xa6\xff\x01"+strings.Repeat("\x00", 28)),
		badLength("SQL Server pre-login", "\x12\x01\x00\x2f\x00\x00\x00\x00\x00\x00\x1a\x00\x06"),
		badLength("Oracle connect", "\x00\x3a\x00\x00\x01\x00\x00\x00\x01\x36\x01\x2c\x00\x00\x08\x00"),
		badLength("MongoDB hello", "\x3f\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00"),
		badLength("Cassandra STARTUP", "\x04\x00\x00\x00\x01\x00\x00\x00\x16"),
		badLength("MQTT CONNECT", "\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"),
		badLength("AMQP", "AMQP\x00\x00\x09\x01"),
		badLength("LDAP bind", "\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00"),
		badLength("DNS over TCP", "\x00\x1d\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"),
		badLength("RDP", "\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00"),
		badLength("Sun RPC null call", "\x80\x00\x00\x28\x12\x34\x56\x78\x00\x00\x00\x00\x00\x00\x00\x02"),
		badLength("SIP", "OPTIONS sip:db SIP/2.0\r\n\r\n"),
		badLength("RTSP", "OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"),
		badLength("BitTorrent", "\x13BitTorrent protocol\x00\x00\x00\x00\x00\x00\x00\x00"),
		badLength("git", "0032git-upload-pack /project.git\x00host=db\x00"),
		badLength("rsync", "@RSYNCD: 31.0\n"),
		badLength("X11", "l\x00\x0b\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
		badLength("VNC", "RFB 003.008\n"),
		badLength("IRC", "NICK x\r\nUSER x 0 * :x\r\n"),
		badLength("ZooKeeper, a word of four letters", "ruok\n\n\n\n"),
		badLength("a line of text", "select 1;\n"),
		badLength("a byte order mark", "\xef\xbb\xbfSELECT 1"),
		badLength("a zip archive", "PK\x03\x04\x14\x00\x00\x00"),
		badLength("a query before the login", query("SELECT 1")),
		badLength("a Terminate before the login", terminate+terminate),
		badLength("a password before the login", msg('p', "secret\x00")),
	}
	return append(all, foreignPackets()...)
}

// foreignPackets begin with what is a length to PostgreSQL too. What follows is then taken for a version.
func foreignPackets() []input {
	version := func(name, words, want string) input {
		return input{name: name, does: []step{send(words)}, want: want, counts: refused("unsupported_protocol")}
	}
	return []input{
		version("Kafka ApiVersions", packet(18<<16|3, "\x00\x00\x00\x01\x00\x04test\x00"), "FATAL/0A000 closed"),
		version("SMB negotiation", packet(0xff534d42, "r\x00\x00\x00\x00"+strings.Repeat("\x00", 120)), "FATAL/0A000 closed"),
		version("SMB 2 negotiation", packet(0xfe534d42, strings.Repeat("\x00", 60)), "FATAL/0A000 closed"),
		version("ZooKeeper connect", packet(0, strings.Repeat("\x00", 37)), "FATAL/0A000 closed"),
		version("an etcd peer's frame", packet(0x00010203, "x"), "FATAL(2) closed"),
	}
}

// clientHello is what openssl s_client sends to a port that does not speak TLS, by the newest version it offers.
func clientHello(version byte) string {
	body, _ := hex.DecodeString("0303" + strings.Repeat("5a", 32) + "00" + "0004" + "1301c02f" + "0100" + "0000")
	body[1] = version
	shake := "\x01\x00" + short(len(body)) + string(body)
	return "\x16\x03\x01" + short(len(shake)) + shake
}
