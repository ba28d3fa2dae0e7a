package pgwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// startup builds a startup packet of any version from names and values.
func startup(v Version, params ...string) []byte {
	b := make([]byte, 4, 64)
	b = binary.BigEndian.AppendUint32(b, uint32(v))
	for _, p := range params {
		b = append(append(b, p...), 0)
	}
	b = append(b, 0)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

func request(code uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, code)
}

var plain = startup(Version30, "user", "keycloak", "database", "kc")

// packets holds one packet of every kind.
var packets = []struct {
	name string
	raw  []byte
	kind Kind
}{
	{"startup 3.0", plain, KindStartup},
	{"startup 3.2", startup(Version32, "user", "keycloak"), KindStartup},
	{"startup of an unknown minor", startup(3<<16|9999, "user", "u", "_pq_.test_protocol_negotiation", ""), KindStartup},
	{"startup of protocol 2", startup(2<<16, "user", "u"), KindStartup},
	{"encryption request", request(sslRequestCode), KindSSLRequest},
	{"GSS encryption request", request(gssencRequestCode), KindGSSENCRequest},
	{"cancel of protocol 3.0", AppendCancel(nil, CancelKey{PID: 7, Secret: []byte{1, 2, 3, 4}}), KindCancel},
	{"cancel of protocol 3.2", AppendCancel(nil, CancelKey{PID: 7, Secret: bytes.Repeat([]byte{9}, 256)}), KindCancel},
	{"direct TLS", []byte{tlsHandshakeByte}, KindDirectTLS},
	{"the greatest packet", startup(Version30, "user", strings.Repeat("x", MaxStartupPacketLength-4-len("user")-3)), KindStartup},
}

func TestAPacketIsReadToItsLastByteAndNoFurther(t *testing.T) {
	for _, p := range packets {
		t.Run(p.name, func(t *testing.T) {
			after := []byte("what follows is not ours")
			r := bytes.NewReader(append(bytes.Clone(p.raw), after...))
			got, err := ReadPacket(r)
			if err != nil || got.Kind != p.kind || !bytes.Equal(got.Raw, p.raw) {
				t.Fatalf("read kind %d, %d bytes, %v; want kind %d, %d bytes as they came", got.Kind, len(got.Raw), err, p.kind, len(p.raw))
			}
			if rest, _ := io.ReadAll(r); !bytes.Equal(rest, after) {
				t.Fatalf("%d bytes are left of the %d that follow", len(rest), len(after))
			}
		})
	}
}

func TestAPacketMayArriveByteByByte(t *testing.T) {
	for _, p := range packets {
		got, err := ReadPacket(iotest.OneByteReader(bytes.NewReader(p.raw)))
		if err != nil || got.Kind != p.kind || !bytes.Equal(got.Raw, p.raw) {
			t.Errorf("%s: kind %d, %d bytes, %v", p.name, got.Kind, len(got.Raw), err)
		}
	}
}

func TestAPacketThatEndsEarlyIsSaidToEndEarly(t *testing.T) {
	for _, p := range packets {
		for cut := range len(p.raw) {
			want := io.ErrUnexpectedEOF
			if cut == 0 {
				want = io.EOF
			}
			if _, err := ReadPacket(bytes.NewReader(p.raw[:cut])); !errors.Is(err, want) {
				t.Fatalf("%s cut at %d: %v, want %v", p.name, cut, err, want)
			}
		}
	}
}

func TestLengthsAreRefusedAsPostgreSQLRefusesThem(t *testing.T) {
	for _, length := range []uint32{0, 1, 3, 4, 7, MaxStartupPacketLength + 5, 1 << 15, 1 << 31, 0xffffffff} {
		if length>>24 == tlsHandshakeByte {
			t.Fatal("such a length is a TLS handshake")
		}
		b := binary.BigEndian.AppendUint32(nil, length)
		r := bytes.NewReader(append(b, plain[4:]...))
		if _, err := ReadPacket(r); !errors.Is(err, ErrBadLength) {
			t.Errorf("length %d: %v, want ErrBadLength", length, err)
		}
		if r.Len() != len(plain)-4 {
			t.Errorf("length %d: bytes behind the bad length were read", length)
		}
	}
}

func TestALengthIsNotTakenAtItsWordForMemory(t *testing.T) {
	// 8 bytes have arrived of a packet that says it has 10,004.
	head := binary.BigEndian.AppendUint32(nil, MaxStartupPacketLength+4)
	head = binary.BigEndian.AppendUint32(head, uint32(Version30))
	bytesPerRun := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if _, err := ReadPacket(bytes.NewReader(head)); !errors.Is(err, io.ErrUnexpectedEOF) {
				b.Fatal(err)
			}
		}
	}).AllocedBytesPerOp()
	if bytesPerRun > 4096 {
		t.Fatalf("%d bytes were allocated for 8 that came", bytesPerRun)
	}
}

func TestAStartupPacketIsParsedAsPostgreSQLDoes(t *testing.T) {
	cases := []struct {
		name           string
		raw            []byte
		user, database string
		replication    bool
		err            error
	}{
		{name: "user and database", raw: plain, user: "keycloak", database: "kc"},
		{name: "the database defaults to the user", raw: startup(Version30, "user", "u"), user: "u", database: "u"},
		{name: "an empty database is no database", raw: startup(Version30, "user", "u", "database", ""), user: "u", database: "u"},
		{name: "of duplicates the last counts", raw: startup(Version30, "user", "a", "user", "b"), user: "b", database: "b"},
		{name: "no user", raw: startup(Version30, "database", "d"), err: ErrMissingUser},
		{name: "an empty user", raw: startup(Version30, "user", ""), err: ErrMissingUser},
		{name: "nothing at all", raw: startup(Version30), err: ErrMissingUser},
		{name: "no terminator", raw: fix(plain[:len(plain)-1]), err: ErrMalformedStartup},
		{name: "a name without a value", raw: fix(append(plain[:len(plain)-1:len(plain)-1], "x\x00"...)), err: ErrMalformedStartup},
		{name: "bytes after the terminator", raw: fix(append(bytes.Clone(plain), 0)), err: ErrMalformedStartup},
		{name: "only a version", raw: fix(plain[:8]), err: ErrMalformedStartup},
		{name: "a length that lies", raw: plain[:len(plain)-2], err: ErrMalformedStartup},
		{name: "physical replication", raw: startup(Version30, "user", "u", "replication", "true"), user: "u", database: "u", replication: true},
		{name: "logical replication", raw: startup(Version30, "user", "u", "replication", "database"), user: "u", database: "u", replication: true},
		{name: "no replication", raw: startup(Version30, "user", "u", "replication", "off"), user: "u", database: "u"},
		{name: "nonsense for replication is the server's to refuse", raw: startup(Version30, "user", "u", "replication", "x"), user: "u", database: "u", replication: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, err := ParseStartup(c.raw)
			if !errors.Is(err, c.err) {
				t.Fatalf("err = %v, want %v", err, c.err)
			}
			if c.err != nil {
				return
			}
			if s.User() != c.user || s.Database() != c.database || s.Replication() != c.replication {
				t.Fatalf("user %q database %q replication %v", s.User(), s.Database(), s.Replication())
			}
			if !bytes.Equal(s.Raw, c.raw) {
				t.Fatal("the packet was changed")
			}
		})
	}
}

// fix puts the true length in front.
func fix(b []byte) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	return b
}

func TestAnotherMajorVersionIsRefusedByItsNumber(t *testing.T) {
	for _, v := range []Version{0, 1 << 16, 2 << 16, 4 << 16, 4<<16 | 1} {
		_, err := ParseStartup(startup(v, "user", "u"))
		var major *UnsupportedMajorError
		if !errors.As(err, &major) || major.Version != v {
			t.Errorf("version %s: %v", v, err)
		}
	}
}

func TestBooleansAreReadAsPostgreSQLReadsThem(t *testing.T) {
	for text, want := range map[string]struct{ value, valid bool }{
		"t": {true, true}, "TRUE": {true, true}, "tru": {true, true}, "y": {true, true}, "Yes": {true, true}, "on": {true, true}, "1": {true, true},
		"f": {false, true}, "False": {false, true}, "n": {false, true}, "no": {false, true}, "of": {false, true}, "off": {false, true}, "0": {false, true},
		"": {}, "o": {}, "truex": {}, "2": {}, "database": {},
	} {
		if value, valid := parseBool(text); value != want.value || valid != want.valid {
			t.Errorf("%q: %v, %v", text, value, valid)
		}
	}
}

func TestCancelKeysKeepTheirLength(t *testing.T) {
	for _, n := range []int{3, 4, 5, 32, 256, 257} {
		k := CancelKey{PID: 4711, Secret: bytes.Repeat([]byte{7}, n)}
		legal := n >= MinSecretLength && n <= MaxSecretLength
		got, err := ParseCancel(AppendCancel(nil, k))
		if legal != (err == nil) || (legal && (got.PID != k.PID || !bytes.Equal(got.Secret, k.Secret))) {
			t.Errorf("cancel request with %d bytes: %+v, %v", n, got, err)
		}
		if !legal && !errors.Is(err, ErrCancelKey) {
			t.Errorf("cancel request with %d bytes: %v", n, err)
		}
		m := AppendBackendKeyData(nil, k)
		got, err = ParseBackendKeyData(m[5:])
		if legal != (err == nil) || (legal && (got.PID != k.PID || !bytes.Equal(got.Secret, k.Secret))) {
			t.Errorf("backend key with %d bytes: %+v, %v", n, got, err)
		}
	}
	if _, err := ParseCancel(request(cancelRequestCode)); !errors.Is(err, ErrCancelKey) {
		t.Errorf("a cancel request without a key: %v", err)
	}
}

func FuzzReadPacket(f *testing.F) {
	for _, p := range packets {
		f.Add(p.raw)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		p, err := ReadPacket(r)
		if err != nil {
			return
		}
		if read := b[:len(b)-r.Len()]; !bytes.Equal(p.Raw, read) {
			t.Fatalf("kept %d bytes of %d that were read", len(p.Raw), len(read))
		}
		switch p.Kind {
		case KindStartup:
			fuzzStartup(t, p.Raw)
		case KindCancel:
			if k, err := ParseCancel(p.Raw); err == nil && !bytes.Equal(AppendCancel(nil, k), p.Raw) {
				t.Fatal("a cancel request changed on its way")
			}
		}
	})
}

func fuzzStartup(t *testing.T, raw []byte) {
	s, err := ParseStartup(raw)
	if err != nil {
		return
	}
	params := make([]string, 0, 2*len(s.Params))
	for _, p := range s.Params {
		params = append(params, p.Name, p.Value)
	}
	if !bytes.Equal(startup(s.Version, params...), raw) {
		t.Fatal("the parsed parameters do not make the packet again")
	}
	reply, replay := s.Negotiation()
	again, err := ParseStartup(replay)
	if err != nil || again.User() != s.User() || again.Database() != s.Database() {
		t.Fatalf("the replayed packet says something else: %v", err)
	}
	if second, _ := again.Negotiation(); second != nil {
		t.Fatal("the replayed packet would be negotiated again")
	}
	if reply == nil {
		return
	}
	m := reply.Append(nil)
	back, err := ParseNegotiateProtocolVersion(m[5:])
	if err != nil || back.Version != reply.Version || len(back.Unrecognized) != len(reply.Unrecognized) {
		t.Fatalf("the answer does not read back: %+v, %v", back, err)
	}
}
