package continuity

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/pgtether/pgtether/internal/pgwire"
)

const (
	// maxMessageLength is that of PostgreSQL (MaxAllocSize and the length word); maxKept bounds what is held in memory of one message.
	maxMessageLength = 0x3fffffff + 4
	maxKept          = 8 << 20
	// maxAnswers bounds what is read in one Take or Replay.
	maxAnswers = 256 << 20
	// maxRequest bounds what is written before the answers are read, but for one message that is longer: so much fits into the buffers of a
	// connection, so that never both sides wait for the other one to read.
	maxRequest = 32 << 10
)

// ErrStream is returned when the server's messages do not make sense as answers; nothing can be said about that connection any more.
var ErrStream = errors.New("unexpected answer of the server")

// Refusal is an ERROR of the server's. The connection is in order.
type Refusal struct {
	// What was asked; a setting or a statement is named, its value or text never.
	What string
	// SQLState is the server's code.
	SQLState string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("%s: refused by the server with SQLSTATE %s", r.What, r.SQLState)
}

// refusal is the Refusal in err, or nil.
func refusal(err error) *Refusal {
	var r *Refusal
	errors.As(err, &r)
	return r
}

// Ended is a FATAL error: the server has closed the connection.
type Ended struct{ SQLState string }

func (e *Ended) Error() string {
	return fmt.Sprintf("await answer: session ended by the server with SQLSTATE %s", e.SQLState)
}

// step is one request with the answers that it must get.
type step struct {
	what    string // for errors
	request []byte
	// answers are the types of messages that must come, in order: '1' ParseComplete, '2' BindComplete, '3' CloseComplete, 'C' CommandComplete,
	// 't' ParameterDescription, 's' RowDescription or NoData. Before a 'C' there may be rows.
	answers string
	row     func(columns [][]byte) error // for rows; nil: they do not matter
	shape   *shape                       // takes the answers to Describe; nil: they do not matter
	got     int                          // answers that have come
}

// talk is one conversation with a backend.
type talk struct {
	w     io.Writer
	r     *bufio.Reader
	body  []byte
	read  int64
	large bool // a message was longer than maxKept; its body was dropped
	// reported are the parameters that the server has reported, aside its messages that were meant for the client.
	reported map[string]string
	aside    []byte
}

func newTalk(rw io.ReadWriter) *talk {
	return &talk{w: rw, r: bufio.NewReaderSize(rw, 16<<10), reported: map[string]string{}}
}

// run sends the steps and takes their answers, in as few round trips as maxRequest allows. It stops at the first Refusal.
func (t *talk) run(steps []step) error {
	for len(steps) > 0 {
		n, size := 1, len(steps[0].request)
		for n < len(steps) && size+len(steps[n].request) <= maxRequest {
			size += len(steps[n].request)
			n++
		}
		request := make([]byte, 0, size+5)
		for i := range steps[:n] {
			request = append(request, steps[i].request...)
		}
		if _, err := t.w.Write(appendSync(request)); err != nil {
			return fmt.Errorf("ask the server: %w", err)
		}
		if err := t.answers(steps[:n]); err != nil {
			return err
		}
		steps = steps[n:]
	}
	return nil
}

// answers reads what belongs to the steps, up to and including ReadyForQuery.
func (t *talk) answers(steps []step) error {
	for i := range steps {
		err := t.answer(&steps[i])
		if err == nil {
			continue
		}
		if refusal(err) != nil { // everything up to Sync is skipped now
			if err := t.ready(); err != nil {
				return err
			}
		}
		return err
	}
	return t.ready()
}

func (t *talk) answer(s *step) error {
	for s.got < len(s.answers) {
		kind, body, err := t.next()
		if err != nil {
			return fmt.Errorf("%s: %w", s.what, err)
		}
		want := s.answers[s.got]
		switch {
		case kind == 'E':
			return t.refused(s.what, body)
		case kind == 'D' && want == 'C':
			if err := t.takeRow(s, body); err != nil {
				return err
			}
		case kind == 't' && want == 't', (kind == 'T' || kind == 'n') && want == 's':
			if s.shape != nil {
				s.shape.add(kind, body)
			}
			s.got++
		case kind == want:
			s.got++
		default:
			return fmt.Errorf("%s: message %q: %w", s.what, kind, ErrStream)
		}
	}
	return nil
}

func (t *talk) takeRow(s *step, body []byte) error {
	if s.row == nil || t.large {
		return nil
	}
	columns, err := splitRow(body)
	if err != nil {
		return fmt.Errorf("%s: %w", s.what, err)
	}
	return s.row(columns)
}

// ready awaits ReadyForQuery outside a transaction, and takes what has been read beyond it.
func (t *talk) ready() error {
	kind, body, err := t.next()
	if err != nil {
		return fmt.Errorf("await ReadyForQuery: %w", err)
	}
	if kind == 'E' { // what was done could not be committed
		err := t.refused("await ReadyForQuery", body)
		if refusal(err) != nil {
			if err := t.ready(); err != nil {
				return err
			}
		}
		return err
	}
	if kind != 'Z' || len(body) != 1 || body[0] != 'I' {
		return fmt.Errorf("await ReadyForQuery: message %q: %w", kind, ErrStream)
	}
	for t.r.Buffered() > 0 {
		kind, body, err := t.message()
		if err != nil {
			return err
		}
		if kind == 'E' {
			return t.refused("await the next request", body)
		}
		if err := t.heed(kind, body); err != nil {
			return err
		}
	}
	return nil
}

// refused makes an error of an ErrorResponse. One that ends the session is the client's to read.
func (t *talk) refused(what string, body []byte) error {
	f, err := pgwire.ParseErrorFields(body)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	state := cleanState(f.SQLState)
	if f.Severity != "ERROR" {
		t.aside = appendMessage(t.aside, 'E', body)
		return &Ended{SQLState: state}
	}
	return &Refusal{What: what, SQLState: state}
}

// cleanState is what may be printed of the server's code.
func cleanState(s string) string {
	if len(s) != 5 || strings.Trim(s, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "?????"
	}
	return s
}

// next returns the next message that is an answer.
func (t *talk) next() (kind byte, body []byte, err error) {
	for {
		kind, body, err = t.message()
		if err != nil {
			return 0, nil, err
		}
		switch kind {
		case 'A', 'N', 'S':
			if err := t.heed(kind, body); err != nil {
				return 0, nil, err
			}
		default:
			return kind, body, nil
		}
	}
}

// heed takes a message that comes of the server's own accord. A notice below a warning is about our own statement: the client has asked for
// that much talk (client_min_messages), but not for this statement.
func (t *talk) heed(kind byte, body []byte) error {
	switch kind {
	case 'A':
	case 'N':
		if f, err := pgwire.ParseErrorFields(body); err == nil && f.Severity != "WARNING" {
			return nil
		}
	case 'S':
		name, value, err := parameterStatus(body)
		if err != nil {
			return err
		}
		t.reported[name] = value
	default:
		return fmt.Errorf("await answer: message %q: %w", kind, ErrStream)
	}
	t.aside = appendMessage(t.aside, kind, body)
	return nil
}

// message reads one message; the body is valid until the next call.
func (t *talk) message() (kind byte, body []byte, err error) {
	head, err := t.r.Peek(5)
	if err != nil {
		return 0, nil, fmt.Errorf("read answer: %w", unexpected(err))
	}
	kind = head[0]
	length := binary.BigEndian.Uint32(head[1:])
	if length < 4 || length > maxMessageLength {
		return 0, nil, fmt.Errorf("read message %q of length %d: %w", kind, length, ErrStream)
	}
	if t.read += int64(length) + 1; t.read > maxAnswers {
		return 0, nil, fmt.Errorf("read message %q: more than %d bytes of answers: %w", kind, maxAnswers, ErrStream)
	}
	_, _ = t.r.Discard(5) // it has just been peeked at
	n := int(length) - 4
	if n > maxKept {
		t.large = true
		if _, err := io.CopyN(io.Discard, t.r, int64(n)); err != nil {
			return 0, nil, fmt.Errorf("read message %q: %w", kind, unexpected(err))
		}
		return kind, nil, nil
	}
	if cap(t.body) < n {
		t.body = make([]byte, n)
	}
	t.body = t.body[:n]
	if _, err := io.ReadFull(t.r, t.body); err != nil {
		return 0, nil, fmt.Errorf("read message %q: %w", kind, unexpected(err))
	}
	return kind, t.body, nil
}

func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
