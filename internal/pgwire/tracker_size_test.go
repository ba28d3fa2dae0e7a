package pgwire

import (
	"testing"
	"unsafe"
)

// TestATrackerIsSmallAndFillsItsCacheLines: allocations of a size that is a multiple of a cache line begin with one.
func TestATrackerIsSmallAndFillsItsCacheLines(t *testing.T) {
	const line = 64
	var tr Tracker
	if size := unsafe.Sizeof(tr); size > 384 || size%(2*line) != 0 {
		t.Errorf("a Tracker takes %d bytes", size)
	}
	for name, place := range map[string][2]uintptr{
		"what the client's messages touch": {unsafe.Offsetof(tr.client), unsafe.Offsetof(tr.client.portals)},
		"what both sides touch":            {unsafe.Offsetof(tr.clientWord), unsafe.Offsetof(tr.server)},
		"what the server's messages touch": {unsafe.Offsetof(tr.server), unsafe.Offsetof(tr.server) + unsafe.Offsetof(tr.server.tag)},
	} {
		if place[0]%line != 0 || place[1]-place[0] > line {
			t.Errorf("%s is at %d to %d", name, place[0], place[1])
		}
	}
	var m memory
	if size, end := unsafe.Sizeof(m), unsafe.Offsetof(m.done); size > 352 || end > line/2 { // which begins in the middle of a line at worst
		t.Errorf("a memory takes %d bytes, what it needs of each message %d", size, end)
	}
}
