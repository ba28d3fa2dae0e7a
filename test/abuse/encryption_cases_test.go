package abuse

// gss completes an input that asks for GSSAPI encryption: want is what comes back from pgtether, and from a server without GSSAPI.
func gss(name, want, postgres string, count counts, steps ...step) input {
	return input{name: name, does: steps, want: want, differs: noGSS, postgres: postgres, counts: count}
}

// requestsInClear are encryption requests to a server that does not encrypt.
func requestsInClear() []input {
	ssl, gssenc := send(sslRequest), send(gssRequest)
	twice, early := refused("unsupported_protocol"), refused("plaintext_after_ssl_request")
	glued := func(name, bytes string) input {
		return input{name: name, does: []step{send(bytes), answer}, want: "FATAL/08P01 closed", differs: gluedInClear, postgres: "N FATAL/08P01 closed",
			counts: refused("plaintext_after_ssl_request")}
	}
	badAfter := func(name, bytes string) input {
		return input{name: name, does: []step{ssl, answer, send(bytes)}, want: "N closed", counts: refused("bad_startup_length")}
	}
	return []input{
		{name: "SSLRequest twice", does: []step{ssl, answer, ssl}, want: "N FATAL/0A000 closed", counts: twice},
		{name: "SSLRequest three times at once after the first answer", does: []step{ssl, answer, send(sslRequest, sslRequest, sslRequest)},
			want: "N FATAL/0A000 closed", counts: twice},
		gss("GSSENCRequest twice", "N FATAL/0A000 closed", "G closed", twice, gssenc, answer, gssenc),
		gss("SSLRequest, GSSENCRequest, SSLRequest", "N*2 FATAL/0A000 closed", "N G closed", twice, ssl, answer, gssenc, answer, ssl),
		gss("GSSENCRequest, SSLRequest, GSSENCRequest", "N*2 FATAL/0A000 closed", "G closed", twice, gssenc, answer, ssl, answer, gssenc),
		gss("GSSENCRequest, SSLRequest, SSLRequest", "N*2 FATAL/0A000 closed", "G closed", twice, gssenc, answer, ssl, answer, ssl),
		gss("GSSENCRequest with a startup packet glued to it", "FATAL/08P01 closed", "G closed", early, send(gssRequest+loginAs(trusted)), answer),
		gss("GSSENCRequest with an SSLRequest glued to it", "FATAL/08P01 closed", "G closed", early, send(gssRequest+sslRequest), answer),
		gss("SSLRequest, then GSSENCRequest with a byte glued to it", "N FATAL/08P01 closed", "N G closed", early, ssl, answer, send(gssRequest+"x"), answer),
		gss("both requests, then a login in clear", "N*2 in closed", "N G closed", leftIt, ssl, answer, gssenc, answer, send(loginAs(trusted)), inAfter, leave),
		glued("SSLRequest with a startup packet glued to it", sslRequest+loginAs(trusted)),
		glued("SSLRequest with a single byte glued to it", sslRequest+"\x00"),
		glued("SSLRequest with a ClientHello glued to it", sslRequest+clientHello(3)),
		glued("SSLRequest with another glued to it", sslRequest+sslRequest),
		glued("SSLRequest with a CancelRequest glued to it", sslRequest+key{1, "abcd"}.request()),
		badAfter("SSLRequest, then a ClientHello in spite of the 'N'", clientHello(3)),
		badAfter("SSLRequest, then HTTP", "GET / HTTP/1.1\r\n\r\n"),
		badAfter("SSLRequest, then a length of 0", word(0)+word(version30)),
		badAfter("SSLRequest, then a length of -1", word(-1)+word(version30)),
		{name: "SSLRequest, then nothing", does: []step{ssl, answer, halfClose}, want: "N closed", counts: nothing},
		{name: "SSLRequest, then half a startup packet", does: []step{ssl, answer, send(loginAs(trusted)[:20]), halfClose}, want: "N closed", counts: nothing},
		{name: "SSLRequest of 12 bytes", does: []step{send(packet(sslCode, "junk")), answer, send(loginAs(trusted)), inAfter, leave}, want: "N in closed", counts: leftIt},
		{name: "SSLRequest of 10,004 bytes", does: []step{send(packet(sslCode, string(make([]byte, longestBody-4)))), answer, halfClose}, want: "N closed", counts: nothing},
		{name: "a TLS 1.0 ClientHello to a server that does not encrypt", does: []step{send(clientHello(1))}, want: "closed", counts: refused("bad_startup_length")},
		{name: "a TLS 1.2 ClientHello to a server that does not encrypt", does: []step{send(clientHello(3))}, want: "closed", counts: refused("bad_startup_length")},
		{name: "an SSL 2 ClientHello", does: []step{send("\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + string(make([]byte, 37)))}, want: "closed", counts: refused("bad_startup_length")},
		{name: "a TLS alert", does: []step{send("\x15\x03\x01\x00\x02\x01\x00\x00")}, want: "closed", counts: refused("bad_startup_length")},
		{name: "the first byte of a ClientHello alone", does: []step{send("\x16"), halfClose}, want: "closed", counts: refused("bad_startup_length")},
	}
}
