package failover

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// events are those of /events, each as it is printed there.
func (w *world) events() []string {
	w.Helper()
	res, err := http.Get("http://" + w.proxy.Admin + "/events")
	w.must(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	w.must(err)
	var all struct{ Events []json.RawMessage }
	w.must(json.Unmarshal(body, &all))
	var lines []string
	for _, e := range all.Events {
		lines = append(lines, string(e))
	}
	return lines
}

// linesOf are the whole lines of a file, none while there is no file.
func linesOf(path string) []string {
	content, err := os.ReadFile(path)
	if err != nil || len(content) == 0 {
		return nil
	}
	lines := strings.Split(string(content), "\n")
	return lines[:len(lines)-1] // what follows the last line end is being written
}

// awaitHook waits until the hook was given all that /events has, and returns it.
func (w *world) awaitHook(given string) []string {
	w.Helper()
	for {
		lines, events := linesOf(given), w.events()
		if slices.Equal(lines, events) && len(events) > 0 {
			return events
		}
		if w.ctx.Err() != nil {
			w.Fatalf("the hook was given\n%s\nevents are\n%s", strings.Join(lines, "\n"), strings.Join(events, "\n"))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestTheEventHookIsGivenWhatEventsShow, in that order and those words, through the death of a writer and the change to another.
func TestTheEventHookIsGivenWhatEventsShow(t *testing.T) {
	w := newPair(t, lab.Options{})
	given := filepath.Join(t.TempDir(), "given")
	w.extra = quick + "[hooks]\non_event = " + strconv.Quote("cat >> "+given) + "\n"
	w.startOpen()
	before := len(w.awaitHook(given))
	w.must(w.a.Kill9())
	w.must(w.b.Promote(w.ctx))
	w.awaitOpen(lab.RegionB)
	if after := w.awaitHook(given); len(after) <= before || !strings.Contains(after[len(after)-1], lab.RegionB) {
		t.Errorf("events after the change:\n%s", strings.Join(after[before:], "\n"))
	}
	w.must(w.proxy.Stop())
}

// TestAHookThatHangsHoldsNothingUp: neither the opening of a writer nor an orderly end, and nothing of it is left behind.
func TestAHookThatHangsHoldsNothingUp(t *testing.T) {
	w := newPair(t, lab.Options{Single: true})
	pid := filepath.Join(t.TempDir(), "pid")
	w.extra = quick + "[hooks]\non_event = " + strconv.Quote("echo $$ >> "+pid+"; trap '' TERM; while :; do sleep 1; done") + "\ntimeout = \"10m\"\n"
	w.start()
	w.await("the writer is open", func(s rig.Status) bool { return s.Writes == "open" })
	w.exec(w.mustLogin(), "SELECT 1")
	for len(linesOf(pid)) == 0 && w.ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
	}
	w.must(w.proxy.Stop())
	pids := linesOf(pid)
	if len(pids) != 1 {
		t.Fatalf("hooks %v ran at the same time, want one", pids)
	}
	for {
		stat, err := os.ReadFile("/proc/" + pids[0] + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if w.ctx.Err() != nil {
			t.Fatalf("hook %s is still there", pids[0])
		}
		time.Sleep(20 * time.Millisecond)
	}
}
