package abuse

import (
	"encoding/base64"
	"strings"
)

// passwords are answers to requests for a password.
func passwords() []input {
	answered := func(role, name, request, answer, want string) input {
		return input{name: role + ": " + name, does: []step{send(loginAs(role)), hear('R'), send(answer)}, want: request + " " + want, counts: serverRefused}
	}
	var all []input
	for _, asked := range [][2]string{{cleartext, "R3"}, {hashed, "R5"}} {
		role, request := asked[0], asked[1]
		refused := func(name, answer, want string) { all = append(all, answered(role, name, request, answer, want)) }
		impossible := func(name string, length int64) {
			in := answered(role, name, request, lying('p', length, "secret\x00"), "FATAL/08P01 closed")
			in.differs, in.postgres, in.counts = impossibleAnswer, request+" closed", refusedLogin("malformed_startup")
			all = append(all, in)
		}
		refused("a wrong password", msg('p', "wrong\x00"), "FATAL/28P01 closed")
		refused("a password of 60,000 bytes", msg('p', strings.Repeat("p", 60000)+"\x00"), "FATAL/28P01 closed")
		refused("an empty password", msg('p', "\x00"), "FATAL/28P01 closed")
		refused("a password without its zero byte", msg('p', password), "FATAL/08P01 closed")
		refused("a password with a zero byte inside", msg('p', "sec\x00ret\x00"), "FATAL/08P01 closed")
		refused("an answer without a body", msg('p', ""), "FATAL/08P01 closed")
		refused("a query in place of the password", query("SELECT 1"), "FATAL/08P01 closed")
		refused("a Terminate in place of the password", terminate, "FATAL/08P01 closed")
		refused("a Sync in place of the password", syncMsg, "FATAL/08P01 closed")
		refused("a message of type 0", msg(0, "secret\x00"), "FATAL/08P01 closed")
		refused("a SASL answer in place of the password", scramFirst("n,,n=,r="+scramNonce), "FATAL/08P01 closed")
		impossible("a length of 0", 0)
		impossible("a length of 3", 3)
		impossible("a length of 65536", 65536)
		impossible("a length of 1 GiB", 1<<30)
		impossible("a length of 2 GiB", 1<<31)
		impossible("a length of -1", -1)
		all = append(all, input{name: role + ": half an answer", does: []step{send(loginAs(role)), hear('R'), send(msg('p', password)[:7]), halfClose},
			want: request + " closed", counts: clientGone})
		all = append(all, input{name: role + ": no answer", does: []step{send(loginAs(role)), hear('R'), halfClose}, want: request + " closed", counts: clientGone})
	}
	return append(all,
		input{name: "cleartext: the password before it was asked for", does: []step{send(loginAs(cleartext), msg('p', password+"\x00")), hear('Z'), leave},
			want: "R3 R0 ZI closed", counts: leftIt},
		input{name: "cleartext: the password and a query in one segment", does: []step{send(loginAs(cleartext)), hear('R'),
			send(msg('p', password+"\x00"), query("SELECT 1")), hear('Z'), hear('Z'), leave}, want: "R3 R0 ZI T D C ZI closed", counts: leftIt},
		input{name: "a role that does not exist", does: []step{send(loginAs("nobody")), hear('R'), scramFinal(scramProof(password))}, want: "R10 R11 FATAL/28P01 closed", counts: serverRefused},
		input{name: "a role with a name of 4,000 bytes", does: []step{send(startup("user", strings.Repeat("u", 4000), "database", "postgres")), hear('R'), scramFinal(scramProof(password))},
			want: "R10 R11 FATAL/28P01 closed", counts: serverRefused},
		input{name: "a role whose name is no UTF-8", does: []step{send(loginAs("\xff\xfe\xfd")), hear('R'), scramFinal(scramProof(password))}, want: "R10 R11 FATAL/28P01 closed", counts: serverRefused},
		input{name: "a role with line ends in its name", does: []step{send(loginAs("x\ntime=now level=ERROR msg=forged")), hear('R'), scramFinal(scramProof(password))},
			want: "R10 R11 FATAL/28P01 closed", counts: serverRefused},
	)
}

// saslFirsts are answers to the offer of SCRAM.
func saslFirsts() []input {
	first := func(name, answer, want string) input {
		return input{name: name, does: []step{send(loginAs("keycloak")), hear('R'), send(answer)}, want: "R10 " + want, counts: serverRefused}
	}
	scram := func(name, message, want string) input { return first(name, scramFirst(message), want) }
	raw := func(mechanism string, length int64, message string) string {
		return msg('p', mechanism+"\x00"+word(length)+message)
	}
	const good = "n,,n=,r=" + scramNonce
	return []input{
		first("an empty answer", msg('p', ""), "FATAL/08P01 closed"),
		first("a mechanism that was not offered", raw("SCRAM-SHA-1", int64(len(good)), good), "FATAL/08P01 closed"),
		first("a mechanism for TLS alone", raw("SCRAM-SHA-256-PLUS", int64(len(good)), good), "FATAL/08P01 closed"),
		first("an empty mechanism", raw("", int64(len(good)), good), "FATAL/08P01 closed"),
		first("a mechanism that never ends", msg('p', "SCRAM-SHA-256"), "FATAL/08P01 closed"),
		first("a mechanism and no length", msg('p', "SCRAM-SHA-256\x00"), "FATAL/08P01 closed"),
		first("a length one too short", raw("SCRAM-SHA-256", int64(len(good))-1, good), "FATAL/08P01 closed"),
		first("a length one too long", raw("SCRAM-SHA-256", int64(len(good))+1, good), "FATAL/08P01 closed"),
		first("a length of 2 GiB - 1", raw("SCRAM-SHA-256", 1<<31-1, good), "FATAL/08P01 closed"),
		first("a length of -2", raw("SCRAM-SHA-256", -2, good), "FATAL/08P01 closed"),
		first("a password in place of SASL", msg('p', password+"\x00"), "FATAL/08P01 closed"),
		first("a query in place of SASL", query("SELECT 1"), "FATAL/08P01 closed"),
		first("a startup packet in place of SASL", loginAs(trusted), "FATAL/08P01 closed"),
		scram("an empty message", "", "FATAL/08P01 closed"),
		scram("a zero byte inside", "n,,n=,r=abc\x00def", "FATAL/08P01 closed"),
		scram("no header", "n=,r="+scramNonce, "FATAL/08P01 closed"),
		scram("channel binding without TLS", "p=tls-server-end-point,,n=,r="+scramNonce, "FATAL/08P01 closed"),
		scram("an unknown channel binding flag", "z,,n=,r="+scramNonce, "FATAL/08P01 closed"),
		scram("an authorization identity", "n,a=postgres,n=,r="+scramNonce, "FATAL/0A000 closed"),
		scram("an extension that is mandatory", "n,,m=x,n=,r="+scramNonce, "FATAL/0A000 closed"),
		scram("no user attribute", "n,,r="+scramNonce, "FATAL/08P01 closed"),
		scram("no nonce", "n,,n=", "FATAL/08P01 closed"),
		scram("a nonce that cannot be printed", "n,,n=,r=\x01\x02\x03", "FATAL/08P01 closed"),
	}
}

// saslFinals are answers to the server's half of the nonce.
func saslFinals() []input {
	final := func(name, want string, make func(serverFirst string) string) input {
		return input{name: name, does: []step{send(loginAs("keycloak")), hear('R'), scramFinal(make)}, want: "R10 R11 " + want, counts: serverRefused}
	}
	proof := base64.StdEncoding.EncodeToString(make([]byte, 32))
	nonce := func(serverFirst string) string { return attribute(serverFirst, "r") }
	return []input{
		final("a proof of zero bytes", "FATAL/28P01 closed", func(m string) string { return "c=biws,r=" + nonce(m) + ",p=" + proof }),
		final("a proof for another password", "FATAL/28P01 closed", scramProof("wrong")),
		final("an empty answer", "FATAL/08P01 closed", func(string) string { return "" }),
		final("no proof", "FATAL/08P01 closed", func(m string) string { return "c=biws,r=" + nonce(m) }),
		final("a proof that is no base64", "FATAL/08P01 closed", func(m string) string { return "c=biws,r=" + nonce(m) + ",p=!!!!" }),
		final("a proof that is too short", "FATAL/08P01 closed", func(m string) string { return "c=biws,r=" + nonce(m) + ",p=AAAA" }),
		final("a proof that is too long", "FATAL/08P01 closed", func(m string) string { return "c=biws,r=" + nonce(m) + ",p=" + proof + proof }),
		final("something after the proof", "FATAL/08P01 closed", func(m string) string { return scramProof("keycloak")(m) + ",x=1" }),
		final("another nonce", "FATAL/08P01 closed", func(string) string { return "c=biws,r=" + scramNonce + "other,p=" + proof }),
		final("the client's half of the nonce alone", "FATAL/08P01 closed", func(string) string { return "c=biws,r=" + scramNonce + ",p=" + proof }),
		final("another channel binding", "FATAL/08P01 closed", func(m string) string { return "c=eSws,r=" + nonce(m) + ",p=" + proof }),
		final("no channel binding", "FATAL/08P01 closed", func(m string) string { return "r=" + nonce(m) + ",p=" + proof }),
		final("a zero byte inside", "FATAL/08P01 closed", func(m string) string { return "c=biws\x00,r=" + nonce(m) + ",p=" + proof }),
		final("the first message again", "FATAL/08P01 closed", func(string) string { return "n,,n=,r=" + scramNonce }),
	}
}
