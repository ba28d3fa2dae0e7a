package proxy

import (
	"bytes"
	"strings"
	"testing"
)

// The memory of a login is another's when it is over: nothing of the one before may show, and what grew is not kept.
func TestFramesAreEmptyWhenTheyAreUsedAgain(t *testing.T) {
	long := append([]byte{'S', 0, 0, 0x10, 4}, make([]byte, 0x1000)...)
	f := newFrames(strings.NewReader(string(long) + "Z\x00\x00\x00\x05I" + "left behind"))
	for _, want := range []int{len(long), 6} {
		frame, err := f.next()
		if err != nil || len(frame) != want {
			t.Fatalf("a message of %d bytes, %v, want %d", len(frame), err, want)
		}
	}
	f.free()
	for range 8 { // whichever of them is the same
		g := newFrames(strings.NewReader("Z\x00\x00\x00\x05T"))
		if rest := g.rest(); len(rest) != 0 || len(g.buf) != len(g.usual) {
			t.Fatalf("%q is there before anything was read, in %d bytes", rest, len(g.buf))
		}
		frame, err := g.next()
		if err != nil || !bytes.Equal(frame, []byte("Z\x00\x00\x00\x05T")) {
			t.Fatalf("%q, %v", frame, err)
		}
	}
}

// What a client said in a login, its password perhaps, is gone from memory that another login gets.
func TestWhatAClientSaidIsClearedForTheNextOne(t *testing.T) {
	c := newClientLeg(noConn, 0)
	room := c.spare()
	copy(room, "p\x00\x00\x00\x0bsecret\x00and more")
	c.ahead = room[12:20]
	ahead := c.takeAhead()
	if string(ahead) != "and more" {
		t.Errorf("%q is left to be forwarded", ahead)
	}
	if bytes.Contains(room, []byte("secret")) {
		t.Error("the password is still there")
	}
}

// A login that need not wait gets its place at once, and nothing is made that only those who wait need.
func TestAPlaceAtOnceNeedsNoLine(t *testing.T) {
	a := newAdmission(2)
	first, err := a.enter(t.Context(), 0, func(error) { t.Error("evicted") }, func() { t.Error("waits") })
	if err != nil || first.in != nil || !first.dialing || !first.underWay {
		t.Fatalf("place %+v, %v", first, err)
	}
	first.leave()
	if a.dialing != 0 || a.underWay != 0 {
		t.Errorf("%d dial and %d are under way after the only one has left", a.dialing, a.underWay)
	}
}
