package decision

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

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
	case "read-only":
		s.set.DefaultReadOnly = Some(value == "true")
	case "waits":
		s.waits = value
	case "rival":
		s.rivals = strings.Fields(value)
	case "lock":
		s.locked = value == "theirs"
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
		MaxLagBytes: 16 << 20, AntiFlap: time.Hour, PrimaryStartTimeout: time.Minute, PromoteTimeout: time.Minute,
		DrainTimeout: 10 * time.Second, HoldSession: 15 * time.Second}
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
		case "drain":
			c.DrainTimeout = duration(t, v)
		case "hold":
			c.HoldSession = duration(t, v)
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

// whyText prints what blocks, or what would be lost.
func whyText(d Decision) string {
	verdict := map[bool]string{true: "SAFE", false: "BLOCKED"}[d.Safe]
	bytes := "unknown"
	if d.LossBytes.Known {
		bytes = fmt.Sprint(d.LossBytes.V)
	}
	text := fmt.Sprintf("%s candidate=%s risk=%s lossless=%s loss=%s", verdict, d.Candidate.V, d.Risk, d.Lossless, bytes)
	if d.RelaxedCommits.Known {
		text += fmt.Sprintf(" relaxed=%d", d.RelaxedCommits.V)
	}
	for _, c := range d.Criteria {
		if c.Overridden || c.Verdict == Fail || c.Verdict == Unknown {
			text += fmt.Sprintf("\n  %-8s%s: %s", map[bool]string{true: "taken", false: c.Verdict.String()}[c.Overridden], c.Name, c.Explanation)
		}
	}
	return text + "\n  next: " + d.NextAction
}
