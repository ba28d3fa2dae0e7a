package proxy

import (
	"testing"
	"time"
)

func TestWhatWasHeardOfOneEpochSaysNothingOfAnother(t *testing.T) {
	var h heard
	if age, ok := h.age(0); ok && age < 0 {
		t.Fatal("a time in the future")
	}
	if _, ok := h.age(1); ok {
		t.Fatal("nothing was heard yet")
	}
	h.now(1)
	if age, ok := h.age(1); !ok || age < 0 || age > time.Minute {
		t.Fatalf("age %s, %v", age, ok)
	}
	if _, ok := h.age(2); ok {
		t.Fatal("epoch 2 was not heard")
	}
	h.now(2)
	if _, ok := h.age(1); ok {
		t.Fatal("epoch 1 is over")
	}
}
