package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestTheLogsOfPgbenchSayWhatEachClientWasTold(t *testing.T) {
	b := &bench{logs: filepath.Join(t.TempDir(), "pgbench")}
	for name, text := range map[string]string{
		".77":   "0 0 250000 0 1000 500000\n1 0 1000 0 1000 600000\n0 1 1000 0 1001 500000\n0 2 1000 0 10",
		".77.1": "16 0 1000 0 1000 0\n",
	} {
		if err := os.WriteFile(b.logs+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	told, err := b.read()
	if err != nil || len(told) != 3 || len(told[0]) != 2 || len(told[1]) != 1 || len(told[16]) != 1 {
		t.Fatalf("%v, %v", told, err)
	}
	if l := told[0][0]; !l.ended.Equal(time.Unix(1000, 5e8)) || l.ended.Sub(l.began) != time.Second/4 {
		t.Errorf("%+v", l)
	}
	if _, _, err := readBenchLine("3 7 failed 0 1000 0"); err == nil {
		t.Error("a transaction that failed is taken for one that did not")
	}
}

func TestTheSummaryOfPgbenchNamesWhatFailed(t *testing.T) {
	got := summary("transaction type: tpcb.sql\nscaling factor: 1\nquery mode: prepared\nnumber of clients: 32\nnumber of failed transactions: 0 (0.000%)\ntps = 1\n")
	if want := "query mode: prepared; number of clients: 32; number of failed transactions: 0 (0.000%)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
