package main

import (
	"reflect"
	"testing"

	"github.com/pgtether/pgtether/decision"
)

func TestACheckOverlooksTheRunningProxyAndNoOther(t *testing.T) {
	seen := []decision.Observation{{Rivals: decision.Some([]string{"us", "them"})}, {Rivals: decision.Some([]string{"us"})}, {}}
	overlook(seen, "us")
	if got := seen[0].Rivals.V; !reflect.DeepEqual(got, []string{"them"}) {
		t.Errorf("of two, %v are left", got)
	}
	if !seen[1].Rivals.Known || len(seen[1].Rivals.V) != 0 || seen[2].Rivals.Known {
		t.Errorf("of one, %v are left; of none known, %v", seen[1].Rivals, seen[2].Rivals)
	}
	overlook(seen, "")
	if got := seen[0].Rivals.V; !reflect.DeepEqual(got, []string{"them"}) {
		t.Errorf("without a running proxy %v are left", got)
	}
}
