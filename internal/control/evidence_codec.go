package control

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/pgtether/pgtether/decision"
)

// ErrBundle is returned for what is not an evidence bundle, or not a whole one.
var ErrBundle = errors.New("not a whole evidence bundle of pgtether")

// tagged is an event, or a command, with the word for its type.
type tagged struct {
	Type  string          `json:"type"`
	Value json.RawMessage `json:"value"`
}

// commanded is decision.Commanded with the command's type beside it.
type commanded struct {
	At        decision.Instant
	CommandID uint64
	Command   tagged
}

// marshal is JSON on one line, with every character as it is.
func marshal(v any) (json.RawMessage, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// wordFor is the type's name without its package: "Tick", "Persist".
func wordFor(v any) string {
	name := fmt.Sprintf("%T", v)
	return name[strings.LastIndexByte(name, '.')+1:]
}

func tag(v any) (tagged, error) {
	b, err := marshal(v)
	return tagged{wordFor(v), b}, err
}

// encodeEvent writes an event with its type.
func encodeEvent(ev decision.Event) (tagged, error) {
	if c, ok := ev.(decision.Commanded); ok {
		command, err := tag(c.Command)
		if err != nil {
			return tagged{}, err
		}
		b, err := marshal(commanded{c.At, c.CommandID, command})
		return tagged{wordFor(ev), b}, err
	}
	return tag(ev)
}

func read[T any](b json.RawMessage) (T, error) {
	var v T
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("read %T: %w", v, ErrBundle)
	}
	return v, nil
}

// decodeEvent reads what encodeEvent wrote.
func decodeEvent(t tagged) (decision.Event, error) {
	switch t.Type {
	case "Tick":
		return read[decision.Tick](t.Value)
	case "Observed":
		return read[decision.Observed](t.Value)
	case "Completed":
		return read[decision.Completed](t.Value)
	case "Reconfigured":
		v, err := read[decision.Reconfigured](t.Value)
		if err == nil && v.Config.Validate() != nil {
			err = fmt.Errorf("read new configuration: %w: %w", ErrBundle, v.Config.Validate())
		}
		return v, err
	case "Commanded":
		v, err := read[commanded](t.Value)
		if err != nil {
			return nil, err
		}
		c, err := decodeCommand(v.Command)
		return decision.Commanded{At: v.At, CommandID: v.CommandID, Command: c}, err
	}
	return nil, fmt.Errorf("read event of type %q: %w", t.Type, ErrBundle)
}

func decodeCommand(t tagged) (decision.Command, error) {
	switch t.Type {
	case "Approve":
		return read[decision.Approve](t.Value)
	case "Switch":
		return read[decision.Switch](t.Value)
	case "Resolve":
		return read[decision.Resolve](t.Value)
	case "Abort":
		return read[decision.Abort](t.Value)
	case "Pause":
		return read[decision.Pause](t.Value)
	case "Resume":
		return read[decision.Resume](t.Value)
	}
	return nil, fmt.Errorf("read command of type %q: %w", t.Type, ErrBundle)
}

// digest is the SHA-256 of the actions of one Step, each as its type and its JSON, with their types for people.
func digest(actions []decision.Action) (sum string, names []string, err error) {
	h := sha256.New()
	names = []string{}
	for _, a := range actions {
		b, err := marshal(a)
		if err != nil {
			return "", nil, fmt.Errorf("encode action %T: %w", a, err)
		}
		name := wordFor(a)
		names = append(names, name)
		fmt.Fprintf(h, "%s %s\n", name, b)
	}
	return hex.EncodeToString(h.Sum(nil)), names, nil
}
