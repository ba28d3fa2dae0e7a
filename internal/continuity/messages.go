package continuity

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// openMessage begins a message whose length closeMessage fills in.
func openMessage(b []byte, kind byte) ([]byte, int) {
	return append(b, kind, 0, 0, 0, 0), len(b) + 1
}

func closeMessage(b []byte, at int) []byte {
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at))
	return b
}

func appendMessage(b []byte, kind byte, body []byte) []byte {
	b, at := openMessage(b, kind)
	return closeMessage(append(b, body...), at)
}

func appendText(b []byte, s string) []byte { return append(append(b, s...), 0) }

func appendSync(b []byte) []byte { return append(b, 'S', 0, 0, 0, 4) }

func appendParse(b []byte, name, text string, types []uint32) []byte {
	b, at := openMessage(b, 'P')
	b = appendText(appendText(b, name), text)
	b = binary.BigEndian.AppendUint16(b, uint16(len(types)))
	for _, t := range types {
		b = binary.BigEndian.AppendUint32(b, t)
	}
	return closeMessage(b, at)
}

// appendRun binds the statement to the unnamed portal, with parameters and results as text, and executes it.
func appendRun(b []byte, statement string, parameters ...string) []byte {
	b, at := openMessage(b, 'B')
	b = appendText(append(b, 0), statement)
	b = binary.BigEndian.AppendUint16(b, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(parameters)))
	for _, p := range parameters {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	b = closeMessage(binary.BigEndian.AppendUint16(b, 0), at)
	b, at = openMessage(b, 'E')
	return closeMessage(append(b, 0, 0, 0, 0, 0), at)
}

// appendStatement is for Describe ('D') and Close ('C') of a statement.
func appendStatement(b []byte, kind byte, name string) []byte {
	b, at := openMessage(b, kind)
	return closeMessage(appendText(append(b, 'S'), name), at)
}

func appendParameterStatus(b []byte, name, value string) []byte {
	b, at := openMessage(b, 'S')
	return closeMessage(appendText(appendText(b, name), value), at)
}

func parameterStatus(body []byte) (name, value string, err error) {
	n, rest, found := bytes.Cut(body, []byte{0})
	v, tail, ended := bytes.Cut(rest, []byte{0})
	if !found || !ended || len(tail) > 0 || len(n) == 0 {
		return "", "", fmt.Errorf("read ParameterStatus of %d bytes: %w", len(body), ErrStream)
	}
	return string(n), string(v), nil
}

// splitRow returns the columns of a DataRow; nil is NULL. They share its memory.
func splitRow(body []byte) ([][]byte, error) {
	malformed := fmt.Errorf("read row of %d bytes: %w", len(body), ErrStream)
	if len(body) < 2 {
		return nil, malformed
	}
	n, rest := int(binary.BigEndian.Uint16(body)), body[2:]
	if n > len(rest)/4 {
		return nil, malformed
	}
	columns := make([][]byte, n)
	for i := range columns {
		if len(rest) < 4 {
			return nil, malformed
		}
		length := int32(binary.BigEndian.Uint32(rest))
		rest = rest[4:]
		switch {
		case length == -1:
			continue
		case length < 0 || int(length) > len(rest):
			return nil, malformed
		}
		columns[i], rest = rest[:length:length], rest[length:]
	}
	if len(rest) > 0 {
		return nil, malformed
	}
	return columns, nil
}
