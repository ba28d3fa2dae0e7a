package proxy

import (
	"bytes"
	"fmt"
)

// proofMessagesMax bounds what a server may say in answer to recoveryQuery.
const proofMessagesMax = 64

// recoveryQuery asks a server before PostgreSQL 14, which does not report in_hot_standby, whether it is a standby. It is schema-qualified: the
// client's search_path is not to be trusted.
var recoveryQuery = appendQuery(nil, "SELECT pg_catalog.pg_is_in_recovery()")

// prove demands that this very backend is out of recovery. Whether its epoch is still the open one is asked when the login is delivered.
func (x *exchange) prove() error {
	switch x.ready.inStandby {
	case "off":
		return nil
	case "":
		return x.proveByQuery()
	default:
		return fmt.Errorf("in_hot_standby is %q: %w", x.ready.inStandby, errUnproven)
	}
}

// proveByQuery asks the backend itself. The answer is exactly RowDescription, one DataRow of 't' or 'f', CommandComplete, ReadyForQuery; what
// the server reports in between (ParameterStatus, notices) belongs to the client.
func (x *exchange) proveByQuery() error {
	if err := x.send(recoveryQuery); err != nil {
		return err
	}
	// A DataRow of one column: int16 1, int32 1, the letter.
	primary := []byte{0, 1, 0, 0, 0, 1, 'f'}
	var rows, proofs int
	for range proofMessagesMax {
		frame, err := x.receive()
		if err != nil {
			return err
		}
		body := frame[headerLength:]
		switch frame[0] {
		case 'T', 'C':
		case 'S', 'N':
			x.keep(frame)
		case 'D':
			rows++
			if bytes.Equal(body, primary) {
				proofs++
			}
		case 'Z':
			if rows != 1 || proofs != 1 {
				return fmt.Errorf("pg_is_in_recovery: %w", errUnproven)
			}
			return nil
		default:
			return fmt.Errorf("message %q in answer to pg_is_in_recovery: %w", frame[0], errUnproven)
		}
	}
	return fmt.Errorf("more than %d messages in answer to pg_is_in_recovery: %w", proofMessagesMax, errNonsense)
}

// keep puts a message that came after the first ReadyForQuery before it, where reports belong.
func (x *exchange) keep(frame []byte) {
	const readyLength = headerLength + 1
	at := len(x.ready.messages) - readyLength
	ready := append([]byte(nil), x.ready.messages[at:]...)
	x.ready.messages = append(append(x.ready.messages[:at], frame...), ready...)
}

// appendQuery appends a simple Query.
func appendQuery(dst []byte, sql string) []byte {
	n := 4 + len(sql) + 1
	dst = append(dst, 'Q', byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	return append(append(dst, sql...), 0)
}
