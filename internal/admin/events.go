package admin

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

const (
	// defaultEvents and maxEvents bound the events of one answer.
	defaultEvents = 1000
	maxEvents     = 10_000
	// streamBatch is how many events of a stream are fetched at once.
	streamBatch = 500
	// keepAlive is how often a quiet stream says that it is there: proxies on the way close what is silent.
	keepAlive = 15 * time.Second
)

// eventBody is one event of GET /events, and the data of one event of GET /events/stream.
type eventBody struct {
	Seq       uint64                     `json:"seq"`
	At        string                     `json:"at"`
	Epoch     *uint64                    `json:"epoch"`
	StateFrom *string                    `json:"state_from"`
	StateTo   *string                    `json:"state_to"`
	Step      *string                    `json:"step"`
	Kind      string                     `json:"kind"`
	Cause     *string                    `json:"cause"`
	Message   string                     `json:"message"`
	Operands  map[string]json.RawMessage `json:"operands"`
}

func renderEvent(e Event) eventBody {
	operands := make(map[string]json.RawMessage, len(e.Operands))
	for name, value := range e.Operands {
		if !json.Valid(value) {
			value = json.RawMessage("null")
		}
		operands[name] = value
	}
	return eventBody{
		Seq: e.Seq, At: timestamp(e.At), Epoch: e.Epoch, StateFrom: text(e.StateFrom), StateTo: text(e.StateTo), Step: text(e.Step),
		Kind: e.Kind, Cause: text(e.Cause), Message: e.Message, Operands: operands,
	}
}

// EventJSON is one event as /events has it, on one line, for whoever hands it on by another way.
func EventJSON(e Event) []byte { return encodeEvent(e) }

// events answers GET /events.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	since, ok := number(w, r, "since", r.FormValue("since"), 0, 0, 1<<63)
	if !ok {
		return
	}
	last, ok := number(w, r, "last", r.FormValue("last"), 0, 1, maxEvents)
	if !ok {
		return
	}
	most := uint64(defaultEvents)
	if last > 0 {
		newest := s.deps.EventsNewest()
		most, since = last, max(since, newest-min(last, newest))
	}
	limit, ok := number(w, r, "limit", r.FormValue("limit"), most, 1, maxEvents)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	// Written event by event: a whole answer may have megabytes, and many readers may be slow. An error means that the client is gone.
	out := bufio.NewWriter(w)
	_, _ = out.WriteString(`{"events": [`)
	for i, e := range s.deps.Events(since, int(limit)) {
		if i > 0 {
			_ = out.WriteByte(',')
		}
		_, _ = out.WriteString("\n  ")
		_, _ = out.Write(encodeEvent(e))
	}
	_, _ = out.WriteString("\n]}\n")
	_ = out.Flush()
}

// encodeEvent is one event in one line.
func encodeEvent(e Event) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	// It cannot fail: texts, numbers, and operands that were found to be JSON.
	_ = encoder.Encode(renderEvent(e))
	return bytes.TrimRight(b.Bytes(), "\n")
}

// number reads a whole number of the request within bounds; without one it is the default.
func number(w http.ResponseWriter, r *http.Request, name, given string, fallback, least, most uint64) (uint64, bool) {
	if given == "" && !r.URL.Query().Has(name) {
		return fallback, true
	}
	n, err := strconv.ParseUint(given, 10, 64)
	if err != nil || n < least || n > most {
		refuse(w, r, http.StatusBadRequest, "bad_request", fmt.Sprintf("%s = %s is not a number from %d to %d", name, shown(given), least, most), "")
		return 0, false
	}
	return n, true
}

// stream answers GET /events/stream: every event after since (or after the header Last-Event-ID, with which a browser takes a broken stream up
// again), then each new one, until the client goes or the server shuts down.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	since, ok := number(w, r, "since", r.FormValue("since"), 0, 0, 1<<63)
	if !ok {
		return
	}
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		if since, ok = number(w, r, "Last-Event-ID", last, 0, 0, 1<<63); !ok {
			return
		}
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		refuse(w, r, http.StatusServiceUnavailable, "unavailable", fmt.Sprintf("there are already %d streams", maxStreams), "poll GET /events, or try again")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	(&streamer{server: s, w: w, control: http.NewResponseController(w), since: since}).run(r)
}

// streamer writes events to one client.
type streamer struct {
	server  *Server
	w       http.ResponseWriter
	control *http.ResponseController
	since   uint64
}

// run returns when the client is gone, too slow, or the server shuts down.
func (t *streamer) run(r *http.Request) {
	quiet := time.NewTicker(keepAlive)
	defer quiet.Stop()
	// The deadline of the request would end the stream: the server reads on, to notice that the client is gone.
	if t.control.SetReadDeadline(time.Time{}) != nil {
		return
	}
	// The first line tells the client at once that the stream is open.
	if t.write([]byte(": pgtether\n\n")) != nil {
		return
	}
	for {
		// Asked for before the events are read: one that comes in between is not missed.
		changed := t.server.deps.EventsChanged()
		more, err := t.batch()
		if err != nil {
			return
		}
		if more {
			continue
		}
		select {
		case <-r.Context().Done():
			return
		case <-t.server.stopping:
			return
		case <-quiet.C:
			if t.write([]byte(":\n\n")) != nil {
				return
			}
		case <-changed:
		}
	}
}

// batch writes what is there, and says whether there may be more.
func (t *streamer) batch() (more bool, err error) {
	events := t.server.deps.Events(t.since, streamBatch)
	var out []byte
	for _, e := range events {
		out = append(fmt.Appendf(out, "id: %d\ndata: ", e.Seq), encodeEvent(e)...)
		out = append(out, "\n\n"...)
		t.since = e.Seq
	}
	if len(out) == 0 {
		return false, nil
	}
	return len(events) == streamBatch, t.write(out)
}

// write sends bytes at once. A client that does not take them within writeTimeout is given up.
func (t *streamer) write(b []byte) error {
	if err := t.control.SetWriteDeadline(t.server.now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := t.w.Write(b); err != nil {
		return err
	}
	return t.control.Flush()
}
