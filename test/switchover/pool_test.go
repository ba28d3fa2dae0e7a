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
		"1000 7 1000 1250 done -":           {tellers.Acknowledged, ""},
		"1000 7 1000 1250 boundary 08006":   {tellers.Failed, "08006"},
		"1000 7 1000 1250 transaction none": {tellers.Failed, "none"},
		"1000 7 1000 1250 commit 08006":     {tellers.Failed, "08006"},
		"1000 7 1000 1250 commit 08007":     {tellers.InDoubt, "08007"},
		"1000 7 1000 1250 commit none":      {tellers.InDoubt, "none"},
	} {
		w, e, err := readLine(text)
		if err != nil || w.Client != 1000 || w.Seq != 7 || w.Ended.Sub(w.Began).Milliseconds() != 250 || w.Outcome != want.outcome || e.Code != want.code {
			t.Errorf("%s: %+v, %+v, %v", text, w, e, err)
		}
	}
	if _, _, err := readLine("Exception in thread"); err == nil {
		t.Error("something else is taken for a transaction")
	}
}
