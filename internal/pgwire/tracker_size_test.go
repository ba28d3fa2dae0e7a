package pgwire

import (
	"testing"
	"unsafe"
)

func TestATrackerIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Tracker{}); size > 352 {
		t.Errorf("a Tracker takes %d bytes", size)
	} else {
		t.Log(size)
	}
}
