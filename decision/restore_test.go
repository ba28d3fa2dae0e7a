package decision

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// stepEngine is how a simulated world hands an event to its engine.
var stepEngine = func(e *Engine, ev Event) []Action { return e.Step(ev) }

// copyByJSON takes a snapshot through its rendering, as a file does.
func copyByJSON(t *testing.T, s Snapshot) Snapshot {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var out Snapshot
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// relay is an engine that is written down and restored between any two events.
type relay struct {
	original *Engine
	e        *Engine
	steps    int
}

func (r *relay) step(t *testing.T, original *Engine, ev Event) []Action {
	if r.original != original { // another run of the process
		r.original, r.e = original, original
	}
	restored, err := Restore(copyByJSON(t, r.e.Snapshot()))
	if err != nil {
		t.Fatalf("step %d: %v", r.steps, err)
	}
	r.e = restored
	want := fmt.Sprintf("%+v", original.Step(ev))
	if got := fmt.Sprintf("%+v", r.e.Step(ev)); got != want {
		t.Fatalf("step %d, %+v:\nrestored:    %s\nuninterrupted: %s", r.steps, ev, got, want)
	}
	if q := (Question{}); r.steps%7 == 0 && decisionText(r.e.Decide(q)) != decisionText(original.Decide(q)) {
		t.Fatalf("step %d: the restored engine decides otherwise", r.steps)
	}
	r.steps++
	return original.out
}

func TestAnEngineThatIsWrittenDownAndRestoredBetweenAnyTwoEventsActsAsIfItHadNotBeen(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d scripts, %v", len(files), err)
	}
	plain := stepEngine
	t.Cleanup(func() { stepEngine = plain })
	total := 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			r := &relay{}
			stepEngine = func(e *Engine, ev Event) []Action { return r.step(t, e, ev) }
			runScript(t, string(text))
			total += r.steps
		})
	}
	if total < 1000 {
		t.Errorf("only %d steps were taken", total)
	}
	t.Logf("%d steps", total)
}

// fill gives everything below v a value of its own, unexported fields included, so that nothing that is left out stays equal by chance.
func fill(v reflect.Value, n *int) {
	if !v.CanSet() {
		v = reflect.NewAt(v.Type(), unsafe.Pointer(v.UnsafeAddr())).Elem()
	}
	*n++
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Uint8:
		v.SetUint(1)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(*n))
	case reflect.String:
		v.SetString(fmt.Sprint("text ", *n))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(v.Index(i), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	default:
		panic("a field of a kind that a snapshot has never held: " + v.Type().String())
	}
}

// fullEngine is an engine of which every field holds something.
func fullEngine() *Engine {
	e := &Engine{}
	n := 0
	for i := range reflect.TypeFor[Engine]().NumField() {
		if f := reflect.TypeFor[Engine]().Field(i); f.Name != "out" { // what a Step returns is no state
			fill(reflect.ValueOf(e).Elem().Field(i), &n)
		}
	}
	for i := range e.views {
		for _, t := range []*track{&e.views[i].written, &e.views[i].replayed} {
			t.n, t.last = trackSize, 7
		}
	}
	return e
}

func TestASnapshotCarriesEveryFieldOfTheEngine(t *testing.T) {
	e := fullEngine()
	s := copyByJSON(t, e.Snapshot())
	restored := s.engine()
	if reflect.DeepEqual(restored, e) {
		return
	}
	const hint = "carry it in Snapshot (restore.go, restore_parts.go), and raise SnapshotVersion"
	got, want := reflect.ValueOf(restored).Elem(), reflect.ValueOf(e).Elem()
	for i := range want.NumField() {
		name := want.Type().Field(i).Name
		if g, w := fmt.Sprintf("%+v", got.Field(i)), fmt.Sprintf("%+v", want.Field(i)); g != w {
			t.Errorf("field %s of Engine is not carried whole: %s\ngot  %s\nwant %s", name, hint, g, w)
		}
	}
	if !t.Failed() {
		t.Errorf("the restored engine differs: %s", hint)
	}
}

func TestASnapshotSharesNoMemoryThatTheEngineChanges(t *testing.T) {
	w := newWorld(testConfig("region-a", "region-b"), NewRecord(), Opt[LastKnown]{})
	w.run(5 * time.Second)
	s := w.e.Snapshot()
	before := copyByJSON(t, s)
	w.server("region-a").fresh, w.server("region-a").persistent = Attempt{Evidence: Refused}, Attempt{Evidence: Refused}
	w.run(20 * time.Second)
	if after := copyByJSON(t, s); !reflect.DeepEqual(before, after) {
		t.Error("the snapshot changed while the engine went on")
	}
}

// snapshotShapes are the fields of Snapshot by version, as typeText prints them, hashed. A new shape needs a new version.
var snapshotShapes = map[int]string{1: "3bc2ac44", 2: "f20dd027"}

func TestTheVersionOfASnapshotGrowsWithItsFields(t *testing.T) {
	got := shapeOf(reflect.TypeFor[Snapshot]())
	if want := snapshotShapes[SnapshotVersion]; got != want {
		t.Errorf("Snapshot's fields hash to %s, version %d has %q: raise SnapshotVersion and add the new hash here", got, SnapshotVersion, want)
	}
}

// shapeOf hashes names, kinds and tags of every field below a type (FNV-1a).
func shapeOf(t reflect.Type) string {
	h := uint32(2166136261)
	var walk func(t reflect.Type)
	write := func(s string) {
		for i := range len(s) {
			h = (h ^ uint32(s[i])) * 16777619
		}
	}
	walk = func(t reflect.Type) {
		write(t.Kind().String())
		switch t.Kind() {
		case reflect.Struct:
			for i := range t.NumField() {
				write(t.Field(i).Name + string(t.Field(i).Tag))
				walk(t.Field(i).Type)
			}
		case reflect.Slice, reflect.Array:
			walk(t.Elem())
		}
	}
	walk(t)
	return fmt.Sprintf("%08x", h)
}

func TestASnapshotThatCannotBeTrueIsRefused(t *testing.T) {
	w := newWorld(testConfig("region-a", "region-b"), NewRecord(), Opt[LastKnown]{})
	w.run(5 * time.Second)
	for name, spoil := range map[string]func(*Snapshot){
		"of a later version":         func(s *Snapshot) { s.Version++ },
		"without nodes":              func(s *Snapshot) { s.Config.Nodes, s.Nodes = nil, nil },
		"with a node too few":        func(s *Snapshot) { s.Nodes = s.Nodes[:1] },
		"with other nodes":           func(s *Snapshot) { s.Nodes[0].Node.Address = "elsewhere:1" },
		"with a torn record":         func(s *Snapshot) { s.Record.Writer.Node = "" },
		"with a state of its own":    func(s *Snapshot) { s.State = 77 },
		"with a step of its own":     func(s *Snapshot) { s.Step = 77 },
		"with a class of its own":    func(s *Snapshot) { s.Nodes[0].Class = 77 },
		"with a ring that is torn":   func(s *Snapshot) { s.Nodes[0].Written.Last = 68 },
		"with a ring below its end":  func(s *Snapshot) { s.Nodes[0].Written.Last = -1 },
		"with a promise broken":      func(s *Snapshot) { s.CutDone = s.Record.Epoch },
		"open without being opened":  func(s *Snapshot) { s.Opened = 0 },
		"with a step in calm":        func(s *Snapshot) { s.Step = Blocked },
		"with a change out of place": func(s *Snapshot) { s.Change.Known = true },
	} {
		s := copyByJSON(t, w.e.Snapshot())
		spoil(&s)
		if e, err := Restore(s); !errors.Is(err, ErrSnapshot) || e != nil {
			t.Errorf("a snapshot %s: %v", name, err)
		}
	}
}

func BenchmarkSnapshot(b *testing.B) {
	w := newWorld(testConfig("region-a", "region-b"), NewRecord(), Opt[LastKnown]{})
	w.run(90 * time.Second)
	b.ReportAllocs()
	for b.Loop() {
		w.e.Snapshot()
	}
}
