package abuse

import (
	"crypto/tls"
	"strings"
)

func oldest(version uint16) func(*tls.Config) {
	return func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, version }
}

func alpn(names ...string) func(*tls.Config) {
	return func(c *tls.Config) { c.NextProtos = names }
}

// handshakes are encryption requests to a server that encrypts, whose clients then do something else.
func handshakes() []input {
	ssl := send(sslRequest)
	after := func(name, want, postgres string, d *difference, count counts, steps ...step) input {
		in := input{name: name, does: append([]step{ssl, answer}, steps...), want: "S " + want, counts: count}
		if d != nil {
			in.differs, in.postgres = d, "S "+postgres
		}
		return in
	}
	clear := func(name, bytes, postgres string) input {
		return after(name, "FATAL/08P01 closed", postgres, clearInsteadOfTLS, refused("plaintext_after_ssl_request"), send(bytes))
	}
	failed := func(name, want string, steps ...step) input {
		return after(name, want, "", nil, refused("bad_startup_length"), steps...)
	}
	glued := func(name, bytes string) input {
		return input{name: name, does: []step{send(sslRequest + bytes), answer, halfClose}, want: "FATAL/08P01 closed", differs: gluedToTLS, postgres: "S closed",
			counts: refused("plaintext_after_ssl_request")}
	}
	return []input{
		glued("a startup packet glued to the SSLRequest", loginAs(trusted)),
		glued("a ClientHello glued to the SSLRequest", clientHello(3)),
		glued("a byte glued to the SSLRequest", "\x16"),
		clear("a startup packet in clear after the 'S'", loginAs(trusted), "closed"),
		clear("a CancelRequest in clear after the 'S'", key{1, "abcd"}.request(), "closed"),
		clear("another SSLRequest in clear after the 'S'", sslRequest, "closed"),
		clear("HTTP in clear after the 'S'", "GET / HTTP/1.1\r\n\r\n", "closed"),
		clear("a query in clear after the 'S'", query("SELECT 1"), "closed"),
		clear("zero bytes after the 'S'", strings.Repeat("\x00", 100), "closed"),
		after("nothing after the 'S'", "closed", "", nil, nothing, halfClose),
		after("a byte of a ClientHello", "closed", "", nil, nothing, send("\x16"), halfClose),
		after("half a ClientHello", "closed", "", nil, nothing, send(clientHello(3)[:20]), halfClose),
		failed("a ClientHello whose record is longer than records are", "an alert closed", send("\x16\x03\x01\xff\xff"+strings.Repeat("x", 100))),
		failed("a ClientHello that is garbage", "an alert closed", send("\x16\x03\x01\x00\x40"+strings.Repeat("\xaa", 64))),
		failed("a ServerHello", "an alert closed", send("\x16\x03\x03\x00\x04\x02\x00\x00\x00")),
		failed("a ClientHello of TLS 1.0 at most", "an alert closed", send(clientHello(1))),
		failed("TLS 1.1 at most", "no TLS closed", encrypt(oldest(tls.VersionTLS11))),
		after("TLS, then nothing", "TLS closed", "", nil, nothing, encrypt(nil), halfClose),
		after("TLS, then its end", "TLS closed", "", nil, nothing, encrypt(nil), endTLS),
		after("ALPN of HTTP", "no TLS closed", "TLS in closed", otherALPN, refused("bad_startup_length"), encrypt(alpn("h2", "http/1.1")), in, leave),
		after("ALPN of postgresql among others", "TLS in closed", "", nil, leftIt, encrypt(alpn("http/1.1", "postgresql")), in, leave),
	}
}

// directly are clients that begin with TLS.
func directly() []input {
	direct := func(name, want string, count counts, steps ...step) input {
		return input{name: name, does: steps, want: want, differs: directTLS, postgres: "no TLS closed", counts: count}
	}
	return []input{
		direct("direct TLS without ALPN", "TLS closed", refused("bad_startup_length"), encrypt(nil)),
		{name: "direct TLS with ALPN of HTTP, as a browser does", does: []step{encrypt(alpn("h2", "http/1.1"))}, want: "no TLS closed", counts: refused("bad_startup_length")},
		direct("direct TLS, then an SSLRequest", "TLS FATAL/0A000 closed", refused("unsupported_protocol"), encrypt(alpn("postgresql")), send(sslRequest)),
		direct("direct TLS, then a GSSENCRequest", "TLS FATAL/0A000 closed", refused("unsupported_protocol"), encrypt(alpn("postgresql")), send(gssRequest)),
		direct("direct TLS, then HTTP", "TLS closed", refused("bad_startup_length"), encrypt(alpn("postgresql")), send("GET / HTTP/1.1\r\n\r\n")),
		direct("direct TLS, then nothing", "TLS closed", nothing, encrypt(alpn("postgresql")), halfClose),
		direct("direct TLS as it should be", "TLS in closed", leftIt, encrypt(alpn("postgresql")), in, leave),
		{name: "a ClientHello of garbage", does: []step{send("\x16\x03\x01\x00\x04junk"), drained}, want: "closed", counts: refused("bad_startup_length")},
		{name: "a ClientHello after a refused GSSENCRequest", does: []step{send(gssRequest), answer, send(clientHello(3))},
			want: "N closed", differs: noGSS, postgres: "G closed", counts: refused("bad_startup_length")},
	}
}

// insideTLS are bad inputs that arrive encrypted. They get what they get in clear, and get it encrypted.
func insideTLS() []input {
	inside := func(name, want string, count counts, steps ...step) input {
		return input{name: name, does: append([]step{send(sslRequest), answer, encrypt(nil)}, steps...), want: "S TLS " + want, counts: count}
	}
	return []input{
		inside("SSLRequest", "FATAL/0A000 closed", refused("unsupported_protocol"), send(sslRequest)),
		inside("GSSENCRequest", "FATAL/0A000 closed", refused("unsupported_protocol"), send(gssRequest)),
		inside("a length of 0", "closed", refused("bad_startup_length"), send(word(0)+word(version30))),
		inside("a length of -1", "closed", refused("bad_startup_length"), send(word(-1)+word(version30))),
		inside("HTTP", "closed", refused("bad_startup_length"), send("GET / HTTP/1.1\r\n\r\n")),
		inside("a ClientHello inside TLS", "closed", refused("bad_startup_length"), send(clientHello(3))),
		inside("half a startup packet", "closed", nothing, send(loginAs(trusted)[:20]), endTLS),
		inside("a startup packet without its terminator", "FATAL/08P01 closed", refused("malformed_startup"), send(packet(version30, "user\x00trusted\x00"))),
		inside("no user", "FATAL/28000 closed", refused("missing_user"), send(startup("database", "postgres"))),
		inside("protocol 2.0", "FATAL(2) closed", refused("unsupported_protocol"), send(startupOf(2<<16, "user", trusted))),
		inside("a cancel request with a wrong key", "closed", counts{"cancels unknown_key": 1}, send(key{4711, "abcd"}.request())),
		inside("a cancel request with the right key", "closed", counts{"cancels forwarded": 1}, cancel(key.request)),
		inside("a wrong password", "R3 FATAL/28P01 closed", serverRefused, send(loginAs(cleartext)), hear('R'), send(msg('p', "wrong\x00"))),
		inside("a message of an unknown type", "in FATAL/08P01 closed", endedByServer, in, send(msg('~', ""))),
		inside("a length of -1 in a session", "in closed", endedByServer, in, send(lying('Q', -1, "x"))),
		inside("half a query", "in closed", leftIt, in, send(query("SELECT 1")[:5]), endTLS),
		inside("bytes in clear in a session", "in closed", lostClient, in, inTheClear("SELECT 1")),
		inside("a record that was tampered with", "in closed", lostClient, in, inTheClear("\x17\x03\x03\x00\x20"+strings.Repeat("t", 32))),
		inside("the end of TLS without a Terminate", "in closed", leftIt, in, endTLS),
		inside("a hang-up without the end of TLS", "in gone", leftIt, in, hangUp),
	}
}

// requiredTLS are clients in clear of a listener that demands TLS. A server demands it in pg_hba.conf.
func requiredTLS() []input {
	return []input{
		{name: "a login in clear", does: []step{send(loginAs(tlsOnly))}, want: "FATAL/28000 closed", counts: refused("tls_required")},
		{name: "a login in clear after a refused GSSENCRequest", does: []step{send(gssRequest), answer, send(loginAs(tlsOnly))}, want: "N FATAL/28000 closed",
			differs: noGSS, postgres: "G closed", counts: refused("tls_required")},
		{name: "no user, in clear", does: []step{send(startup("database", "postgres"))}, want: "FATAL/28000 closed", counts: refused("missing_user")},
		{name: "protocol 2.0 in clear", does: []step{send(startupOf(2<<16, "user", tlsOnly))}, want: "FATAL(2) closed", counts: refused("unsupported_protocol")},
		{name: "a length of 0 in clear", does: []step{send(word(0))}, want: "closed", counts: refused("bad_startup_length")},
		{name: "a cancel request in clear, as drivers send it", does: []step{cancel(key.request)}, want: "closed", counts: counts{"cancels forwarded": 1}},
		{name: "a wrong cancel request in clear", does: []step{send(key{4711, "abcd"}.request())}, want: "closed", counts: counts{"cancels unknown_key": 1}},
		{name: "a login over TLS", does: []step{send(sslRequest), answer, encrypt(nil), send(loginAs(tlsOnly)), inAfter, leave}, want: "S TLS in closed", counts: leftIt},
	}
}

// passedThrough are clients of a listener that hands TLS to the node: what is inside is between the two, and what is in clear is the proxy's.
func passedThrough() []input {
	ssl := send(sslRequest)
	server := counts{"logins pinned": 1, "sessions server": 1}
	inside := func(name, want string, count counts, steps ...step) input {
		return input{name: name + ", inside TLS", does: append([]step{ssl, answer, encrypt(nil)}, steps...), want: "S TLS " + want, counts: count}
	}
	return []input{
		{name: "a length of 0", does: []step{send(word(0))}, want: "closed", counts: refused("bad_startup_length")},
		{name: "HTTP", does: []step{send("GET / HTTP/1.1\r\n\r\n")}, want: "closed", counts: refused("bad_startup_length")},
		{name: "SSLRequest with a startup packet glued to it", does: []step{send(sslRequest + loginAs(trusted)), answer, halfClose}, want: "FATAL/08P01 closed",
			differs: gluedToTLS, postgres: "S closed", counts: refused("plaintext_after_ssl_request")},
		{name: "SSLRequest, then nothing", does: []step{ssl, answer, halfClose}, want: "S closed", counts: leftIt},
		{name: "SSLRequest, then a startup packet in clear", does: []step{ssl, answer, send(loginAs(trusted))}, want: "S closed", counts: server},
		{name: "SSLRequest, then garbage", does: []step{ssl, answer, send("\x16\x03\x01\x00\x40" + strings.Repeat("\xaa", 64)), drained}, want: "S closed", counts: server},
		{name: "SSLRequest, then half a ClientHello", does: []step{ssl, answer, send(clientHello(3)[:20]), halfClose}, want: "S closed", counts: leftIt},
		{name: "direct TLS to a server that does not know it", does: []step{send(clientHello(3)), drained}, want: "closed", counts: server},
		{name: "the first byte of a ClientHello", does: []step{send("\x16"), halfClose}, want: "closed", counts: leftIt},
		inside("a second SSLRequest", "FATAL/0A000 closed", server, ssl),
		inside("a length of 0", "closed", server, send(word(0))),
		inside("a startup packet without its terminator", "FATAL/08P01 closed", server, send(packet(version30, "user\x00trusted\x00"))),
		inside("no user", "FATAL/28000 closed", server, send(startup("database", "postgres"))),
		inside("protocol 2.0", "FATAL(2) closed", server, send(startupOf(2<<16, "user", trusted))),
		inside("a wrong password", "R3 FATAL/28P01 closed", server, send(loginAs(cleartext)), hear('R'), send(msg('p', "wrong\x00"))),
		inside("a message of an unknown type", "in FATAL/08P01 closed", server, in, send(msg('~', ""))),
		inside("replication, which nobody can see", "R10 closed", leftIt, send(loginAs("keycloak", "replication", "true")), hear('R'), endTLS),
		inside("a session", "in closed", leftIt, in, leave),
	}
}
