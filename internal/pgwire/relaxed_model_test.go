package pgwire

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// laxServer is PostgreSQL as far as synchronous_commit goes, written without regard to the Tracker: it works on whole messages, executes what
// they say, and knows at which of its answers the client has been told of how many relaxed commits.
type laxServer struct {
	in   []byte
	out  []laxAnswer
	some func() bool // whether a portal is suspended

	block, failed, skip bool
	implicit            bool // a transaction is open outside a block
	ran                 bool // it has done more than SET
	session, saved      bool // synchronous_commit is lowered; what a rollback goes back to
	local               *bool
	statements          map[string]string
	portal              string
	relaxed             uint64
}

// laxAnswer is a message under way, and how many relaxed commits its reader has been told of.
type laxAnswer struct {
	raw  []byte
	told uint64
}

func (m *laxServer) say(typ byte, body string) {
	m.out = append(m.out, laxAnswer{raw: msg(typ, body), told: m.relaxed})
}

func (m *laxServer) ready() {
	status := "I"
	if m.failed {
		status = "E"
	} else if m.block {
		status = "T"
	}
	m.say('Z', status)
}

// step reads one message; false if none is complete.
func (m *laxServer) step() bool {
	if len(m.in) < 5 || len(m.in) < int(binary.BigEndian.Uint32(m.in[1:]))+1 {
		return false
	}
	end := int(binary.BigEndian.Uint32(m.in[1:])) + 1
	typ, fields := m.in[0], strings.Split(string(m.in[5:end]), "\x00")
	m.in = m.in[end:]
	if m.skip && typ != 'S' {
		return true
	}
	switch typ {
	case 'Q':
		m.query(strings.Split(fields[0], "; "))
	case 'P':
		m.statements[fields[0]] = fields[1]
		m.say('1', "")
	case 'B':
		m.portal = m.statements[fields[1]]
		m.say('2', "")
	case 'E':
		m.execute()
	case 'S':
		m.skip = false
		m.finish()
		m.ready()
	}
	return true
}

func (m *laxServer) query(texts []string) {
	for i, text := range texts {
		tag, ok := m.run(text, len(texts) == 1)
		if !ok {
			m.fail()
			break
		}
		if i == len(texts)-1 {
			m.finish() // before the last answer, as exec_simple_query does
		}
		m.say('C', tag+"\x00")
	}
	m.ready()
}

func (m *laxServer) execute() {
	tag, ok := m.run(m.portal, !m.implicit)
	switch {
	case !ok:
		m.fail()
		m.skip = true
	case (tag == "SELECT 1" || tag == "INSERT 0 1") && m.some():
		m.say('s', "")
	default:
		m.say('C', tag+"\x00")
	}
}

func (m *laxServer) fail() {
	if m.block {
		m.failed = true
	} else {
		m.rollback()
	}
	m.say('E', "body\x00")
}

// finish commits what is open outside a block.
func (m *laxServer) finish() {
	if m.implicit && !m.block {
		m.commit()
	}
}

func (m *laxServer) begin() {
	if !m.implicit && !m.block {
		m.implicit, m.ran, m.saved = true, false, m.session
	}
}

// commit makes the transaction durable, or not quite.
func (m *laxServer) commit() {
	low := m.session
	if m.local != nil {
		low = *m.local
	}
	if low && (m.ran || m.block) {
		m.relaxed++
	}
	m.block, m.failed, m.implicit, m.local = false, false, false, nil
}

func (m *laxServer) rollback() {
	m.session = m.saved
	m.block, m.failed, m.implicit, m.local = false, false, false, nil
}

// run executes one statement; alone says that it may be one that cannot share a transaction.
func (m *laxServer) run(text string, alone bool) (tag string, ok bool) {
	ends := strings.HasPrefix(text, "COMMIT") || text == "ROLLBACK"
	if m.failed && !ends {
		return "", false
	}
	m.begin()
	switch {
	case m.failed || text == "ROLLBACK":
		m.rollback()
		return "ROLLBACK", true
	case text == "COMMIT":
		m.commit()
		return "COMMIT", true
	case text == "COMMIT AND CHAIN" && m.block:
		m.commit()
		m.begin()
		m.block = true
		return "COMMIT", true
	case text == "PREPARE TRANSACTION 'x'" && m.block:
		m.commit()
		return "PREPARE TRANSACTION", true
	case text == "BEGIN":
		m.block = true
		return "BEGIN", true
	case text == "VACUUM" && alone && !m.block:
		m.ran = true
		m.commit()
		return "VACUUM", true
	case text == "INSERT":
		m.ran = true
		return "INSERT 0 1", true
	case text == "SELECT":
		m.ran = true
		return "SELECT 1", true
	}
	return m.set(text)
}

// set executes one that is about the parameter; what it does not know fails.
func (m *laxServer) set(text string) (tag string, ok bool) {
	does, known := laxTexts[text]
	if !known {
		return "", false
	}
	if does.local {
		m.local = &does.low
	} else {
		m.session, m.local = does.low, nil
	}
	if strings.HasPrefix(text, "SELECT") {
		m.ran = true
		return "SELECT 1", true
	}
	return "SET", true
}

// laxTexts are the ways to set the parameter.
var laxTexts = map[string]struct{ local, low bool }{
	"SET LOCAL synchronous_commit TO OFF":                        {true, true},
	"set local Synchronous_Commit = 'local';":                    {true, true},
	"SET LOCAL synchronous_commit TO ON":                         {true, false},
	"SET LOCAL /* x */ synchronous_commit TO OFF":                {true, true},
	"SET synchronous_commit = off":                               {false, true},
	"SET SESSION synchronous_commit TO 'local'":                  {false, true},
	"SET synchronous_commit TO DEFAULT":                          {false, false},
	"SELECT set_config('synchronous_commit', 'off', true)":       {true, true},
	"SELECT set_config('SYNCHRONOUS_COMMIT', 'off', false) ":     {false, true},
	"SELECT set_config('synchronous_commit', 'on', false)":       {false, false},
	"DO $$ BEGIN SET LOCAL synchronous_commit = local; END $$":   {true, true},
	"DO $$ BEGIN SET SESSION synchronous_commit = off; END $$\n": {false, true},
}

// extendedRun is the messages that run a statement, without their Sync. An empty text is executed by a name that stands for one.
func extendedRun(name, text string) []byte {
	var b []byte
	if text != "" {
		b = msg('P', name+"\x00"+text+"\x00\x00\x00")
	}
	b = append(b, msg('B', "\x00"+name+"\x00\x00\x00\x00\x00\x00\x00")...)
	return append(b, msg('E', "\x00\x00\x00\x00\x00")...)
}

func (m *laxServer) String() string {
	return fmt.Sprintf("block %t, failed %t, skip %t, session lowered %t, %d relaxed commits", m.block, m.failed, m.skip, m.session, m.relaxed)
}
