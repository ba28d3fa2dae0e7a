package pgwire

import "encoding/binary"

// Reason says why the proxy refused or ended a connection. The list is closed: its words are metric labels and log values, and each has one
// SQLSTATE. A reason is used only where the server itself said nothing.
type Reason uint8

// The reasons.
const (
	// NoWriter: no node is proven to be the writer, and the login waited for its whole budget.
	NoWriter Reason = iota + 1
	// Promoting: the writer is being changed, and the login waited for its whole budget.
	Promoting
	// ShuttingDown: the proxy is about to exit.
	ShuttingDown
	// TooManyClients, TooManyForUser, TooManyForDatabase, TooManyForAddress: a limit of the configuration is reached.
	TooManyClients
	TooManyForUser
	TooManyForDatabase
	TooManyForAddress
	// HoldQueueFull: as many logins as may wait for a writer are waiting.
	HoldQueueFull
	// StartupTimeout: the client did not send its own bytes in time. Closed without a message.
	StartupTimeout
	// BadStartupLength: the first packet has a length that PostgreSQL does not accept. Closed without a message.
	BadStartupLength
	// MalformedStartup: the startup packet contradicts itself.
	MalformedStartup
	// PlaintextAfterSSLRequest: bytes in clear followed an encryption request.
	PlaintextAfterSSLRequest
	// MissingUser: the startup packet names no user.
	MissingUser
	// TLSRequired: the listener takes encrypted connections only.
	TLSRequired
	// UnsupportedProtocol: the major version is not 3.
	UnsupportedProtocol
	// ReplicationRefused: replication connections are not let in.
	ReplicationRefused
	// WriterLost: the session's backend is gone or is no longer the writer.
	WriterLost
	// SessionNotMovable: the writer was changed and this session has state that cannot be brought along.
	SessionNotMovable
	// LossyChange: the writer was changed and the change is not proven lossless.
	LossyChange
	// Drained: the session was ended at an idle boundary because the proxy stops or the writer is being changed.
	Drained
	// Killed: the session was ended in the middle of its work because the time for that was over.
	Killed
	// CommitInDoubt: the connection was lost while a commit was unanswered: it may have happened or not.
	CommitInDoubt
	// WriterUnproven: the node that answered did not prove to be the writer.
	WriterUnproven

	reasonEnd
)

type refusal struct{ label, sqlState, message, hint string }

const (
	hintDecision = "GET /decision on pgtether's admin listener says what is waited for."
	hintRetry    = "Connect again."
)

var refusals = [reasonEnd]refusal{
	NoWriter:                 {"no_writer", "57P03", "no PostgreSQL node is proven to be the writer", hintDecision},
	Promoting:                {"promoting", "57P03", "the PostgreSQL writer is being changed", hintDecision},
	ShuttingDown:             {"shutting_down", "57P03", "pgtether is shutting down", "Connect again, or to another pgtether."},
	TooManyClients:           {"too_many_clients", "53300", "too many clients", "limits.max_clients of pgtether is reached."},
	TooManyForUser:           {"too_many_for_user", "53300", "too many clients for this user", "limits.per_user of pgtether is reached."},
	TooManyForDatabase:       {"too_many_for_database", "53300", "too many clients for this database", "limits.per_database of pgtether is reached."},
	TooManyForAddress:        {"too_many_for_address", "53300", "too many clients from this address", "limits.per_address of pgtether is reached."},
	HoldQueueFull:            {"hold_queue_full", "53300", "too many clients are waiting for the PostgreSQL writer", "hold.max of pgtether is reached. " + hintDecision},
	StartupTimeout:           {label: "startup_timeout"},
	BadStartupLength:         {label: "bad_startup_length"},
	MalformedStartup:         {"malformed_startup", "08P01", "invalid startup packet", "The client does not speak the PostgreSQL protocol as documented."},
	PlaintextAfterSSLRequest: {"plaintext_after_ssl_request", "08P01", "received unencrypted data after SSL request", "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack."},
	MissingUser:              {"missing_user", "28000", "no PostgreSQL user name specified in startup packet", "Name a user."},
	TLSRequired:              {"tls_required", "28000", "this listener takes encrypted connections only", "Connect with sslmode=require or stricter."},
	UnsupportedProtocol:      {"unsupported_protocol", "0A000", "unsupported frontend protocol", "pgtether speaks protocol 3.0 and 3.2."},
	ReplicationRefused:       {"replication_refused", "0A000", "replication connections are not let in", "Connect to the node itself, or set listen.replication."},
	WriterLost:               {"writer_lost", "08006", "the connection to the PostgreSQL writer is lost", hintDecision},
	SessionNotMovable:        {"session_not_movable", "08006", "the PostgreSQL writer was changed and this session could not be brought along", hintRetry},
	LossyChange:              {"lossy_change", "08006", "the PostgreSQL writer was changed and acknowledged commits may be lost", "GET /status on pgtether's admin listener states the bound of the loss."},
	Drained:                  {"drained", "08006", "the session was ended by pgtether between two transactions", hintRetry},
	Killed:                   {"killed", "08006", "the session was ended by pgtether before its transaction was finished", hintRetry},
	CommitInDoubt:            {"commit_in_doubt", "08007", "the connection to the PostgreSQL writer is lost and the outcome of the transaction is unknown", "Check whether it took effect before you repeat it."},
	WriterUnproven:           {"writer_unproven", "57P03", "the node that answered did not prove to be the writer", hintDecision},
}

// Reasons returns the closed list.
func Reasons() []Reason {
	all := make([]Reason, 0, reasonEnd-1)
	for r := Reason(1); r < reasonEnd; r++ {
		all = append(all, r)
	}
	return all
}

func (r Reason) refusal() refusal {
	if r >= reasonEnd {
		return refusal{}
	}
	return refusals[r]
}

// String returns the word used in metrics and logs.
func (r Reason) String() string {
	if l := r.refusal().label; l != "" {
		return l
	}
	return "invalid"
}

// SQLState returns the five characters of the error, empty when Silent.
func (r Reason) SQLState() string { return r.refusal().sqlState }

// Message returns the sentence of the error.
func (r Reason) Message() string { return r.refusal().message }

// Silent says whether the connection is closed without a message, as PostgreSQL does in that case.
func (r Reason) Silent() bool { return r.refusal().sqlState == "" }

// AppendError appends a FATAL ErrorResponse with severity, SQLSTATE, message, detail (when not empty) and hint. detail is shown to the client:
// it must hold no secret. For a Silent reason nothing is appended.
func AppendError(dst []byte, r Reason, detail string) []byte {
	f := r.refusal()
	if f.sqlState == "" {
		return dst
	}
	start := len(dst)
	dst = append(dst, 'E', 0, 0, 0, 0)
	dst = appendField(dst, 'S', "FATAL")
	dst = appendField(dst, 'V', "FATAL")
	dst = appendField(dst, 'C', f.sqlState)
	dst = appendField(dst, 'M', f.message)
	dst = appendField(dst, 'D', detail)
	dst = appendField(dst, 'H', f.hint)
	dst = append(dst, 0)
	binary.BigEndian.PutUint32(dst[start+1:], uint32(len(dst)-start-1))
	return dst
}

// AppendErrorV2 appends the error as clients of a protocol before 3 expect it: 'E', the text, a zero byte; no length and no SQLSTATE.
func AppendErrorV2(dst []byte, r Reason) []byte {
	f := r.refusal()
	if f.sqlState == "" {
		return dst
	}
	dst = append(dst, 'E')
	dst = append(dst, "FATAL:  "...)
	dst = append(dst, f.message...)
	return append(dst, '\n', 0)
}

func appendField(dst []byte, kind byte, text string) []byte {
	if text == "" {
		return dst
	}
	dst = append(dst, kind)
	for i := range len(text) {
		if c := text[i]; c != 0 { // a zero byte would end the field early
			dst = append(dst, c)
		}
	}
	return append(dst, 0)
}
