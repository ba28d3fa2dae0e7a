package wire

import "encoding/binary"

// raw is a message of any type and body, with a length that is right.
func raw(typ byte, body string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{typ}, uint32(4+len(body)))
	return append(b, body...)
}

// withLength is a message header with any length, and some bytes behind it.
func withLength(typ byte, length uint32, rest string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{typ}, length), rest...)
}

// nonsenseScripts break the protocol after the login. The server's answer, or its silence, has to be the same.
func nonsenseScripts() []script {
	after := func(b ...[]byte) func(r *run) {
		return func(r *run) {
			p := r.open("a")
			for _, m := range b {
				p.send(m)
			}
			p.end()
		}
	}
	// The server reports these and goes on.
	answered := func(b ...[]byte) func(r *run) {
		return func(r *run) {
			p := r.open("a")
			for _, m := range b {
				p.send(m)
			}
			p.until("E")
			p.ask(syncNow)
			p.ask("SELECT 'still there'")
		}
	}
	return []script{
		{name: "a type that nobody knows", play: after(raw('z', "what is this"))},
		{name: "a type of the server's", play: after(raw('T', "\x00\x00"))},
		{name: "a byte 0", play: after(make([]byte, 20))},
		{name: "a password after the login", play: after(raw('p', "secret\x00"))},
		{name: "a second startup packet", play: after(startup(version30, "user", roleTrust))},
		{name: "an SSLRequest after the login", play: after(word(80877103))},
		{name: "a length of 0", play: after(withLength('Q', 0, ""))},
		{name: "a length of 3", play: after(withLength('Q', 3, ""))},
		{name: "a length of 2 GiB", play: after(withLength('Q', 1<<31-1, "SELECT"))},
		{name: "a negative length", play: after(withLength('Q', 1<<32-1, "SELECT"))},
		{name: "a Sync longer than any", play: after(withLength('S', 20_000, "s"))},
		{name: "an HTTP request", play: after([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"))},
		{name: "a Query without its end", play: answered(raw('Q', "SELECT 1"))},
		{name: "a Query with more behind its end", play: answered(raw('Q', "SELECT 1\x00SELECT 2\x00"))},
		{name: "an empty Query message", play: answered(raw('Q', ""))},
		{name: "a Parse that is cut off", play: answered(raw('P', "s\x00SELECT $1\x00\x00\x05"))},
		{name: "a Bind that is cut off", play: answered(raw('P', "\x00SELECT $1\x00\x00\x00"), raw('B', "\x00\x00\x00\x00\x00\x01\x00\x00\x00\x10ab"))},
		{name: "a Bind with a format that nobody knows", play: answered(raw('P', "\x00SELECT $1\x00\x00\x00"), raw('B', "\x00\x00\x00\x01\x00\x07\x00\x01\x00\x00\x00\x01a\x00\x00"))},
		{name: "a Describe of something else", play: answered(raw('D', "Xname\x00"))},
		{name: "a Close of something else", play: answered(raw('C', "Xname\x00"))},
		{name: "an Execute without its row limit", play: answered(raw('E', "\x00"))},
		{name: "a Sync with a body", play: answered(raw('S', "body"))},
		{name: "a Flush with a body", play: answered(raw('H', "body"))},
		{name: "a FunctionCall that is cut off", play: func(r *run) {
			p := r.open("a")
			p.ask(raw('F', "\x00\x00"))
			p.ask("SELECT 'still there'")
		}},
		{name: "text that is not in the client's encoding", play: func(r *run) {
			p := r.open("a")
			p.ask(raw('Q', "SELECT '\xff\xfe'\x00"))
			p.ask("SELECT 1")
		}},
	}
}
