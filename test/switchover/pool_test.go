package main

import (
	"testing"

	"github.com/pgtether/pgtether/test/tellers"
)

func TestALineOfThePoolSaysWhatBecameOfATransaction(t *testing.T) {
	for text, want := range map[string]struct {
		outcome tellers.Outcome
		code    string
	}{
		"1000 7 1000 1250 done - 3 77":           {tellers.Acknowledged, ""},
		"1000 7 1000 1250 boundary 08006 3 77":   {tellers.Failed, "08006"},
		"1000 7 1000 1250 transaction none 3 77": {tellers.Failed, "none"},
		"1000 7 1000 1250 commit 08006 3 77":     {tellers.Failed, "08006"},
		"1000 7 1000 1250 commit 08007 3 77":     {tellers.InDoubt, "08007"},
		"1000 7 1000 1250 commit none 3 77":      {tellers.InDoubt, "none"},
	} {
		l, err := readLine(text)
		w := l.work
		if err != nil || w.Client != 1000 || w.Seq != 7 || w.Ended.Sub(w.Began).Milliseconds() != 250 || w.Outcome != want.outcome || l.end.Code != want.code {
			t.Errorf("%s: %+v, %v", text, l, err)
		}
		if l.connection != 3 || l.process != 77 {
			t.Errorf("%s: connection %d, process %d", text, l.connection, l.process)
		}
	}
	if _, err := readLine("Exception in thread"); err == nil {
		t.Error("something else is taken for a transaction")
	}
}
