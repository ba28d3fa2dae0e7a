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
//	region-a loses-upstream | finds-upstream
//	set region-a key=value ...   a fact (see setFact)
//	rename / address / drop      through reload: reload region-a region-b [options]
//	disk full | disk ok · cut stuck | cut ok · heard (a backend sends a byte now) · heard off
//	hook ok|fails|slow|done · promotion ok|deaf|fails|takes 2s · verify ok|fails · restore ok|fails
//	approve NAME [epoch=N] [override=a,b] · resolve NAME [epoch=N] · abort · hold · resume
//	status · decide [primary_dead|switchover] [to=NAME]
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
	if f[0] == "nodes" {
		return scriptWorld(t, f[1:], say)
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
	case "disk":
		w.disk = map[string]string{"full": "write state file: no space left on device"}[f[1]]
	case "cut":
		w.cutErr = map[string]string{"stuck": "close epoch: deadline exceeded"}[f[1]]
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
	case "approve", "resolve", "abort", "hold", "resume":
		w.commands++
		w.step(Commanded{At: w.now, CommandID: w.commands, Command: scriptCommand(t, w, f)})
	case "hook", "promotion", "verify", "restore":
		scriptHelpers(t, w, f)
	case "status":
		say(statusText(w.e.Status()))
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
	for _, word := range f[1:] {
		switch k, v, isOption := strings.Cut(word, "="); {
		case !isOption:
			node = word
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
	fails := map[string]string{"fails": "it failed", "ok": "", "deaf": "", "takes": "", "slow": "", "done": ""}[f[1]]
	switch f[0] {
	case "hook":
		w.hookErr, w.slowHook = fails, f[1] == "slow"
		if c := w.e.change; f[1] == "done" && c.Known {
			w.step(Completed{At: w.now, ActionID: c.V.fence.id, Outcome: Outcome{Detail: "hooks.fence exit 0"}})
		}
	case "promotion":
		w.promoteErr, w.promoteDeaf = fails, f[1] == "deaf"
		if f[1] == "takes" {
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
	case "loses-upstream":
		s.noReceiver = true
	case "finds-upstream":
		s.noReceiver = false
	default:
		t.Fatalf("unknown command %q", strings.Join(f, " "))
	}
}

// setFact sets one fact of a server. Underscores in the value stand for spaces.
func setFact(t *testing.T, w *world, s *server, key, value string) {
	t.Helper()
	number := func() uint64 { return bytesOf(t, value) }
	switch key {
	case "sys":
		s.sys = value
	case "server":
		s.id = value
	case "timeline":
		s.tl = uint32(number())
	case "history": // 1@0/3000000,2@0/4000000 or unknown
		s.hist, s.noHist = nil, value == "unknown"
		for part := range strings.SplitSeq(value, ",") {
			tl, at, ok := strings.Cut(part, "@")
			if !ok {
				continue
			}
			n, err := strconv.ParseUint(tl, 10, 32)
			lsn, err2 := ParseLSN(at)
			if err != nil || err2 != nil {
				t.Fatalf("history %q: %v %v", value, err, err2)
			}
			s.hist = append(s.hist, TimelineSwitch{uint32(n), lsn})
		}
	case "role":
		s.role = map[string]Role{"primary": RolePrimary, "standby": RoleStandby}[value]
	case "lsn":
		lsn, err := ParseLSN(value)
		if err != nil {
			t.Fatal(err)
		}
		s.lsn = lsn
	case "rate":
		s.rate = number()
	case "lag":
		s.lag = number()
	case "gap":
		s.gap = number()
	case "paused":
		s.paused = value
	case "sync":
		s.syncState = value
	case "fresh", "persistent", "replication":
		a := map[string]*Attempt{"fresh": &s.fresh, "persistent": &s.persistent, "replication": &s.replication}[key]
		*a = attemptOf(value)
	case "stalled":
		s.stalled = value == "true"
	case "probes":
		s.unprobed = value == "off"
	case "monitor":
		s.blindMonitor = value == "false"
	case "facts":
		s.blindFacts = value == "none"
	case "started":
		s.startedAgo = duration(t, value)
	case "receiver":
		s.receiverStatus = value
	case "max_connections":
		s.set.MaxConnections = Some(int(number()))
	case "delay":
		s.set.RecoveryMinApplyDelay = Some(duration(t, value))
	case "can-promote":
		s.set.CanPromote = Some(value == "true")
	case "sync-names":
		s.set.SynchronousStandbyNames = Some(value)
	case "can-set-sync":
		s.set.CanSetSyncNames = Some(value == "true")
	case "receiver-timeout":
		s.set.WalReceiverTimeout = Some(duration(t, value))
	default:
		t.Fatalf("unknown fact %q", key)
	}
}

func attemptOf(value string) Attempt {
	switch value {
	case "answers":
		return good
	case "silent":
		return Attempt{Evidence: Silent, Detail: "timeout"}
	case "refused":
		return Attempt{Evidence: Refused, Detail: "connection refused"}
	case "unknown":
		return Attempt{Detail: "another protocol answers"}
	}
	return Attempt{Evidence: Alive, SQLState: value}
}

func testConfig(names ...string) Config {
	c := Config{Mode: ModeObserve, TickInterval: 200 * time.Millisecond, ProbeInterval: time.Second, ProbeTimeout: time.Second, StableFor: 5 * time.Second,
		MaxLagBytes: 16 << 20, AntiFlap: time.Hour, PrimaryStartTimeout: time.Minute, PromoteTimeout: time.Minute}
	for i, n := range names {
		c.Nodes = append(c.Nodes, Node{Name: n, Address: fmt.Sprintf("10.0.0.%d:5432", 11+i)})
	}
	return c
}

// scriptConfig reads names, name@address and key=value.
func scriptConfig(t *testing.T, base Config, f []string) Config {
	t.Helper()
	c := base
	c.Nodes = nil
	for _, word := range f {
		k, v, isOption := strings.Cut(word, "=")
		if !isOption {
			name, addr, ok := strings.Cut(word, "@")
			if !ok {
				addr = fmt.Sprintf("10.0.0.%d:5432", 11+len(c.Nodes))
			}
			c.Nodes = append(c.Nodes, Node{Name: name, Address: addr})
			continue
		}
		switch k {
		case "mode":
			m, err := ParseMode(v)
			if err != nil {
				t.Fatal(err)
			}
			c.Mode = m
		case "stable":
			c.StableFor = duration(t, v)
		case "start-timeout":
			c.PrimaryStartTimeout = duration(t, v)
		case "max-lag":
			c.MaxLagBytes = bytesOf(t, v)
		case "require-lossless":
			c.RequireLossless = v == "true"
		case "require-fence":
			c.RequireFence = v == "true"
		case "anti-flap":
			c.AntiFlap = duration(t, v)
		case "hook":
			c.FenceHook = v == "true"
		case "promote-timeout":
			c.PromoteTimeout = duration(t, v)
		default:
			t.Fatalf("unknown option %q", word)
		}
	}
	return c
}

func scriptWorld(t *testing.T, f []string, say func(string)) *world {
	t.Helper()
	w := newWorld(scriptConfig(t, testConfig(), f), NewRecord(), Opt[LastKnown]{})
	w.log = say
	return w
}

func scriptReload(t *testing.T, w *world, f []string) {
	t.Helper()
	old, cfg := w.servers, scriptConfig(t, w.cfg, f)
	if cfg.Validate() != nil {
		w.step(Reconfigured{At: w.now, Config: cfg})
		return
	}
	w.cfg = cfg
	w.servers = newWorld(w.cfg, NewRecord(), Opt[LastKnown]{}).servers
	for _, s := range w.servers {
		s.role, s.upstream, s.next = RoleStandby, "", w.now
		for _, o := range old {
			if o.node.Address == s.node.Address || o.node.Name == s.node.Name {
				n := s.node
				*s = *o
				s.node = n
			}
		}
	}
	w.step(Reconfigured{At: w.now, Config: w.cfg})
}

func scriptRecord(t *testing.T, w *world, f []string) Record {
	t.Helper()
	r := NewRecord()
	r.Writer = Writer{SystemID: "7000000000000000001", Timeline: 1, History: Some([]TimelineSwitch(nil))}
	for _, word := range f {
		k, v, isOption := strings.Cut(word, "=")
		switch {
		case k == "epoch":
			r.Epoch = bytesOf(t, v)
		case word == "open":
			r.Phase = PhaseOpen
		case word == "drain":
			r.Phase = PhaseDrain
		case k == "timeline":
			r.Writer.Timeline = uint32(bytesOf(t, v))
			r.Writer.History = Some([]TimelineSwitch{{r.Writer.Timeline - 1, 0x3000000}})
		case k == "previous":
			r.Previous = v
		case !isOption:
			r.Writer.Node, r.Writer.Address = word, "10.0.0.11:5432"
		default:
			t.Fatalf("unknown record %q", word)
		}
	}
	if err := r.Validate(); err != nil {
		t.Fatal(err)
	}
	return r
}

func scriptQuestion(f []string) (q Question) {
	for _, word := range f {
		if to, ok := strings.CutPrefix(word, "to="); ok {
			q.To = to
		} else {
			q.Event = ChangeEvent(word)
		}
	}
	return q
}

func duration(t *testing.T, s string) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func bytesOf(t *testing.T, s string) uint64 {
	t.Helper()
	shift := 0
	for unit, bits := range map[string]int{"KiB": 10, "MiB": 20, "GiB": 30} {
		if n, ok := strings.CutSuffix(s, unit); ok {
			s, shift = n, bits
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << shift
}

func seconds(i Instant) string { return fmt.Sprintf("%.1fs", time.Duration(i).Seconds()) }
