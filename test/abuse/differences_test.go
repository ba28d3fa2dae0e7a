package abuse

// difference is one way in which pgtether means to answer otherwise than PostgreSQL does.
type difference struct {
	// postgres and pgtether are what the two give, why is the reason.
	postgres, pgtether, why string
}

// The intended differences. There are no others: every other input must get the same from both. Reasons and SQLSTATEs are those of CONTRACT 4.
var (
	// gluedInClear: PostgreSQL answers an encryption request with 'N' and then says that something came too early. The 'N' is of no use to a client
	// whose bytes are refused anyway, and a proxy that looks before it answers need not have read them.
	gluedInClear = &difference{
		postgres: "'N', then FATAL 08P01",
		pgtether: "FATAL 08P01 in place of the 'N'",
		why:      "bytes that come before the answer to an encryption request are an attack or a broken client (CVE-2021-23214); libpq takes an error in place of the answer",
	}
	// noGSS: pgtether has no GSSAPI encryption. A server that has it goes on to read the client's token.
	noGSS = &difference{
		postgres: "'G' where it was built with GSSAPI, then the handshake",
		pgtether: "'N'",
		why:      "encryption by GSSAPI would hide the startup packet from the proxy; every client takes 'N' for an answer and goes on",
	}
	// gluedToTLS: PostgreSQL shakes hands first and says inside TLS that something came before.
	gluedToTLS = &difference{
		postgres: "'S', then the handshake; what follows depends on it",
		pgtether: "FATAL 08P01 in place of the 'S'",
		why:      "bytes that come before the answer to an encryption request are an attack or a broken client (CVE-2021-23214); there is no reason to do a handshake first",
	}
	// clearInsteadOfTLS: PostgreSQL's library sees a broken handshake.
	clearInsteadOfTLS = &difference{
		postgres: "closes without a word, or with what its TLS library says",
		pgtether: "FATAL 08P01 in clear",
		why:      "the first byte shows that the client goes on in clear: it can be told so in a language that it speaks",
	}
	// directTLS: PostgreSQL knows it from version 17 on.
	directTLS = &difference{
		postgres: "before 17: closes without a word",
		pgtether: "shakes hands, as PostgreSQL 17 does, and closes unless ALPN says postgresql",
		why:      "sslnegotiation=direct saves a round trip; without ALPN another protocol's client could be led here",
	}
	// otherALPN: PostgreSQL looks at ALPN from version 17 on.
	otherALPN = &difference{
		postgres: "before 17: takes no notice of ALPN",
		pgtether: "refuses the handshake, as PostgreSQL 17 does",
		why:      "a client that names other protocols and not postgresql was led here by mistake or by somebody",
	}
	// noReplication: pgtether refuses replication connections unless listen.replication is set, before anybody is asked for a password.
	noReplication = &difference{
		postgres: "asks for a password, or says that the value is no boolean (22023)",
		pgtether: "FATAL 0A000, replication_refused",
		why:      "a replication connection is tied to one server and its timeline: a proxy that changes servers under it would corrupt the receiver",
	}
	// impossibleAnswer: a length that no answer to an authentication request can have.
	impossibleAnswer = &difference{
		postgres: "closes without a word",
		pgtether: "FATAL 08P01, malformed_startup",
		why:      "the proxy reads the answer itself, knows that it is the client's fault, and says so; a token that is too long for PostgreSQL otherwise looks like a network fault",
	}
	// tooLongForServer: which lengths are too long depends on the type and on the server's version. The proxy does not judge them.
	tooLongForServer = &difference{
		postgres: "closes without a word",
		pgtether: "FATAL 08006, writer_lost",
		why:      "a server that closes in the middle of a message which it could have taken is lost, as far as anybody can tell; the client is told so in the class that pools evict on",
	}
)

// differences lists them by name.
var differences = map[string]*difference{
	"gluedInClear":      gluedInClear,
	"noGSS":             noGSS,
	"gluedToTLS":        gluedToTLS,
	"clearInsteadOfTLS": clearInsteadOfTLS,
	"directTLS":         directTLS,
	"otherALPN":         otherALPN,
	"noReplication":     noReplication,
	"impossibleAnswer":  impossibleAnswer,
	"tooLongForServer":  tooLongForServer,
}
