package abuse

import (
	"fmt"
	"strings"
)

// cancels are cancel requests that must reach nobody. PostgreSQL answers none of them; what they did shows in what is counted and in that the
// session whose number they bear lives on.
func cancels() []input {
	unknown := func(name string, make func(victim key) string) input {
		return input{name: name, does: []step{cancel(make)}, want: "closed", counts: counts{"cancels unknown_key": 1}}
	}
	malformed := func(name, bytes string) input {
		return input{name: name, does: []step{send(bytes)}, want: "closed", counts: refused("bad_startup_length")}
	}
	all := []input{
		unknown("a session nobody has", func(key) string { return key{4711, "abcd"}.request() }),
		unknown("process 0 with a secret of zero bytes", func(key) string { return key{0, "\x00\x00\x00\x00"}.request() }),
		unknown("process -1", func(key) string { return key{1<<32 - 1, "\xff\xff\xff\xff"}.request() }),
		unknown("the right process, another secret", func(v key) string { return key{v.pid, "\x00\x00\x00\x00"}.request() }),
		unknown("the right process, a bit of the secret wrong", func(v key) string {
			return key{v.pid, string(v.secret[0]^1) + v.secret[1:]}.request()
		}),
		unknown("the right process, the secret reversed", func(v key) string {
			return key{v.pid, string([]byte{v.secret[3], v.secret[2], v.secret[1], v.secret[0] ^ 0x80})}.request()
		}),
		unknown("the right secret, the next process", func(v key) string { return key{v.pid + 1, v.secret}.request() }),
		unknown("the right secret, the process little-endian", func(v key) string {
			return key{v.pid<<24 | v.pid<<8&0xff0000 | v.pid>>8&0xff00 | v.pid>>24, v.secret}.request()
		}),
		{name: "the key of a session that has ended", does: []step{func(p *peer) { p.send(p.spent.request()) }}, want: "closed", counts: counts{"cancels unknown_key": 1}},
		unknown("a wrong key with a startup packet glued to it", func(key) string { return key{4711, "abcd"}.request() + loginAs(trusted) }),
		unknown("a wrong key twice in one segment", func(v key) string { return strings.Repeat(key{v.pid, "abcd"}.request(), 2) }),
		{name: "the right key for an idle session", does: []step{cancel(key.request)}, want: "closed", counts: counts{"cancels forwarded": 1}},
		{name: "the right key after both encryption requests were refused", does: []step{send(sslRequest), answer, cancel(key.request)},
			want: "N closed", counts: counts{"cancels forwarded": 1}},
		malformed("no key at all", packet(cancelCode, "")),
		malformed("a process and no secret", packet(cancelCode, word(4711))),
		malformed("a secret of one byte", key{4711, "a"}.request()),
		malformed("a secret of three bytes", key{4711, "abc"}.request()),
		malformed("a secret of 257 bytes", key{4711, strings.Repeat("k", 257)}.request()),
		malformed("a secret of 9,992 bytes", key{4711, strings.Repeat("k", longestBody-8)}.request()),
		malformed("a length above the longest", lengthened(key{4711, "abcd"}.request(), longestBody+5)),
	}
	// From protocol 3.2 on a secret has 4 to 256 bytes. A server that does not speak it closes all the same.
	for _, n := range []int{5, 8, 31, 32, 33, 255, 256} {
		all = append(all, unknown(fmt.Sprintf("a secret of %d bytes that begins with the right ones", n), func(v key) string {
			return key{v.pid, v.secret + strings.Repeat("\x00", n-4)}.request()
		}))
	}
	return all
}

// lengthened is a packet with another length word.
func lengthened(packet string, length int64) string { return word(length) + packet[4:] }
