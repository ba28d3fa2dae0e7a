package main

import (
	"strings"
	"testing"
)

// An application_name has 63 bytes, host names have up to 64: were the end cut off, two processes would not see each other as rivals.
func TestTwoProcessesOnAHostWithALongNameAreToldApart(t *testing.T) {
	host := strings.Repeat("pod-0123456789.", 5)[:64]
	one, other := instanceOn(host), instanceOn(host)
	if one == other || len("pgtether-check/"+one) > 63 || !strings.HasPrefix(one, "pod-0123456789.") {
		t.Errorf("the processes are %q and %q", one, other)
	}
	if short := instanceOn("db-a"); !strings.HasPrefix(short, "db-a-") || len(short) != len("db-a-")+6 {
		t.Errorf("a host with a short name gives %q", short)
	}
}
