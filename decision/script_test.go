package decision

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite golden files; commit the changes only if you understand what caused them")

// TestScripts runs testdata/*.txt. A script is a list of blocks, divided by empty lines: commands, "----", what they led to. Lines that begin
// with # are kept. The commands:
//
//	nodes region-a region-b [mode=observe] [stable=5s] [max-lag=16MiB] ...   the cluster; the first node is the primary, the rest follow it
//	cluster ...            the same, and time passes until the writer is open, without being shown
//	record epoch=3 open|drain region-a [timeline=1] [previous=region-b]      what an earlier run left on disk (directly after nodes)
//	run 5s                 time passes, with probes and ticks
//	jump 5s                time passes without an event: the process stood still
//	restart 2s             the process ends and another one starts 2 s later
//	region-a dies          nobody listens any more       | region-a freezes: nothing is answered
//	region-a returns       it answers as before          | region-a says 57P03: every way in gets that error
//	region-a hangs         new connections hang, open ones answer
//	region-a unseen        this proxy's probes are lost, the server works on
//	region-a promoted      it becomes the primary of the next timeline
//	region-a demoted       it is in recovery, following nobody
//	region-a follows X     it is a standby of X
//	region-a cascades X    it is a standby of the standby X
//	region-a loses-upstream | finds-upstream
//	set region-a key=value ...   a fact (see setFact)
//	rename / address / drop      through reload: reload region-a region-b [options]
//	disk full|ok|slow|lost|done · cut stuck|ok|slow|done · heard (a backend sends a byte now) · heard off · relaxed N
//	hook ok|fails|slow|done · promotion ok|deaf|fails|lost|takes 2s|slow|done · verify ok|fails|slow|done · restore ok|fails|slow|done
//	(slow: the outcome is kept back until done; lost: it took effect, and that is never reported)
//	approve NAME [epoch=N] [override=a,b] · resolve NAME [epoch=N] · abort · hold · resume
//	switchover NAME [force] [drain=5s] · sessions N (so many are in a transaction; 0 lets a drain end) · unflushed on|off
//	status · decide [primary_dead|switchover] [to=NAME] · why (the same, shortened to what blocks)
//	quietly COMMAND        what it leads to is not shown
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) < 20 {
		t.Fatalf("found %d scripts, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got, w := runScript(t, string(want))
			if w != nil && len(w.failed) > 0 {
				t.Errorf("broken promises: %s", strings.Join(w.failed, "; "))
			}
			if got == string(want) {
				return
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s differs (go test ./decision -update rewrites it):\n%s", file, firstDifference(string(want), got))
		})
	}
}

// firstDifference shows where two texts part.
func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := 0; i < max(len(a), len(b)); i++ {
		var x, y string
		if i < len(a) {
			x = a[i]
		}
		if i < len(b) {
			y = b[i]
		}
		if x != y {
			return fmt.Sprintf("line %d\nwant: %s\ngot:  %s", i+1, x, y)
		}
	}
	return "no difference"
}

// runScript returns the script with its output replaced by what really happens.
func runScript(t *testing.T, text string) (string, *world) {
	t.Helper()
	var out strings.Builder
	var w *world
	for i, block := range strings.Split(strings.TrimSpace(text), "\n\n") {
		if i > 0 {
			out.WriteString("\n")
		}
		commands, _, hasOutput := strings.Cut(block, "\n----")
		var result []string
		for line := range strings.SplitSeq(commands, "\n") {
			out.WriteString(line + "\n")
			if line == "" || line[0] == '#' {
				continue
			}
			hasOutput = true
			w = doCommand(t, w, line, func(s string) { result = append(result, s) })
		}
		if !hasOutput {
			continue
		}
		out.WriteString("----\n")
		for _, r := range result {
			out.WriteString(r + "\n")
		}
		out.WriteString(summary(w) + "\n")
	}
	return out.String(), w
}

// summary is the last line of every block.
func summary(w *world) string {
	s := w.e.Status()
	epoch, writer := "-", "-"
	if s.Epoch.Known {
		epoch = fmt.Sprint(s.Epoch.V)
	}
	if s.Writer.Known {
		writer = s.Writer.V
	}
	text := fmt.Sprintf("= %s epoch=%s writer=%s writes=%s", Place{s.State, s.Step}, epoch, writer, s.Writes)
	if s.Automation != AutomationOn {
		text += " automation=" + s.Automation.String()
	}
	for _, d := range s.Degraded {
		text += " degraded: " + d
	}
	for _, n := range s.Nodes {
		if n.Quarantine != "" {
			text += fmt.Sprintf("\n  %s quarantined: %s", n.Name, n.Quarantine)
		}
	}
	return text
}

// doCommand runs one line.
func doCommand(t *testing.T, w *world, line string, say func(string)) *world {
	t.Helper()
	f := strings.Fields(line)
	if f[0] == "quietly" {
		return doCommand(t, w, strings.Join(f[1:], " "), func(string) {})
	}
	if f[0] == "nodes" {
		return scriptWorld(t, f[1:], say)
	}
	if f[0] == "cluster" {
		w = scriptWorld(t, f[1:], func(string) {})
		w.run(3 * time.Second)
		return w
	}
	if w == nil {
		t.Fatalf("%q before nodes", line)
	}
	w.log = func(s string) { say(fmt.Sprintf("%6s %s", seconds(w.now), s)) }
	switch f[0] {
	case "record":
		w.file = scriptRecord(t, w, f[1:])
		w.e = New(w.cfg, w.file, w.kept)
	case "run":
		w.run(duration(t, f[1]))
	case "jump":
		w.jump(duration(t, f[1]))
	case "restart":
		w.restart(duration(t, f[1]))
	case "set":
		for _, kv := range f[2:] {
			k, v, _ := strings.Cut(kv, "=")
			setFact(t, w, w.server(f[1]), k, strings.ReplaceAll(v, "_", " "))
		}
	case "reload":
		scriptReload(t, w, f[1:])
	case "heard":
		w.heard = Some(w.now)
		if len(f) > 1 {
			w.heard = Opt[Instant]{}
		}
	case "relaxed":
		n, err := strconv.ParseUint(f[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		w.relaxed = Some(n)
	case "sessions":
		w.transacting(bytesOf(t, f[1]))
	case "approve", "switchover", "resolve", "abort", "hold", "resume":
		w.commands++
		w.step(Commanded{At: w.now, CommandID: w.commands, Command: scriptCommand(t, w, f)})
	case "unflushed":
		w.unflushed = f[1] == "on"
	case "disk", "cut", "drain", "hook", "promotion", "verify", "restore":
		scriptHelpers(t, w, f)
	case "status":
		say(statusText(w.e.Status()))
	case "why":
		say(whyText(w.e.Decide(Question{})))
	case "decide":
		say(decisionText(w.e.Decide(scriptQuestion(f[1:]))))
	default:
		serverCommand(t, w, f)
	}
	return w
}

// scriptCommand reads an operator's command; without epoch= the present one is named.
func scriptCommand(t *testing.T, w *world, f []string) Command {
	t.Helper()
	epoch, node := w.e.Status().Epoch.V, ""
	var override []string
	var force bool
	var drain time.Duration
	for _, word := range f[1:] {
		switch k, v, isOption := strings.Cut(word, "="); {
		case word == "force":
			force = true
		case !isOption:
			node = word
		case k == "drain":
			drain = duration(t, v)
		case k == "epoch":
			epoch = bytesOf(t, v)
		case k == "override":
			override = strings.Split(v, ",")
		default:
			t.Fatalf("unknown option %q", word)
		}
	}
	switch f[0] {
	case "approve":
		return Approve{Epoch: epoch, Target: node, Override: override}
	case "switchover":
		return Switch{To: node, Force: force, Drain: drain}
	case "resolve":
		return Resolve{Epoch: epoch, Writer: node}
	case "abort":
		return Abort{}
	case "hold":
		return Pause{}
	}
	return Resume{}
}

// scriptHelpers sets what the hook, pg_promote and the nodes do when they are asked.
func scriptHelpers(t *testing.T, w *world, f []string) {
	t.Helper()
	kind, how := f[0], f[1]
	switch how {
	case "slow":
		w.slow[kind] = true
		return
	case "done":
		w.letGo(kind)
		return
	}
	fails := map[string]string{"fails": "it failed", "ok": "", "deaf": "", "takes": "", "lost": "", "full": "write state file: no space left on device",
		"stuck": "close epoch: deadline exceeded"}[how]
	switch kind {
	case "disk":
		w.disk, w.diskLost = fails, how == "lost"
		w.slow[kind] = w.diskLost
	case "cut":
		w.cutErr = fails
	case "drain":
		w.drainErr = fails
	case "hook":
		w.hookErr = fails
	case "promotion":
		w.promoteErr, w.promoteDeaf, w.promoteLost = fails, how == "deaf", how == "lost"
		if how == "takes" {
			w.promoteTakes = duration(t, f[2])
		}
	case "verify":
		w.verifyErr = fails
	case "restore":
		w.restoreErr = fails
	}
}

// serverCommand runs "region-a dies" and its like.
func serverCommand(t *testing.T, w *world, f []string) {
	t.Helper()
	s := w.server(f[0])
	if s == nil || len(f) < 2 {
		t.Fatalf("unknown command %q", strings.Join(f, " "))
	}
	all := func(a Attempt) { s.fresh, s.persistent, s.replication = a, a, a }
	switch f[1] {
	case "dies":
		all(Attempt{Evidence: Refused, Detail: "connection refused"})
	case "freezes":
		all(Attempt{Evidence: Silent, Detail: "timeout"})
	case "unseen":
		all(Attempt{Evidence: Silent, Detail: "timeout"})
		s.partitioned = true
	case "returns":
		all(good)
		s.partitioned = false
	case "says":
		all(Attempt{Evidence: Alive, SQLState: f[2]})
	case "hangs":
		s.fresh, s.persistent, s.replication = Attempt{Evidence: Silent, Detail: "timeout"}, good, Attempt{Evidence: Silent, Detail: "timeout"}
	case "promoted":
		w.promote(s)
	case "demoted":
		s.role, s.upstream = RoleStandby, ""
	case "follows":
		w.follow(s, f[2])
	case "cascades":
		w.follow(s, f[2])
		s.cascades = true
	case "loses-upstream":
		s.noReceiver = true
	case "finds-upstream":
		s.noReceiver = false
	default:
		t.Fatalf("unknown command %q", strings.Join(f, " "))
	}
}
