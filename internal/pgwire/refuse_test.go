package pgwire

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// The contract with clients, scripts and dashboards: each reason and its SQLSTATE; empty for those that are silent.
var contract = map[string]string{
	"no_writer": "57P03", "promoting": "57P03", "shutting_down": "57P03",
	"too_many_clients": "53300", "too_many_for_user": "53300", "too_many_for_database": "53300", "too_many_for_address": "53300",
	"hold_queue_full": "53300", "startup_timeout": "", "bad_startup_length": "",
	"malformed_startup": "08P01", "plaintext_after_ssl_request": "08P01", "missing_user": "28000", "tls_required": "28000",
	"unsupported_protocol": "0A000", "replication_refused": "0A000",
	"writer_lost": "08006", "session_not_movable": "08006", "lossy_change": "08006", "drained": "08006", "killed": "08006",
	"commit_in_doubt": "08007", "writer_unproven": "57P03",
}

func TestTheReasonsAreTheClosedListOfTheContract(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Reasons() {
		want, ok := contract[r.String()]
		if !ok || seen[r.String()] {
			t.Errorf("reason %q is not in the contract, or twice", r)
		}
		seen[r.String()] = true
		if r.SQLState() != want || r.Silent() != (want == "") {
			t.Errorf("%s: SQLSTATE %q, silent %v; want %q", r, r.SQLState(), r.Silent(), want)
		}
	}
	if len(seen) != len(contract) {
		t.Errorf("%d reasons, the contract has %d", len(seen), len(contract))
	}
	if Reason(0).String() != "invalid" || reasonEnd.String() != "invalid" || Reason(0).SQLState() != "" {
		t.Error("a reason out of the list must not look like one")
	}
}

func TestARefusalIsAFatalErrorThatClientsCanRead(t *testing.T) {
	sentence := regexp.MustCompile(`^[a-zP].*[^.]$`)
	for _, r := range Reasons() {
		m := AppendError(nil, r, "detail for "+r.String())
		if r.Silent() {
			if len(m) != 0 {
				t.Errorf("%s must be silent", r)
			}
			continue
		}
		msg, err := pgproto3.NewFrontend(bytes.NewReader(m), nil).Receive()
		e, ok := msg.(*pgproto3.ErrorResponse)
		if err != nil || !ok {
			t.Fatalf("%s: %T, %v", r, msg, err)
		}
		if e.Severity != "FATAL" || e.SeverityUnlocalized != "FATAL" || e.Code != r.SQLState() || e.Message != r.Message() || e.Hint == "" {
			t.Errorf("%s: %+v", r, e)
		}
		if e.Detail != "detail for "+r.String() || !sentence.MatchString(e.Message) {
			t.Errorf("%s: detail %q, message %q", r, e.Detail, e.Message)
		}
		fields, err := ParseErrorFields(m[5:])
		if err != nil || fields.Severity != "FATAL" || fields.SQLState != r.SQLState() || fields.Message != r.Message() {
			t.Errorf("%s: read back as %+v, %v", r, fields, err)
		}
	}
}

func TestADetailCannotBreakTheMessage(t *testing.T) {
	m := AppendError([]byte("kept"), NoWriter, "a\x00Cxxxxx\x00\x00")
	if !bytes.HasPrefix(m, []byte("kept")) {
		t.Fatal("what was there is gone")
	}
	f, err := ParseErrorFields(m[len("kept")+5:])
	if err != nil || f.SQLState != "57P03" {
		t.Fatalf("%+v, %v", f, err)
	}
	if bytes.Contains(AppendError(nil, NoWriter, ""), []byte{0, 'D'}) {
		t.Fatal("an empty detail is no detail")
	}
}

func TestClientsOfProtocolTwoGetTheOldForm(t *testing.T) {
	m := AppendErrorV2(nil, UnsupportedProtocol)
	if m[0] != 'E' || m[len(m)-1] != 0 || !strings.Contains(string(m), "FATAL:  unsupported frontend protocol") || bytes.IndexByte(m, 0) != len(m)-1 {
		t.Fatalf("%q", m)
	}
	if len(AppendErrorV2(nil, StartupTimeout)) != 0 {
		t.Fatal("a silent reason speaks")
	}
}

func TestErrorFieldsOfAHostileServer(t *testing.T) {
	cases := map[string]struct {
		body string
		want ErrorFields
		bad  bool
	}{
		"no SQLSTATE":         {"SFATAL\x00Mgone\x00\x00", ErrorFields{Severity: "FATAL", Message: "gone"}, false},
		"translated severity": {"SFATALE\x00VFATAL\x00C57P01\x00Mx\x00\x00", ErrorFields{Severity: "FATAL", SQLState: "57P01", Message: "x"}, false},
		"unknown fields":      {"zodd\x00C57P01\x00\x00", ErrorFields{SQLState: "57P01"}, false},
		"nothing":             {"\x00", ErrorFields{}, false},
		"empty":               {"", ErrorFields{}, true},
		"no end of a field":   {"C57P01", ErrorFields{}, true},
		"no terminator":       {"C57P01\x00", ErrorFields{}, true},
		"after the end":       {"\x00C57P01\x00", ErrorFields{}, true},
		"thousands of fields": {strings.Repeat("zx\x00", 5000) + "\x00", ErrorFields{}, true},
	}
	for name, c := range cases {
		got, err := ParseErrorFields([]byte(c.body))
		if c.bad {
			if !errors.Is(err, ErrErrorFields) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

func FuzzParseErrorFields(f *testing.F) {
	for _, r := range Reasons() {
		if m := AppendError(nil, r, "d"); len(m) > 5 {
			f.Add(m[5:])
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		fields, err := ParseErrorFields(body)
		if err == nil && len(fields.Severity)+len(fields.SQLState)+len(fields.Message) > len(body) {
			t.Fatal("more was read than was there")
		}
	})
}
