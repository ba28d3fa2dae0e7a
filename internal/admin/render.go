package admin

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/pgtether/pgtether/decision"
)

// DecisionJSON is a decision as /decision has it, for whoever keeps it or compares it. wall says what an instant is on the wall.
func DecisionJSON(d decision.Decision, wall func(decision.Instant) time.Time) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	// It cannot fail: texts, numbers and lists of them.
	_ = encoder.Encode(renderDecision(d, wall))
	return bytes.TrimRight(b.Bytes(), "\n")
}
