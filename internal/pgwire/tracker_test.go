package pgwire

import (
	"encoding/binary"
	"testing"
)

// msg is one message of the given type.
func msg(typ byte, body string) []byte {
	b := append([]byte{typ}, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(b[1:], uint32(len(body)+4))
	return append(b, body...)
}

func started() *Tracker {
	t := new(Tracker)
	t.Start('I')
	return t
}

func TestAPingIsBusyUntilItsReadyForQuery(t *testing.T) {
	tr := started()
	if !tr.Idle() {
		t.Fatal("not idle after login")
	}
	tr.Client(msg('Q', "\x00"))
	if tr.Idle() || tr.InDoubt() {
		t.Fatal("idle or in doubt after Query", tr.Idle(), tr.InDoubt())
	}
	tr.Server(msg('I', ""))
	if tr.Idle() {
		t.Fatal("idle before ReadyForQuery")
	}
	tr.Server(msg('Z', "I"))
	if !tr.Idle() || tr.Broken() != nil {
		t.Fatal("not idle", tr.Broken())
	}
}

func TestWhatComesBeforeAnUnsolicitedErrorPasses(t *testing.T) {
	tr := started()
	b := append(msg('S', "a\x00b\x00"), msg('E', "SFATAL\x00\x00")...)
	pass, stop := tr.Server(b)
	if !stop || b[pass] != 'E' {
		t.Fatal(pass, stop)
	}
	if !tr.Idle() {
		t.Fatal("what is kept back makes the session busy")
	}
	tr.PassServer(b[pass:])
	if tr.Idle() {
		t.Fatal("idle after an error was relayed")
	}
	tr = started()
	tr.Client(msg('Q', "SELECT 1\x00"))
	if pass, stop := tr.Server(b); stop || pass != len(b) {
		t.Fatal("an answer was kept back", pass, stop)
	}
	// Behind the end of an answer in the same read the session is idle again.
	tr = started()
	tr.Client(msg('Q', "SELECT 1\x00"))
	b = append(append(msg('C', "SELECT 1\x00"), msg('Z', "I")...), msg('N', "SWARNING\x00\x00")...)
	if pass, stop := tr.Server(b); !stop || b[pass] != 'N' {
		t.Fatal(pass, stop)
	}
}
