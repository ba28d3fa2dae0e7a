package abuse

import (
	"fmt"
	"strings"
)

// lengthWords are first packets whose length word PostgreSQL does not take: below 8 or above 10,004. It closes without a word.
func lengthWords() []input {
	words := []struct {
		name string
		n    int64
	}{
		{"0", 0}, {"1", 1}, {"4, itself alone", 4}, {"5", 5}, {"7, one below a version", 7},
		{"10005, one above the longest", longestBody + 5}, {"65536", 65536}, {"16 MiB", 1 << 24},
		{"1 GiB", 1 << 30}, {"2 GiB - 1", 1<<31 - 1}, {"-2147483648", 1 << 31}, {"-2147483647", 1<<31 + 1},
		{"-8, a version in two's complement", 1<<32 - 8}, {"-2", 1<<32 - 2}, {"-1", 1<<32 - 1}, {"little-endian 8", 8 << 24},
	}
	var all []input
	for _, w := range words {
		all = append(all, input{name: "length " + w.name, does: []step{send(word(w.n), word(version30), "user\x00trusted\x00\x00")},
			want: "closed", counts: refused("bad_startup_length")})
	}
	return all
}

// truncated are first packets whose client goes away in the middle. PostgreSQL closes without a word; nobody was refused.
func truncated() []input {
	login := loginAs(trusted)
	cut := func(what, packet string, at ...int) (all []input) {
		for _, n := range at {
			all = append(all, input{name: fmt.Sprintf("%s ends after %d of %d bytes", what, n, len(packet)),
				does: []step{send(packet[:n]), halfClose}, want: "closed", counts: nothing})
		}
		return all
	}
	all := []input{{name: "a connection without a byte", does: []step{halfClose}, want: "closed", counts: nothing}}
	all = append(all, cut("startup packet", login, 1, 2, 3, 4, 5, 7, 8, 9, 12, 13, 14, 20, 21, len(login)-2, len(login)-1)...)
	all = append(all, cut("SSLRequest", sslRequest, 1, 3, 4, 5, 7)...)
	all = append(all, cut("GSSENCRequest", gssRequest, 1, 4, 7)...)
	all = append(all, cut("CancelRequest", key{1, "abcd"}.request(), 1, 4, 8, 11, 12, 15)...)
	all = append(all, cut("longest startup packet", padded(longestBody+4), 9, 1024, longestBody+3)...)
	return all
}

// contradictions are startup packets whose inside does not fit their length, or is not what a server can use.
func contradictions() []input {
	malformed := func(name, body string) input {
		return input{name: name, does: []step{send(packet(version30, body))}, want: "FATAL/08P01 closed", counts: refused("malformed_startup")}
	}
	return []input{
		malformed("no parameters and no terminator", ""),
		malformed("a name that never ends", "user"),
		malformed("a name without a value", "user\x00"),
		malformed("a value that never ends", "user\x00trusted"),
		malformed("no terminator", "user\x00trusted\x00"),
		malformed("a byte after the terminator", "user\x00trusted\x00\x00x"),
		malformed("a parameter after the terminator", "user\x00trusted\x00\x00database\x00postgres\x00\x00"),
		malformed("two terminators", "user\x00trusted\x00\x00\x00"),
		malformed("the terminator in the middle", "user\x00trusted\x00\x00database\x00postgres\x00"),
		malformed("a last name without a value", "user\x00trusted\x00database\x00"),
		malformed("only bytes that are not zero", strings.Repeat("A", 200)),
		malformed("the longest packet without a zero byte", strings.Repeat("\xff", longestBody-4)),
		malformed("only zero bytes", strings.Repeat("\x00", 64)),
		{name: "a terminator alone", does: []step{send(packet(version30, "\x00"))}, want: "FATAL/28000 closed", counts: refused("missing_user")},
		{name: "a database and no user", does: []step{send(startup("database", "postgres"))}, want: "FATAL/28000 closed", counts: refused("missing_user")},
		{name: "an empty user", does: []step{send(startup("user", "", "database", "postgres"))}, want: "FATAL/28000 closed", counts: refused("missing_user")},
		{name: "a user, then an empty one", does: []step{send(startup("user", trusted, "user", ""))}, want: "FATAL/28000 closed", counts: refused("missing_user")},
		{name: "USER in capitals", does: []step{send(startup("USER", trusted))}, want: "FATAL/28000 closed", counts: refused("missing_user")},
	}
}

// oddities are startup packets that are well formed and that the server itself has something to say about.
func oddities() []input {
	server := func(name, want string, params ...string) input {
		return input{name: name, does: []step{send(loginAs(trusted, params...)), halfClose}, want: "R0 " + want, counts: serverRefused}
	}
	served := func(name string, packet string) input {
		return input{name: name, does: []step{send(packet), inAfter, leave}, want: "in closed", counts: leftIt}
	}
	many := []string{}
	for range 500 {
		many = append(many, "application_name", "x")
	}
	return []input{
		served("the longest packet", padded(longestBody+4)),
		served("500 times the same parameter", loginAs(trusted, many...)),
		served("two users, the last one counts", startup("user", "nobody", "database", "postgres", "user", trusted)),
		served("two databases, the last one counts", startup("user", trusted, "database", "nowhere", "database", "postgres")),
		served("an empty database is the user's", startup("user", "postgres_"+trusted, "user", trusted, "database", "", "database", "postgres")),
		served("an application_name with control characters", loginAs(trusted, "application_name", "a\nlevel=ERROR msg=forged\r\x1b[31m")),
		served("an application_name that is no UTF-8", loginAs(trusted, "application_name", "\xff\xfe")),
		{name: "an application_name of 9,000 bytes", does: []step{send(loginAs(trusted, "application_name", strings.Repeat("n", 9000))), hear('Z'), leave},
			want: "R0 NOTICE/42622 ZI closed", counts: leftIt},
		server("a parameter that does not exist", "FATAL/42704 closed", "no_such_parameter", "1"),
		server("a parameter name of 9,000 bytes", "FATAL/42704 closed", strings.Repeat("n", 9000), "1"),
		server("a client_encoding that does not exist", "FATAL/22023 closed", "client_encoding", "EBCDIC"),
		server("a DateStyle that does not exist", "FATAL/22023 closed", "DateStyle", "Julian"),
		server("a parameter that needs a restart", "FATAL/55P02 closed", "max_connections", "10000"),
		server("a parameter for superusers alone", "FATAL/42501 closed", "options", "-c log_statement=none"),
		server("options that cannot be parsed", "FATAL/42601 closed", "options", "-c"),
		server("options with a switch that does not exist", "FATAL/42601 closed", "options", "-Z"),
		server("options that ask for replication", "FATAL/42704 closed", "options", "-c replication=true"),
		server("a database that does not exist", "FATAL/3D000 closed", "database", "nowhere"),
		server("a database with a name of 5,000 bytes", "FATAL/3D000 closed", "database", strings.Repeat("d", 5000)),
		server("a database whose name is SQL", "FATAL/3D000 closed", "database", `"; DROP TABLE t; --`),
		server("a database with line ends in its name", "FATAL/3D000 closed", "database", "x\nlevel=ERROR"),
	}
}

// versions are startup packets of other protocols.
func versions() []input {
	old := func(major, minor int64) input {
		return input{name: fmt.Sprintf("protocol %d.%d", major, minor), does: []step{send(startupOf(major<<16|minor, "user", trusted))},
			want: "FATAL(2) closed", counts: refused("unsupported_protocol")}
	}
	late := func(name string, version int64) input {
		return input{name: name, does: []step{send(startupOf(version, "user", trusted))}, want: "FATAL/0A000 closed", counts: refused("unsupported_protocol")}
	}
	negotiated := func(name, want string, version int64, params ...string) input {
		packet := startupOf(version, append([]string{"user", trusted, "database", "postgres"}, params...)...)
		return input{name: name, does: []step{send(packet), hear('Z'), leave}, want: want + " R0 ZI closed", counts: leftIt}
	}
	return []input{
		late("protocol 0.0, which PostgreSQL takes for none yet", 0),
		old(0, 768), old(0, 1), old(1, 0), old(2, 0), old(2, 1), old(2, 65535),
		{name: "protocol 2.0 as its clients sent it, 296 bytes", does: []step{send(packet(2<<16, "postgres"+strings.Repeat("\x00", 280)))},
			want: "FATAL(2) closed", counts: refused("unsupported_protocol")},
		{name: "protocol 2.0 without anything", does: []step{send(packet(2<<16, ""))}, want: "FATAL(2) closed", counts: refused("unsupported_protocol")},
		late("protocol 4.0", 4<<16), late("protocol 65535.65535", 0xffffffff),
		late("protocol 1234.5677, one below a CancelRequest", cancelCode-1), late("protocol 1234.5681, one above a GSSENCRequest", gssCode+1),
		late("protocol 32768.0", 1<<31),
		negotiated("protocol 3.1, which never was", "v3.0[]", version30+1),
		negotiated("protocol 3.2 on a server of 3.0", "v3.0[]", version30+2),
		negotiated("protocol 3.9999", "v3.0[]", version30+9999),
		negotiated("protocol 3.65535", "v3.0[]", version30+65535),
		negotiated("an unknown protocol option", "v3.0[_pq_.fast]", version30, "_pq_.fast", "1"),
		negotiated("an option with an empty name", "v3.0[_pq_.]", version30, "_pq_.", ""),
		negotiated("two options and a late version", "v3.0[_pq_.a,_pq_.b]", version30+7, "_pq_.a", "", "_pq_.b", "2"),
	}
}
