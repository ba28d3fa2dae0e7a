package wire

import (
	"encoding/binary"
	"strings"
	"testing"
)

func TestTheNumberOfAProcessIsHiddenOnlyWhereItIsTheRightOne(t *testing.T) {
	known := names{4711: "a"}
	key := binary.BigEndian.AppendUint32(nil, 4711)
	for _, tt := range []struct {
		m    message
		want string
	}{
		{message{'K', append(key, 1, 2, 3, 4)}, "K <a>, a secret of 4 bytes"},
		{message{'K', append([]byte{0, 0, 0, 9}, 1, 2, 3, 4)}, "K <unknown process 9>, a secret of 4 bytes"},
		{message{'A', append(key, "ch\x00payload\x00"...)}, `A from <a> "ch\x00payload\x00"`},
		{message{'D', []byte("\x00\x02\x00\x00\x00\x044711\xff\xff\xff\xff")}, "D 2: <a> NULL"},
		{message{'D', []byte("\x00\x01\x00\x00\x00\x0547110")}, `D 1: "47110"`},
		{message{'D', append([]byte("\x00\x01\x00\x00\x00\x04"), key...)}, "D 1: <a, binary>"},
		{message{'D', []byte("\x00\x02\x00\x00\x00\x01x")}, `D "\x00\x02\x00\x00\x00\x01x"`},
		{message{'E', []byte("Mprocess 4711 in pg_temp_12\x00\x00")}, `E "Mprocess <a> in pg_temp_n\x00\x00"`},
		{message{'R', []byte("\x00\x00\x00\x0br=abc,s=salt,i=4096")}, `R 11 "r=...,s=salt,i=4096"`},
		{message{'R', []byte("\x00\x00\x00\x05salt")}, "R MD5, a salt of 4 bytes"},
		{message{'Z', []byte("I")}, `Z "I"`},
	} {
		if got := tt.m.render(known); got != tt.want {
			t.Errorf("%q is written down as %s, want %s", tt.m.body, got, tt.want)
		}
	}
}

func TestAMadeTableHasNoNumberAndASystemTypeHas(t *testing.T) {
	column := "id\x00" + "\x00\x00\x40\x01" + "\x00\x01" + "\x00\x00\x00\x17" + "\x00\x04" + "\xff\xff\xff\xff" + "\x00\x00"
	got := message{'T', []byte("\x00\x01" + column)}.render(nil)
	if want := `T 1: "id" table made here column 1 type 23 size 4 modifier -1 format 0;`; got != want {
		t.Errorf("written down as %s, want %s", got, want)
	}
}

func TestEverySingleChangedByteShows(t *testing.T) {
	known := names{4711: "a"}
	messages := []message{
		{'T', []byte("\x00\x01id\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x17\x00\x04\xff\xff\xff\xff\x00\x00")},
		{'D', []byte("\x00\x02\x00\x00\x00\x01x\x00\x00\x00\x02yz")},
		{'C', []byte("SELECT 1\x00")},
		{'E', []byte("SERROR\x00C42601\x00Msyntax error\x00\x00")},
		{'S', []byte("TimeZone\x00UTC\x00")},
		{'d', []byte(strings.Repeat("row\n", longBody))},
	}
	for _, m := range messages {
		want := m.render(known)
		for i := range m.body {
			changed := message{m.typ, append([]byte(nil), m.body...)}
			changed.body[i] ^= 1
			if changed.render(known) == want {
				t.Errorf("%c: byte %d of %q can change unseen", m.typ, i, digest(m.body))
			}
		}
		if shorter := (message{m.typ, m.body[:len(m.body)-1]}); shorter.render(known) == want {
			t.Errorf("%c: a byte can be missing unseen", m.typ)
		}
	}
}

func TestTheFirstDifferenceIsTold(t *testing.T) {
	if d := firstDifference([]string{"a", "b"}, []string{"a", "b"}); d != "" {
		t.Errorf("equal transcripts differ: %s", d)
	}
	for name, through := range map[string][]string{"changed": {"a", "x", "c"}, "missing": {"a", "c"}, "short": {"a"}, "swapped": {"a", "c", "b"}} {
		if d := firstDifference([]string{"a", "b", "c"}, through); !strings.HasPrefix(d, "line 2\n") {
			t.Errorf("%s: %q does not name line 2", name, d)
		}
	}
	if d := firstDifference([]string{"a"}, []string{"a", "more"}); !strings.Contains(d, "pgtether: more") {
		t.Errorf("what pgtether adds is not told: %q", d)
	}
}
