package pgwire

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
)

// modelServer is PostgreSQL's side of the protocol after login, as far as transaction boundaries go: PostgresMain, SocketBackend, exec_simple_query
// and CopyGetData, written without regard to the Tracker. Statements are single words:
//
//	SELECT INSERT           answered by D C, C
//	BEGIN COMMIT ROLLBACK   as in SQL
//	SYNTAX FAIL DEFER       fails when parsed, when executed, when the transaction around it commits
//	DEALLOCATE name|ALL     as in SQL
//	OUT                     COPY TO STDOUT
//	IN EARLY                COPY FROM STDIN; EARLY fails before it reads; a CopyData that holds "bad" fails
type modelServer struct {
	in  []byte
	out []modelAnswer

	status     byte
	skip       bool   // ignore_till_sync
	extended   bool   // doing_extended_query_message
	open       bool   // extended-protocol messages since the last ReadyForQuery
	deferred   bool   // a DEFER waits for the commit of an implicit transaction
	copying    bool   // in CopyGetData
	queued     string // statements of the Query behind the COPY
	closed     bool
	doubtful   bool              // something was executed since the last ReadyForQuery that may be durable
	statements map[string]string // by name
	portals    map[string]string
}

// modelAnswer is one message under way to the client.
type modelAnswer struct {
	raw   []byte
	async bool // it belongs to no request
	doubt bool // a ReadyForQuery that ends a doubt
}

func newModelServer() *modelServer {
	return &modelServer{status: 'I', statements: map[string]string{}, portals: map[string]string{}}
}

// clone copies a server that can go on by itself.
func (m *modelServer) clone() *modelServer {
	c := *m
	c.in, c.out = slices.Clone(m.in), slices.Clone(m.out)
	c.statements, c.portals = map[string]string{}, map[string]string{}
	for k, v := range m.statements {
		c.statements[k] = v
	}
	for k, v := range m.portals {
		c.portals[k] = v
	}
	return &c
}

func (m *modelServer) send(typ byte, body string) {
	m.out = append(m.out, modelAnswer{raw: msg(typ, body)})
}

func (m *modelServer) ready() {
	m.out = append(m.out, modelAnswer{raw: msg('Z', string(m.status)), doubt: m.doubtful})
	if m.status == 'I' {
		clear(m.portals)
	}
	m.open, m.doubtful = false, false
}

// async sends a message that answers nothing.
func (m *modelServer) async(typ byte) {
	if !m.closed {
		m.out = append(m.out, modelAnswer{raw: msg(typ, "body\x00"), async: true})
	}
}

// idle is the truth: nothing to do, nothing half done, nothing under way to the client but what belongs to no request.
func (m *modelServer) idle() bool {
	return m.nothingToDo() && !m.skip && !m.copying && !m.open && !m.closed && m.status == 'I' &&
		!slices.ContainsFunc(m.out, func(a modelAnswer) bool { return !a.async })
}

// nothingToDo reports whether the messages still to be read are such as a server that is not in a COPY ignores.
func (m *modelServer) nothingToDo() bool {
	for b := m.in; len(b) > 0; {
		if len(b) < 5 || !bytes.ContainsRune([]byte("dcfH"), rune(b[0])) {
			return false
		}
		length := int(binary.BigEndian.Uint32(b[1:])) + 1
		if len(b) < length || b[0] == 'H' && length != 5 {
			return false
		}
		b = b[length:]
	}
	return true
}

// inDoubt is the truth about what has been forwarded: when the server has worked it off, is there a ReadyForQuery among those not yet relayed,
// or still to come, that would end a doubt?
func (m *modelServer) inDoubt() bool {
	c := m.clone()
	for c.step() {
	}
	return c.doubtful || slices.ContainsFunc(c.out, func(a modelAnswer) bool { return a.doubt })
}

// step reads one message; false if none is complete.
func (m *modelServer) step() bool {
	if len(m.in) < 5 || m.closed {
		return false
	}
	length := int(binary.BigEndian.Uint32(m.in[1:])) + 1
	if len(m.in) < length {
		return false
	}
	typ, body := m.in[0], m.in[5:length]
	m.in = m.in[length:]
	if m.copying {
		m.copyMessage(typ, body)
		return true
	}
	switch typ { // SocketBackend
	case 'P', 'B', 'E', 'D', 'C', 'H':
		m.extended = true
	case 'S':
		m.extended, m.skip = false, false
	default:
		m.extended = false
	}
	if !m.skip || typ == 'X' {
		m.message(typ, body)
	}
	return true
}

func (m *modelServer) message(typ byte, body []byte) {
	fields := bytes.Split(body, []byte{0})
	field := func(i int) string {
		if i < len(fields) {
			return string(fields[i])
		}
		return ""
	}
	if m.extended && typ != 'H' {
		m.open = true
	}
	switch typ {
	case 'Q':
		delete(m.statements, "")
		m.simple(field(0))
	case 'F':
		m.doubtful = m.doubtful || m.status == 'I'
		m.send('V', "value")
		m.finish()
	case 'P':
		m.parse(field(0), field(1))
	case 'B':
		m.bind(field(0), field(1))
	case 'D':
		m.send('n', "")
	case 'C':
		if strings.HasPrefix(field(0), "S") {
			delete(m.statements, field(0)[1:])
		}
		m.send('3', "")
	case 'E':
		m.execute(field(0))
	case 'H':
		if len(body) > 0 {
			m.fail()
		}
	case 'S':
		if len(body) > 0 {
			m.fail()
		} else {
			m.finish()
		}
	case 'X':
		m.closed = true
	}
}

func (m *modelServer) parse(name, text string) {
	_, exists := m.statements[name]
	if name == "" {
		delete(m.statements, "")
	}
	switch {
	case strings.Contains(text, ";"):
		m.fail()
	case text == "SYNTAX" || name != "" && exists || m.status == 'E' && text != "ROLLBACK" && text != "COMMIT":
		m.fail()
	default:
		m.statements[name] = text
		m.send('1', "")
	}
}

func (m *modelServer) bind(portal, name string) {
	text, ok := m.statements[name]
	if !ok || m.status == 'E' && text != "ROLLBACK" && text != "COMMIT" {
		m.fail()
		return
	}
	m.portals[portal] = text
	m.send('2', "")
}

func (m *modelServer) execute(portal string) {
	if text, ok := m.portals[portal]; ok {
		m.run(text)
	} else {
		m.fail()
	}
}

// simple runs the statements of a Query from the first to a COPY FROM STDIN or the last.
func (m *modelServer) simple(texts string) {
	if strings.Trim(texts, "; ") == "" && m.queued == "" {
		m.send('I', "")
		m.finish()
		return
	}
	for texts != "" {
		text, rest, _ := strings.Cut(texts, ";")
		m.queued = strings.TrimSpace(rest)
		texts = m.queued
		if text = strings.TrimSpace(text); text != "" && (!m.run(text) || m.copying) {
			return
		}
	}
	m.finish()
}

// run executes one statement; false if it failed.
func (m *modelServer) run(text string) bool {
	outside := m.status == 'I'
	if m.status == 'E' && text != "ROLLBACK" && text != "COMMIT" {
		m.fail()
		return false
	}
	if name, ok := strings.CutPrefix(text, "DEALLOCATE "); ok && !m.deallocate(name) {
		m.fail()
		return false
	}
	m.doubtful = m.doubtful || text == "COMMIT" || outside && text != "BEGIN" && text != "ROLLBACK" && text != ""
	switch text {
	case "":
		m.send('I', "")
		return true
	case "SYNTAX", "FAIL":
		m.fail()
		return false
	case "BEGIN":
		m.status = 'T'
	case "COMMIT", "ROLLBACK":
		m.status = 'I'
	case "DEFER":
		m.deferred = m.deferred || outside
	case "SELECT":
		m.send('D', "row")
	case "OUT":
		m.send('H', "")
		m.send('d', "row")
		m.send('c', "")
	case "IN":
		m.send('G', "")
		m.copying = true
		return true
	case "EARLY":
		m.send('G', "")
		m.fail()
		return false
	}
	m.send('C', text)
	return true
}

// deallocate is DEALLOCATE; false if it fails.
func (m *modelServer) deallocate(name string) bool {
	unnamed, kept := m.statements[""]
	_, exists := m.statements[name]
	if name == "ALL" {
		clear(m.statements)
	} else {
		delete(m.statements, name)
	}
	if kept {
		m.statements[""] = unnamed
	}
	return exists || name == "ALL"
}

// copyMessage is CopyGetData.
func (m *modelServer) copyMessage(typ byte, body []byte) {
	switch typ {
	case 'H', 'S':
	case 'd':
		if bytes.Contains(body, []byte("bad")) {
			m.copying = false
			m.fail()
		}
	case 'f':
		m.copying = false
		m.fail()
	case 'c':
		m.copying = false
		m.send('C', "COPY 1")
		if !m.extended {
			m.simpleRest()
		}
	default: // protocol synchronization was lost
		m.send('E', "")
		m.send('E', "FATAL")
		m.closed = true
	}
}

// simpleRest goes on with a Query behind its COPY.
func (m *modelServer) simpleRest() {
	if m.queued == "" {
		m.finish()
		return
	}
	m.simple(m.queued)
}

// finish is finish_xact_command and ReadyForQuery.
func (m *modelServer) finish() {
	failing := m.deferred && m.status == 'I'
	m.deferred = false
	if failing {
		m.send('E', "deferred")
	}
	m.ready()
}

// fail is the error handler of PostgresMain.
func (m *modelServer) fail() {
	m.send('E', "error")
	m.queued, m.deferred = "", false
	clear(m.portals)
	if m.status == 'T' {
		m.status = 'E'
	}
	if m.extended {
		m.skip = true
		return
	}
	m.ready()
}
