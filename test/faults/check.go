package main

import (
	"fmt"
	"slices"
	"sort"
	"time"
)

// Violation is a broken promise, with its evidence.
type Violation struct {
	// Name is C1 to C10 (C6 is about what a planned change costs those who are connected, C10 about sessions that move), or "unwanted promotion".
	Name, Evidence string
}

// String prints both.
func (v Violation) String() string { return v.Name + ": " + v.Evidence }

// rowBytes is less than the write-ahead log of any row that the load writes: a lower bound of what a lost one weighs.
const rowBytes = 100

// freshFor is how long before the fault a client's last commit may be. A client that was not writing then shows nothing about the fault.
const freshFor = 5 * time.Second

// Uncounted says why a run proves nothing, whatever its checks say; empty when it counts.
func Uncounted(r Run) string {
	fresh := map[int]bool{}
	for _, op := range r.Ops {
		if op.Outcome == Acknowledged && op.Return <= r.Fault && op.Return >= r.Fault-freshFor {
			fresh[op.Client] = true
		}
	}
	if len(fresh) < r.Clients {
		return fmt.Sprintf("only %d of %d clients had committed within %s before the fault", len(fresh), r.Clients, freshFor)
	}
	return ""
}

// Check holds a run against every promise. It is a function of its argument.
func Check(r Run) (found []Violation) {
	say := func(name, format string, args ...any) {
		found = append(found, Violation{Name: name, Evidence: fmt.Sprintf(format, args...)})
	}
	checkRows(r, say)
	checkLoss(r, say)
	checkExclusive(r, say)
	checkExplained(r, say)
	checkAlive(r, say)
	checkPlanned(r, say)
	checkMoved(r, say)
	if r.Gray && r.Promoted {
		say("unwanted promotion", "%s was promoted after a fault that is no death", r.New)
	}
	return found
}

type sayer func(name, format string, args ...any)

// checkRows: what failed is not there, nothing is there twice or was written by nobody.
func checkRows(r Run, say sayer) {
	written := map[Key]Op{}
	for _, op := range r.Ops {
		written[op.Key] = op
		if op.Outcome == Failed && r.Rows[op.Key] > 0 {
			say("C2", "client %d was told that row %d failed (%s), and it is there", op.Client, op.Seq, op.Err)
		}
	}
	for _, k := range sortedKeys(r.Rows) {
		op, known := written[k]
		switch n := r.Rows[k]; {
		case !known:
			say("C4", "row %d of client %d was written by nobody", k.Seq, k.Client)
		case n > 1 && op.Outcome == InDoubt:
			say("C3", "row %d of client %d, in doubt, is there %d times", k.Seq, k.Client, n)
		case n > 1:
			say("C4", "row %d of client %d is there %d times", k.Seq, k.Client, n)
		}
	}
	for _, op := range r.Ops {
		if op.Outcome == Acknowledged && r.New != r.Old && op.Node == r.New && r.OldRows[op.Key] > 0 {
			say("C4", "row %d of client %d was accepted by %s and by %s", op.Seq, op.Client, r.New, r.Old)
		}
	}
}

// lostRows are the acknowledged ones that are missing.
func lostRows(r Run) (lost, relaxed int) {
	for _, op := range r.Ops {
		if op.Outcome != Acknowledged || r.Rows[op.Key] > 0 {
			continue
		}
		lost++
		if op.Relaxed {
			relaxed++
		}
	}
	return lost, relaxed
}

// checkLoss: with synchronous replication nothing acknowledged is missing but what asked for less; otherwise no more than was stated.
func checkLoss(r Run, say sayer) {
	checkStatement(r, say)
	lost, relaxed := lostRows(r)
	switch {
	case lost == 0:
	case r.Old == r.New && lost == relaxed: // the server itself loses such commits when it crashes: that is what was asked for
	case r.Sync && lost > relaxed:
		say("C1", "%d acknowledged rows are missing although replication is synchronous", lost-relaxed)
	case r.Said.Lossless == "proven":
		say("C5", "%d acknowledged rows are missing, and the change was called proven", lost)
	case r.Said.Lossless == "relaxed" && lost > relaxed:
		say("C5", "%d acknowledged rows are missing that did not ask for less, and the change was called relaxed", lost-relaxed)
	case r.Said.Lossless == "":
		say("C5", "%d acknowledged rows are missing, and no loss was stated", lost)
	case r.Said.LossBytes != nil && uint64(lost)*rowBytes > *r.Said.LossBytes:
		say("C5", "%d acknowledged rows are missing, at least %d bytes, and at most %d were stated", lost, lost*rowBytes, *r.Said.LossBytes)
	}
}

// checkStatement: a change says what it may cost in one of four words, and with a number wherever the word implies one. Whether anything was
// lost this time does not matter: who reads the statement must be able to rely on it.
func checkStatement(r Run, say sayer) {
	if r.Old == r.New {
		return
	}
	switch said := r.Said; said.Lossless {
	case "proven":
		if said.LossBytes == nil || *said.LossBytes != 0 {
			say("C5", "the change was called proven without stating that 0 bytes are lost")
		}
	case "relaxed", "bounded":
		if said.LossBytes == nil {
			say("C5", "the change was called %s, and no number of bytes was stated", said.Lossless)
		}
	case "unknown":
	default:
		say("C5", "the writer changed, and its loss was stated as %q", said.Lossless)
	}
}

// checkExclusive: the last byte to the old writer was sent before the first one to the new, and the old one told no client anything after it.
// What the clients say is judged even where the byte logs have seen nothing.
func checkExclusive(r Run, say sayer) {
	old, next := r.Bytes[r.Old], r.Bytes[r.New]
	if r.Old == r.New {
		return
	}
	checkHeard(r, say)
	if over := overlap(r); old.Seen && next.Seen && over > 0 {
		say("C7", "%s still got bytes %s after %s had got its first", r.Old, over, r.New)
	}
	first := FirstAck(r)
	for _, op := range r.Ops {
		if op.Outcome == Acknowledged && op.Node == r.Old && first > 0 && op.Return > first {
			say("C7", "%s acknowledged row %d of client %d %s after %s had acknowledged its first", r.Old, op.Seq, op.Client, op.Return-first, r.New)
			return
		}
	}
}

// checkHeard: no byte of the old writer reaches a client once the new epoch is open, or, where nobody says when that was, once the new writer
// got its first byte. The cut was over before either.
func checkHeard(r Run, say sayer) {
	since := r.Said.Opened
	if since == 0 && r.Bytes[r.New].Seen {
		since = r.Bytes[r.New].FirstTo
	}
	for _, h := range r.Heard {
		if since > 0 && h.Node == r.Old && h.Last > since {
			say("C7", "client %d heard %s %s after %s was open", h.Client, r.Old, h.Last-since, r.New)
		}
	}
}

// overlap is how long bytes went to both writers; not positive when they did not.
func overlap(r Run) time.Duration { return r.Bytes[r.Old].LastTo - r.Bytes[r.New].FirstTo }

// checkExplained: one promotion for each epoch, and a reason for every transition.
func checkExplained(r Run, say sayer) {
	for epoch, n := range r.Said.Requested {
		if n != 1 {
			say("C8", "%d promotions were requested for epoch %d", n, epoch)
		}
	}
	for _, what := range r.Said.Unexplained {
		say("C8", "%s is not explained", what)
	}
	if r.Old != r.New && r.Said.Opened == 0 {
		say("C8", "%s became the writer, and no event opened its epoch", r.New)
	}
	if r.Said.Kind == "failover" && len(r.Said.Requested) == 0 {
		say("C8", "a failover was made that no event had requested")
	}
}

// checkAlive: writes are acknowledged again in time, to every client, and no login is left without an answer.
func checkAlive(r Run, say sayer) {
	if r.Hung > 0 {
		say("C9", "%d logins were left without an answer for more than %s", r.Hung, r.LoginLimit)
	}
	first := FirstAck(r)
	switch {
	case first == 0:
		say("C9", "no write was acknowledged after the fault")
		return
	case first-r.Fault > r.Limit:
		say("C9", "the first write after the fault was acknowledged %s after it, more than %s", first-r.Fault, r.Limit)
	}
	since := r.Healed
	if r.Old != r.New {
		since = r.Said.Opened
	}
	if n := committed(r.Ops, r.New, since); n < r.Clients {
		say("C9", "only %d of %d clients commit on %s what they began after %s", n, r.Clients, r.New, since)
	}
}

// committed counts the clients that were acknowledged a write on a server, or on any when none is named, which they began after an instant.
func committed(ops []Op, node string, since time.Duration) int {
	again := map[int]bool{}
	for _, op := range ops {
		if op.Outcome == Acknowledged && (node == "" || op.Node == node) && op.Invoke > since {
			again[op.Client] = true
		}
	}
	return len(again)
}

// FirstAck is when the first write that was begun after the fault, on the server that is the writer in the end, was acknowledged; 0 for never.
func FirstAck(r Run) time.Duration {
	var first time.Duration
	for _, op := range r.Ops {
		if op.Outcome == Acknowledged && op.Invoke > r.Fault && (r.Old == r.New || op.Node == r.New) && (first == 0 || op.Return < first) {
			first = op.Return
		}
	}
	return first
}

func sortedKeys(rows map[Key]int) []Key {
	keys := make([]Key, 0, len(rows))
	for k := range rows {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b Key) int {
		if a.Client != b.Client {
			return a.Client - b.Client
		}
		return int(a.Seq - b.Seq)
	})
	return keys
}

// quantile of some durations; they are sorted by it.
func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	sort.Slice(d, func(i, k int) bool { return d[i] < d[k] })
	return d[min(len(d)-1, int(q*float64(len(d))))]
}
