package pgwire

// serverSide is what the goroutine that copies server to client owns. Every message touches all of it but tag: it fits into one cache line.
type serverSide struct {
	frame frame

	settled  uint64 // requests that have been answered or never will be
	answered uint64 // if a COPY FROM STDIN has succeeded: the request that the next ReadyForQuery answers
	over     uint64 // the last request that was answered with status 'I'
	replies  uint32 // to extended-protocol messages, since the last ReadyForQuery
	failedAt uint32 // replies before the first ErrorResponse since then

	// For the count of relaxed commits.
	relaxed uint32 // commits that nobody has taken notice of yet
	tagging tagging
	inBlock bool // the next statement certainly finds a block open
	counted bool // what shares the next ReadyForQuery has been counted
	missed  bool // something that shares it was answered before a mark held

	status    uint8 // of the last ReadyForQuery
	body      byte  // first byte of the message's body
	answering bool  // an answer has begun since the last ReadyForQuery
	failed    bool  // it holds an ErrorResponse
	copyIn    bool  // the server reads CopyData
	copyFail  bool  // a COPY FROM STDIN has failed

	tag word // first word of the tag being read
}

// current is the place of the request that the server is at work on.
func (s *serverSide) current() uint64 { return max(s.settled+1, s.answered) }

// Server accounts bytes that are about to be relayed from server to client, up to pass. With stop, b[pass:] begins with an ErrorResponse or
// NoticeResponse that answers nothing: the session was idle. What such a message means (a server on its way down, or an administrator who ends
// this one session) is not in its header; it is kept back, and either dropped with the session or relayed after PassServer.
func (t *Tracker) Server(b []byte) (pass int, stop bool) { return t.serverBytes(b, true) }

// PassServer accounts bytes that Server has stopped at and that are relayed after all.
func (t *Tracker) PassServer(b []byte) { t.serverBytes(b, false) }

func (t *Tracker) serverBytes(b []byte, mayStop bool) (pass int, stop bool) {
	s := &t.server
	f := &s.frame
	if t.broken.Load() != nil {
		t.untracked()
		return len(b), false
	}
	for pass < len(b) {
		if s.answering {
			if pass += f.skip(b[pass:], true); pass == len(b) {
				break
			}
		}
		if f.have < headerLength {
			if mayStop && f.between() && (b[pass] == 'E' || b[pass] == 'N') && idle(t.serverState(), t.clientWord.Load()) {
				stop = true
				break
			}
			pass += f.header(b[pass:])
			if f.have < headerLength {
				break
			}
			if err := f.serverFault(); err != nil {
				return t.serverBroken(b, err)
			}
			if f.typ == 'C' && t.isRelaxed() {
				s.tag, s.tagging = 0, tagReading
			}
		}
		if f.rest > 0 && pass < len(b) {
			s.body = b[pass] // of ReadyForQuery there is one byte
			n := f.body(b[pass:])
			if s.tagging == tagReading {
				s.readTag(b[pass : pass+n])
			}
			pass += n
		}
		if f.rest == 0 {
			if err := t.serverMessage(); err != nil {
				return t.serverBroken(b, err)
			}
			f.have = 0
		}
	}
	t.publishServer()
	return pass, stop
}

func (t *Tracker) serverBroken(b []byte, err error) (pass int, stop bool) {
	t.fail(&t.server.frame, true, err)
	t.publishServer()
	t.untracked()
	return len(b), false
}

func (t *Tracker) publishServer() { t.serverWord.Store(t.serverState()) }

func (t *Tracker) serverState() uint64 {
	s := &t.server
	word := s.settled<<serverFlagBits | uint64(s.status)
	if !s.frame.between() {
		word |= serverPartial
	}
	if s.answering {
		word |= serverAnswering
	}
	return word
}

// serverFault checks a complete header of the server's.
func (f *frame) serverFault() error {
	valid := f.validLength()
	switch f.typ {
	case 'D', 'd', 'T', 'E', 'N', 'A', 'S', 'C', 't', 'V', 'G', 'H', 'W', 'R', 'K', 'v':
	case '1', '2', '3', 'n', 's', 'I', 'c':
		valid = f.length == 4
	case 'Z':
		valid = f.length == 5
	default:
		return ErrMessageType
	}
	if !valid {
		return ErrMessageLength
	}
	return nil
}

// serverMessage accounts a message that is about to be relayed to its last byte.
func (t *Tracker) serverMessage() error {
	s := &t.server
	switch s.frame.typ {
	case 'S':
		t.reported(s.frame.length)
		return nil
	case 'N', 'A', 'R', 'K', 'v': // at any time, or before the first ReadyForQuery
		return nil
	case 'Z':
		return t.ready()
	}
	if !s.answering {
		s.answering = true
		s.settled = max(s.settled, t.unsure.Load()) // what is unsure is not answered like this: it was swallowed
	}
	switch s.frame.typ {
	case '1', '2', '3', 'n', 'T': // the answers to Parse, Bind, Close, Describe (either)
		s.replies++
	case 's': // to Execute: suspended
		s.replies++
		t.ran()
	case 'I': // empty
		s.replies++
		t.commitsMissed()
	case 'V':
		t.ran()
	case 'C':
		s.replies++
		t.completed()
		if s.copyIn {
			s.copyIn = false
			t.copySucceeded()
		}
	case 'G':
		s.copyIn = true
	case 'E':
		s.serverError()
	}
	return nil
}

// serverError accounts an ErrorResponse within an answer.
func (s *serverSide) serverError() {
	if s.copyIn {
		s.copyIn, s.copyFail = false, true
	}
	if !s.failed {
		s.failed, s.failedAt = true, s.replies
	}
}

func (t *Tracker) copySucceeded() {
	s := &t.server
	if end, ok := t.copyEnds.next(s.current()); ok {
		s.answered = end.answered()
	}
}

// ready accounts a ReadyForQuery.
func (t *Tracker) ready() error {
	s := &t.server
	status := statusOf(s.body)
	if status == statusNone {
		return ErrTransactionStatus
	}
	requests := t.clientWord.Load() >> clientFlagBits
	first := s.settled + 1
	if s.settled == requests {
		// Nothing was asked: the first one after the login, or an error that struck between requests (PostgresMain sends one after each).
		if s.status != statusNone && !s.failed {
			return ErrUnexpectedReady
		}
	} else if !t.settle(requests) {
		return ErrUnexpectedReady
	}
	if s.failed {
		t.failed.Store(s.settled)
		if t.memory != nil && s.settled >= first {
			t.memory.failures.add(failure{first, s.settled, s.failedAt})
		}
	}
	if t.memory != nil && status >= statusInBlock && s.status < statusInBlock {
		t.memory.opened.Store(s.settled)
	}
	s.status, s.replies, s.answered = status, 0, 0
	s.answering, s.failed, s.copyIn, s.copyFail = false, false, false, false
	t.rested()
	return nil
}

// settle finds which of the unsettled requests a ReadyForQuery answers, and leaves those up to it behind. It is false if that one has not been
// sent.
func (t *Tracker) settle(requests uint64) bool {
	s := &t.server
	answered := s.current()
	if s.failed && t.mixed.fails(s.settled+1, s.failedAt) {
		answered = t.mixed.synced.Load()
	}
	if answered <= s.settled || answered > requests {
		return false
	}
	if s.copyFail {
		if end, ok := t.copyEnds.next(s.current()); ok {
			t.unsure.Store(min(end.unsure(), requests))
		}
	}
	s.settled = answered
	return true
}
