package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// bundleFormat is the version of the file's form; a file of another one is refused. What the engine's state looks like has a version of its own
// (decision.SnapshotVersion).
const bundleFormat = 1

// maxBundle bounds a file that is read, in bytes. Those that are written are much smaller.
const maxBundle = 64 << 20

// ErrBundleVersion is returned for a bundle whose form, or whose engine's state, is that of another version of pgtether.
var ErrBundleVersion = errors.New("evidence bundle of another version")

// Outcome says how far the change of a bundle had come when it was written.
type Outcome string

// The outcomes.
const (
	// OutcomeUnderWay: the promotion has been decided for good and is not complete.
	OutcomeUnderWay Outcome = "under_way"
	// OutcomeOpened: the new writer is open.
	OutcomeOpened Outcome = "opened"
	// OutcomeUndone: the change was given up before anything irreversible.
	OutcomeUndone Outcome = "undone"
	// OutcomeHalted: an operator must decide.
	OutcomeHalted Outcome = "halted"
)

// Moment is when a decision was recorded.
type Moment string

// The moments.
const (
	// MomentPromotable: the criteria passed, or an operator approved, and the change began.
	MomentPromotable Moment = "promotable"
	// MomentNoReturn: the promotion is about to be made durable; from then on nothing is undone.
	MomentNoReturn Moment = "before_the_point_of_no_return"
	// MomentUndone, MomentHalted and MomentOpened: the change ended so.
	MomentUndone Moment = "undone"
	MomentHalted Moment = "halted"
	MomentOpened Moment = "opened"
)

// Bundle is the evidence of one change of the writer: the engine's state from which on everything was recorded, every event since, a digest of what
// each led to, and the decision at the moments that count. It holds no secret: what the engine is told has none.
type Bundle struct {
	// Version names the pgtether that recorded it, StateID the state directory, under which epochs grow.
	Version string `json:"pgtether"`
	StateID string `json:"state_id"`
	// Epoch is the one that the change led to; of a change that was undone, the one that it began in.
	Epoch   uint64  `json:"epoch"`
	Outcome Outcome `json:"outcome"`
	// ClockBegan is what instant 0 of the run was on the wall. Nothing was decided by it.
	ClockBegan time.Time `json:"clock_began"`
	// Snapshot is the engine's state, its configuration included, before the first step.
	Snapshot  decision.Snapshot  `json:"snapshot"`
	Steps     []RecordedStep     `json:"steps"`
	Decisions []RecordedDecision `json:"decisions"`
	// Events are the entries of /events since the writer stopped being open.
	Events []Event `json:"events"`

	inputs []decision.Event // Steps decoded
}

// RecordedStep is one event and the SHA-256 of the actions that it led to.
type RecordedStep struct {
	Event   tagged   `json:"event"`
	Actions []string `json:"actions"`
	Digest  string   `json:"sha256"`
}

// RecordedDecision is /decision as it was rendered after so many steps.
type RecordedDecision struct {
	Moment Moment          `json:"moment"`
	After  int             `json:"after_steps"`
	Body   json.RawMessage `json:"decision"`
}

// Render prints a decision as /decision does, on one line or on several.
type Render func(d decision.Decision, wall func(decision.Instant) time.Time) []byte

// Wall returns what an instant of the recorded run was on the wall.
func (b *Bundle) Wall(i decision.Instant) time.Time { return b.ClockBegan.Add(time.Duration(i)) }

// bundleFile is the form of the file. Sum is that of envelope, over Body.
type bundleFile struct {
	Format int             `json:"pgtether_evidence"`
	Sum    string          `json:"sha256"`
	Body   json.RawMessage `json:"body"`
}

// seal gives the body its checksum and lays it out with a line for every step, so that people can read and compare it.
func seal(body []byte) []byte {
	sum := envelope{Version: bundleFormat, Body: body}.sum()
	return fmt.Appendf(nil, "{\"pgtether_evidence\": %d,\n\"sha256\": %q,\n\"body\": %s}\n", bundleFormat, sum, body)
}

// ReadBundle reads a file that was written as evidence. What is damaged, foreign or of another version is an error, never half a bundle.
func ReadBundle(file []byte) (*Bundle, error) {
	if len(file) > maxBundle {
		return nil, fmt.Errorf("read %d bytes, more than %d: %w", len(file), maxBundle, ErrBundle)
	}
	var f bundleFile
	if err := json.Unmarshal(file, &f); err != nil || f.Format == 0 {
		return nil, ErrBundle
	}
	if f.Format != bundleFormat {
		return nil, fmt.Errorf("read format %d, this pgtether reads format %d: %w", f.Format, bundleFormat, ErrBundleVersion)
	}
	if f.Sum != (envelope{Version: bundleFormat, Body: f.Body}).sum() {
		return nil, fmt.Errorf("compare checksum: damaged, or changed by hand: %w", ErrBundle)
	}
	return readBody(f.Body)
}

func readBody(body []byte) (*Bundle, error) {
	var versions struct {
		Version  string                 `json:"pgtether"`
		Snapshot struct{ Version *int } `json:"snapshot"`
	}
	if err := json.Unmarshal(body, &versions); err != nil || versions.Snapshot.Version == nil {
		return nil, fmt.Errorf("read engine state: %w", ErrBundle)
	}
	if v := *versions.Snapshot.Version; v != decision.SnapshotVersion {
		return nil, fmt.Errorf("read engine state of version %d, this pgtether has version %d; replay it with pgtether %s, which recorded it: %w", v,
			decision.SnapshotVersion, versions.Version, ErrBundleVersion)
	}
	b := &Bundle{}
	if err := json.Unmarshal(body, b); err != nil {
		return nil, fmt.Errorf("read body: %w: %w", ErrBundle, err)
	}
	for i, s := range b.Steps {
		ev, err := decodeEvent(s.Event)
		if err != nil {
			return nil, fmt.Errorf("read step %d: %w", i+1, err)
		}
		b.inputs = append(b.inputs, ev)
	}
	last := 0
	for _, d := range b.Decisions {
		if d.After < last || d.After > len(b.Steps) {
			return nil, fmt.Errorf("read decision after step %d of %d: %w", d.After, len(b.Steps), ErrBundle)
		}
		last = d.After
	}
	if _, err := decision.Restore(b.Snapshot); err != nil {
		return nil, fmt.Errorf("read engine state: %w: %w", ErrBundle, err)
	}
	return b, nil
}

// list joins JSON values to a list with one value on each line.
func list(values []json.RawMessage) []byte {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('\n')
		b.Write(v)
	}
	b.WriteByte(']')
	return b.Bytes()
}

// marshalEach encodes every element.
func marshalEach[T any](values []T) ([]json.RawMessage, error) {
	out := make([]json.RawMessage, 0, len(values))
	for _, v := range values {
		b, err := marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encode %T: %w", v, err)
		}
		out = append(out, b)
	}
	return out, nil
}

// bundleHead is the part of a bundle that comes first.
type bundleHead struct {
	Version    string    `json:"pgtether"`
	StateID    string    `json:"state_id"`
	Epoch      uint64    `json:"epoch"`
	Outcome    Outcome   `json:"outcome"`
	ClockBegan time.Time `json:"clock_began"`
}

// layOut writes a bundle. What was encoded when it happened is not encoded again.
func layOut(head bundleHead, snapshot json.RawMessage, steps []json.RawMessage, decisions []RecordedDecision, events []Event) ([]byte, error) {
	first, err := marshal(head)
	if err != nil {
		return nil, fmt.Errorf("encode head: %w", err)
	}
	ds, err := marshalEach(decisions)
	if err != nil {
		return nil, err
	}
	evs, err := marshalEach(events)
	if err != nil {
		return nil, err
	}
	var body bytes.Buffer
	body.Write(bytes.TrimSuffix(first, []byte("}")))
	for _, part := range []struct {
		name string
		json []byte
	}{{"snapshot", snapshot}, {"steps", list(steps)}, {"decisions", list(ds)}, {"events", list(evs)}} {
		fmt.Fprintf(&body, ",\n%q: %s", part.name, part.json)
	}
	body.WriteByte('}')
	return seal(body.Bytes()), nil
}
