package proxy

import (
	"encoding/binary"
	"testing"
)

// saslOffer is an AuthenticationSASL with this list.
func saslOffer(list string) []byte {
	return authFrame('R', append(binary.BigEndian.AppendUint32(nil, authSASL), list...))
}

func TestAClientInClearIsOfferedNoChannelBinding(t *testing.T) {
	for offered, want := range map[string]string{
		"SCRAM-SHA-256-PLUS\x00SCRAM-SHA-256\x00\x00": "SCRAM-SHA-256\x00\x00",
		"SCRAM-SHA-256\x00\x00":                       "SCRAM-SHA-256\x00\x00",
		"A\x00A-PLUS\x00B\x00B-PLUS\x00\x00":          "A\x00B\x00\x00",
		// Nothing would be left, or it makes no sense: passed on as it is.
		"SCRAM-SHA-256-PLUS\x00\x00": "SCRAM-SHA-256-PLUS\x00\x00",
		"SCRAM-SHA-256-PLUS":         "SCRAM-SHA-256-PLUS",
		"A\x00B-PL":                  "A\x00B-PL",
		"":                           "",
		"\x00":                       "\x00",
		"A\x00B-PLUS\x00\x00more":    "A\x00\x00more",
	} {
		if got := offerInClear(saslOffer(offered)); string(got) != string(saslOffer(want)) {
			t.Errorf("offer %q becomes %q, want %q", saslOffer(offered), got, saslOffer(want))
		}
	}
}
