package wire

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// longBody is the length above which a body is written down by its hash.
const longBody = 4 << 10

// names says what stands for the numbers of the processes that a script knows, so that two runs can be compared.
type names map[uint32]string

// message is one message of a server.
type message struct {
	typ  byte
	body []byte
}

// render writes a message down. Two messages of two runs are the same if and only if this is the same, but for what names, tempSchema, the
// objects' numbers and SCRAM's nonces hide.
func (m message) render(known names) string {
	switch m.typ {
	case 'K':
		if len(m.body) > 4 {
			return fmt.Sprintf("K %s, a secret of %d bytes", known.of(binary.BigEndian.Uint32(m.body)), len(m.body)-4)
		}
	case 'A':
		if len(m.body) > 4 {
			return fmt.Sprintf("A from %s %q", known.of(binary.BigEndian.Uint32(m.body)), m.body[4:])
		}
	case 'D':
		if line, ok := renderRow(m.body, known); ok {
			return line
		}
	case 'T':
		if line, ok := renderColumns(m.body); ok {
			return line
		}
	case 'R':
		return renderAuthentication(m.body)
	case 'E', 'N':
		return string(m.typ) + " " + strconv.Quote(tempSchema.ReplaceAllString(known.inText(string(m.body)), "pg_temp_n"))
	}
	return string(m.typ) + " " + digest(m.body)
}

// tempSchema is numbered by the server's slot.
var tempSchema = regexp.MustCompile(`pg_temp_[0-9]+`)

func (n names) of(pid uint32) string {
	if name, ok := n[pid]; ok {
		return "<" + name + ">"
	}
	return fmt.Sprintf("<unknown process %d>", pid)
}

// inText replaces the numbers of processes where they stand as words.
func (n names) inText(s string) string {
	for pid, name := range n {
		s = regexp.MustCompile(`\b`+strconv.Itoa(int(pid))+`\b`).ReplaceAllString(s, "<"+name+">")
	}
	return s
}

// digest is the bytes themselves, or their length and hash.
func digest(b []byte) string {
	if len(b) <= longBody {
		return strconv.Quote(string(b))
	}
	return fmt.Sprintf("%d bytes, SHA-256 %x", len(b), sha256.Sum256(b))
}

// renderRow writes a DataRow's columns down: a column that is the number of a known process by its name.
func renderRow(body []byte, known names) (string, bool) {
	if len(body) < 2 {
		return "", false
	}
	var out strings.Builder
	columns, rest := int(binary.BigEndian.Uint16(body)), body[2:]
	fmt.Fprintf(&out, "D %d:", columns)
	for range columns {
		if len(rest) < 4 {
			return "", false
		}
		n := int32(binary.BigEndian.Uint32(rest))
		rest = rest[4:]
		if n == -1 {
			out.WriteString(" NULL")
			continue
		}
		if n < 0 || int(n) > len(rest) {
			return "", false
		}
		value := rest[:n]
		rest = rest[n:]
		out.WriteString(" " + known.value(value))
	}
	return out.String(), len(rest) == 0
}

func (n names) value(b []byte) string {
	for pid, name := range n {
		if string(b) == strconv.Itoa(int(pid)) {
			return "<" + name + ">"
		}
		if len(b) == 4 && binary.BigEndian.Uint32(b) == pid {
			return "<" + name + ", binary>"
		}
	}
	return digest(b)
}

// firstNormalObjectID: numbers from here on are given by the server as objects are made, and differ from run to run.
const firstNormalObjectID = 16384

// renderColumns writes a RowDescription down.
func renderColumns(body []byte) (string, bool) {
	if len(body) < 2 {
		return "", false
	}
	var out strings.Builder
	columns, rest := int(binary.BigEndian.Uint16(body)), body[2:]
	fmt.Fprintf(&out, "T %d:", columns)
	for range columns {
		end := bytes.IndexByte(rest, 0)
		if end < 0 || len(rest) < end+19 {
			return "", false
		}
		f := rest[end+1:]
		fmt.Fprintf(&out, " %q table %s column %d type %s size %d modifier %d format %d;", rest[:end], objectID(f), binary.BigEndian.Uint16(f[4:]),
			objectID(f[6:]), int16(binary.BigEndian.Uint16(f[10:])), int32(binary.BigEndian.Uint32(f[12:])), binary.BigEndian.Uint16(f[16:]))
		rest = f[18:]
	}
	return out.String(), len(rest) == 0
}

func objectID(b []byte) string {
	if id := binary.BigEndian.Uint32(b); id < firstNormalObjectID {
		return strconv.Itoa(int(id))
	}
	return "made here"
}

// fresh is what SCRAM makes up anew for each exchange: nonce, and the signature that follows from it. MD5's salt is handled by length.
var fresh = regexp.MustCompile(`(^|,)(r|v)=[^,]*`)

func renderAuthentication(body []byte) string {
	if len(body) < 4 {
		return "R " + digest(body)
	}
	kind, rest := binary.BigEndian.Uint32(body), body[4:]
	switch kind {
	case 5:
		return fmt.Sprintf("R MD5, a salt of %d bytes", len(rest))
	case 11, 12:
		return fmt.Sprintf("R %d %q", kind, fresh.ReplaceAllString(string(rest), "$1$2=..."))
	}
	return fmt.Sprintf("R %d %q", kind, rest)
}

// firstDifference says where two transcripts part, with what came before; "" when they are the same.
func firstDifference(direct, through []string) string {
	for i := range max(len(direct), len(through)) {
		d, p := lineOf(direct, i), lineOf(through, i)
		if d != p {
			var before string
			for _, line := range direct[max(0, i-4):min(i, len(direct))] {
				before += "  both:     " + abbreviated(line) + "\n"
			}
			return fmt.Sprintf("line %d\n%s  direct:   %s\n  pgtether: %s", i+1, before, abbreviated(d), abbreviated(p))
		}
	}
	return ""
}

func lineOf(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(nothing)"
}

func abbreviated(line string) string {
	const most = 600
	if len(line) > most {
		return line[:most] + "..."
	}
	return line
}
