package config

import (
	"fmt"
	"maps"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
)

// Holder keeps the last good configuration and replaces it only by one that is good as a whole and that everybody took over.
type Holder struct {
	path   string
	sys    system
	record func(ok bool, at time.Time)

	current atomic.Pointer[File]
	// reloading serialises reloads.
	reloading sync.Mutex
}

// NewHolder returns a holder of a configuration that Load has returned for the path. Every outcome is told to record (metrics), which may be nil;
// the first one at once.
func NewHolder(path string, first *File, record func(ok bool, at time.Time)) *Holder {
	return newHolder(path, first, record, system{getenv: os.Getenv, now: time.Now})
}

func newHolder(path string, first *File, record func(ok bool, at time.Time), sys system) *Holder {
	if record == nil {
		record = func(bool, time.Time) {}
	}
	h := &Holder{path: path, sys: sys, record: record}
	h.current.Store(first)
	record(true, sys.now())
	return h
}

// Current returns the configuration in force. It must not be changed.
func (h *Holder) Current() *File { return h.current.Load() }

// Change is one key that a reload has changed, in the notation of the file. Of a secret it says only that it is another one.
type Change struct {
	Key, Old, New string
}

// String prints the change as one line of a log.
func (c Change) String() string { return c.Key + ": " + c.Old + " -> " + c.New }

// Reload reads the file again. A file with a problem, a change of a key that needs a restart, or an error of apply leaves everything as it was:
// apply is called once, with the configuration in force and the new one, and must itself undo what it has begun when it returns an error. Reloads
// do not overlap.
func (h *Holder) Reload(apply func(old, new *File) error) ([]Change, []Warning, error) {
	h.reloading.Lock()
	defer h.reloading.Unlock()
	old := h.current.Load()
	fresh, warnings, err := load(h.path, h.sys, true)
	if err == nil {
		err = refuseRestart(h.path, old, fresh)
	}
	if err == nil {
		if err = apply(old, fresh); err != nil {
			err = fmt.Errorf("apply %s: %w", h.path, err)
		}
	}
	h.record(err == nil, h.sys.now())
	if err != nil {
		return nil, warnings, err
	}
	h.current.Store(fresh)
	return diff(old, fresh), warnings, nil
}

// refuseRestart finds the changes that a running process cannot make.
func refuseRestart(path string, old, fresh *File) error {
	r := &report{file: path, lines: fresh.lines}
	if len(old.Nodes) != len(fresh.Nodes) {
		r.refuse("node", "a reload cannot change the number of nodes from %d to %d; restart pgtether", len(old.Nodes), len(fresh.Nodes))
		return r.err()
	}
	before := literals(old)
	walk(fresh, func(path string, field reflect.StructField, v reflect.Value) {
		why, now := field.Tag.Get("restart"), literal(v)
		if why != "" && before[path] != now {
			r.refuse(path, "a reload cannot change it from %s to %s (%s); restart pgtether, or put the old value back", before[path], now, why)
		}
	})
	return r.err()
}

// diff lists what is different, in the order of the document.
func diff(old, fresh *File) []Change {
	before := literals(old)
	var changes []Change
	walk(fresh, func(path string, _ reflect.StructField, v reflect.Value) {
		if now := literal(v); before[path] != now {
			changes = append(changes, Change{withoutIndices(path), before[path], now})
		}
	})
	return append(changes, diffSecrets(old, fresh)...)
}

// diffSecrets says which secrets are others than before, without saying what they are.
func diffSecrets(old, fresh *File) []Change {
	var changes []Change
	add := func(key string, changed bool) {
		if changed {
			changes = append(changes, Change{key, hidden, hidden + ", another one"})
		}
	}
	add("probe.password_file", old.ProbePassword().Reveal() != fresh.ProbePassword().Reveal())
	add("admin.token_file", old.AdminToken().Reveal() != fresh.AdminToken().Reveal())
	add("auth.verifier_file", !maps.EqualFunc(old.material.verifiers, fresh.material.verifiers,
		func(a, b Secret) bool { return a.Reveal() == b.Reveal() }))
	return changes
}

// literals returns every value by its path.
func literals(f *File) map[string]string {
	all := map[string]string{}
	walk(f, func(path string, _ reflect.StructField, v reflect.Value) { all[path] = literal(v) })
	return all
}
