package control

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pgtether/pgtether/decision"
)

// record is a valid record of an open epoch.
func record(epoch uint64) decision.Record {
	r := decision.NewRecord()
	r.Epoch, r.Phase = epoch, decision.PhaseOpen
	r.Writer = decision.Writer{Node: "region-a", Address: "127.0.0.1:5432", SystemID: "7300000000000000000", Timeline: 1}
	return r
}

var errCrash = errors.New("crashed here")

func openStore(t *testing.T, dir string) (*Store, decision.Record) {
	t.Helper()
	s, rec, _, err := OpenStore(dir, NewClock())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, rec
}

func TestARecordSurvivesARestartUnderItsStateID(t *testing.T) {
	dir := t.TempDir()
	s, rec := openStore(t, dir)
	if rec.Epoch != 0 || s.ID() == "" || s.Lost() != "" {
		t.Fatalf("a new directory must begin empty: %+v id %q lost %q", rec, s.ID(), s.Lost())
	}
	if err := s.SaveRecord(record(7), NewClock().stamp()); err != nil {
		t.Fatal(err)
	}
	id := s.ID()
	s.Close()
	s, rec = openStore(t, dir)
	if rec.Epoch != 7 || s.ID() != id {
		t.Fatalf("epoch %d under %q, want 7 under %q", rec.Epoch, s.ID(), id)
	}
}

// A crash after any of the calls of a save leaves the old record or the new one.
func TestACrashAtAnyStepOfASaveLeavesTheOldOrTheNewRecord(t *testing.T) {
	type step struct {
		name string
		arm  func(ops *fileOps)
		want uint64
	}
	steps := []step{
		{"before the write", func(o *fileOps) { o.writeSync = func(string, []byte) error { return errCrash } }, 1},
		{"half written", func(o *fileOps) {
			o.writeSync = func(p string, b []byte) error {
				if err := os.WriteFile(p, b[:len(b)/2], 0o600); err != nil {
					return err
				}
				return errCrash
			}
		}, 1},
		{"before the rename", func(o *fileOps) { o.rename = func(string, string) error { return errCrash } }, 1},
		{"after the rename", func(o *fileOps) { o.syncDir = func(string) error { return errCrash } }, 2},
	}
	for _, st := range steps {
		t.Run(st.name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := openStore(t, dir)
			if err := s.SaveRecord(record(1), NewClock().stamp()); err != nil {
				t.Fatal(err)
			}
			id := s.ID()
			st.arm(&s.ops)
			if err := s.SaveRecord(record(2), NewClock().stamp()); !errors.Is(err, errCrash) {
				t.Fatalf("err = %v, want the crash: a failed save must be said", err)
			}
			s.Close()
			s, rec := openStore(t, dir)
			if rec.Epoch != st.want || s.ID() != id || s.Lost() != "" {
				t.Fatalf("epoch %d under %q (lost %q), want %d under %q", rec.Epoch, s.ID(), s.Lost(), st.want, id)
			}
		})
	}
}

func TestATornOrChangedStateFileBeginsANewStateID(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir)
	if err := s.SaveRecord(record(41), NewClock().stamp()); err != nil {
		t.Fatal(err)
	}
	id := s.ID()
	s.Close()
	path := filepath.Join(dir, recordFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damage := map[string][]byte{
		"empty":            {},
		"zeros":            make([]byte, len(whole)),
		"another epoch":    bytes.Replace(whole, []byte("41"), []byte("42"), 1),
		"another state id": bytes.Replace(whole, []byte(id), []byte(strings.Repeat("0", len(id))), 1),
	}
	for cut := 1; cut < len(whole)-1; cut++ {
		damage["cut at "+string(rune('0'+cut%10))+" "+strings.Repeat("x", cut)] = whole[:cut]
	}
	for name, b := range damage {
		if bytes.Equal(b, whole) {
			t.Fatalf("%s: the damage changed nothing", name)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, rec, _, err := OpenStore(dir, NewClock())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if rec.Epoch != 0 || s.ID() == id || s.Lost() == "" {
			t.Fatalf("%s: epoch %d under %q, lost %q: damage was believed", name, rec.Epoch, s.ID(), s.Lost())
		}
		kept, err := os.ReadFile(path + ".torn")
		if err != nil || !bytes.Equal(kept, b) {
			t.Fatalf("%s: the damaged file was not kept for a person: %v", name, err)
		}
		s.Close()
	}
}

func TestAStateFileOfALaterVersionIsRefusedAndLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, recordFile)
	later := []byte(`{"version":2,"state_id":"x","sha256":"y","record":{}}`)
	if err := os.WriteFile(path, later, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := OpenStore(dir, NewClock()); !errors.Is(err, ErrNewerFormat) {
		t.Fatalf("err = %v, want ErrNewerFormat", err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, later) {
		t.Fatalf("the file was touched: %v", err)
	}
}

func TestTwoProcessesNeverShareAStateDirectory(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir)
	if _, _, _, err := OpenStore(dir, NewClock()); !errors.Is(err, ErrStateInUse) {
		t.Fatalf("err = %v, want ErrStateInUse", err)
	}
	s.Close()
	openStore(t, dir)
}

func TestTheLastKnownPositionOfAnotherStateIDIsNotBelieved(t *testing.T) {
	dir := t.TempDir()
	s, _ := openStore(t, dir)
	if err := s.SaveRecord(record(1), NewClock().stamp()); err != nil {
		t.Fatal(err)
	}
	other := *s
	other.id = "another"
	known := decision.LastKnown{Epoch: 1}
	if err := other.SaveLastKnown(known, NewClock().stamp()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s, _, last, err := OpenStore(dir, NewClock())
	if err != nil {
		t.Fatal(err)
	}
	if last.Known {
		t.Fatalf("believed %+v of another state id", last)
	}
	if err := s.SaveLastKnown(known, NewClock().stamp()); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s, _, last, err = OpenStore(dir, NewClock())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if last.V.Epoch != 1 {
		t.Fatalf("own position lost: %+v", last)
	}
}

func TestAStateDirectoryThatCannotBeWrittenIsRefusedAtTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := OpenStore(filepath.Join(file, "state"), NewClock()); err == nil {
		t.Fatal("a directory below a file was accepted")
	}
}
