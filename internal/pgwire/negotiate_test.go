package pgwire

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

func mustParse(t *testing.T, raw []byte) *Startup {
	t.Helper()
	s, err := ParseStartup(raw)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNegotiationAnswersWhatIsNotSpokenAndNothingElse(t *testing.T) {
	cases := []struct {
		name   string
		raw    []byte
		speak  Version // 0: no answer
		unrec  []string
		replay []byte
	}{
		{"3.0 is passed on as it came", plain, 0, nil, plain},
		{"3.2 is passed on as it came", startup(Version32, "user", "u"), 0, nil, startup(Version32, "user", "u")},
		{"3.1 was never released", startup(3<<16|1, "user", "u"), Version30, nil, startup(Version30, "user", "u")},
		{"a greater minor is told 3.2", startup(3<<16|3, "user", "u"), Version32, nil, startup(Version32, "user", "u")},
		{"libpq's test of the negotiation", startup(3<<16|9999, "user", "u", "_pq_.test_protocol_negotiation", "", "application_name", "psql"),
			Version32, []string{"_pq_.test_protocol_negotiation"}, startup(Version32, "user", "u", "application_name", "psql")},
		{"an option of 3.0", startup(Version30, "_pq_.a", "1", "user", "u", "_pq_.b", "2"), Version30, []string{"_pq_.a", "_pq_.b"}, startup(Version30, "user", "u")},
		{"order and duplicates stand", startup(3<<16|7, "user", "a", "options", "-c x=1", "user", "b"), Version32, nil,
			startup(Version32, "user", "a", "options", "-c x=1", "user", "b")},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			reply, replay := mustParse(t, c.raw).Negotiation()
			if (reply == nil) != (c.speak == 0) {
				t.Fatalf("answer %+v", reply)
			}
			if reply != nil && (reply.Version != c.speak || !slices.Equal(reply.Unrecognized, c.unrec)) {
				t.Fatalf("answer %+v, want %s and %q", reply, c.speak, c.unrec)
			}
			if !bytes.Equal(replay, c.replay) {
				t.Fatalf("replay %q, want %q", replay, c.replay)
			}
		})
	}
}

func TestTheAnswerHoldsTheFullVersion(t *testing.T) {
	m := (&NegotiateProtocolVersion{Version: Version32, Unrecognized: []string{"_pq_.x"}}).Append([]byte("before"))
	want := "before" + "v\x00\x00\x00\x13" + "\x00\x03\x00\x02" + "\x00\x00\x00\x01" + "_pq_.x\x00"
	if string(m) != want {
		t.Fatalf("%q, want %q", m, want)
	}
}

func TestAClientHearsOneAnswerForBoth(t *testing.T) {
	ours := &NegotiateProtocolVersion{Version: Version32, Unrecognized: []string{"_pq_.a"}}
	theirs := &NegotiateProtocolVersion{Version: Version30, Unrecognized: []string{"_pq_.a", "_pq_.b"}}
	if got := ours.Merge(theirs); got.Version != Version30 || !slices.Equal(got.Unrecognized, []string{"_pq_.a", "_pq_.b"}) {
		t.Fatalf("%+v", got)
	}
	if len(ours.Unrecognized) != 1 {
		t.Fatal("merging changed the proxy's own answer")
	}
	if ours.Merge(nil) != ours || (*NegotiateProtocolVersion)(nil).Merge(theirs) != theirs {
		t.Fatal("a single answer must stand")
	}
	if (*NegotiateProtocolVersion)(nil).Merge(nil) != nil {
		t.Fatal("nobody negotiated")
	}
}

func TestAServersNonsenseIsRefused(t *testing.T) {
	good := (&NegotiateProtocolVersion{Version: Version30, Unrecognized: []string{"_pq_.x"}}).Append(nil)[5:]
	bad := map[string][]byte{
		"empty":             nil,
		"no count":          good[:4],
		"major 2":           append([]byte{0, 2, 0, 0}, good[4:]...),
		"a bare minor":      append([]byte{0, 0, 0, 2}, good[4:]...),
		"more than promise": append(bytes.Clone(good), 'x', 0),
		"less than promise": good[:len(good)-1],
		"a huge count":      {0, 3, 0, 0, 0xff, 0xff, 0xff, 0xff},
	}
	for name, b := range bad {
		if _, err := ParseNegotiateProtocolVersion(b); !errors.Is(err, ErrNegotiation) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n, err := ParseNegotiateProtocolVersion(good); err != nil || n.Version != Version30 {
		t.Errorf("a good one: %+v, %v", n, err)
	}
}

func FuzzParseNegotiateProtocolVersion(f *testing.F) {
	f.Add((&NegotiateProtocolVersion{Version: Version32, Unrecognized: []string{"_pq_.x", ""}}).Append(nil)[5:])
	f.Fuzz(func(t *testing.T, body []byte) {
		n, err := ParseNegotiateProtocolVersion(body)
		if err == nil && !bytes.Equal(n.Append(nil)[5:], body) {
			t.Fatal("it does not read back as it was written")
		}
	})
}
