package health

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/pgtether/pgtether/decision"
)

// classify says what an attempt proved. Any well-formed answer of PostgreSQL in this round means that the server is alive, whatever came
// of the attempt; refusal and silence need the network's word for it; what is left proves nothing.
func classify(err error, g *guard, took time.Duration) decision.Attempt {
	a := decision.Attempt{Took: took}
	var pgErr *pgconn.PgError
	switch {
	case err == nil:
		a.Evidence = decision.Answers
	case errors.As(err, &pgErr):
		a.Evidence, a.SQLState = decision.Alive, sqlState(pgErr.Code)
		a.Detail = printable(pgErr.Severity + ": " + pgErr.Message)
	case g.answered:
		a.Evidence, a.Detail = decision.Alive, "answered, then: "+reason(err)
	case errors.Is(err, syscall.ECONNREFUSED):
		a.Evidence, a.Detail = decision.Refused, reason(err)
	case isSilence(err):
		a.Evidence, a.Detail = decision.Silent, reason(err)
	default:
		a.Evidence, a.Detail = decision.EvidenceUnknown, reason(err)
	}
	return a
}

// sqlState passes a SQLSTATE on if it is one: five digits or capital letters.
func sqlState(code string) string {
	if len(code) != 5 {
		return ""
	}
	for _, c := range []byte(code) {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return ""
		}
	}
	return code
}

// isSilence reports whether nothing was heard of the node although everything was done to hear it.
func isSilence(err error) bool {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.IsNotFound // a name that is gone; a resolver that fails is our own trouble
	}
	return isNetwork(err)
}

// isNetwork reports whether the network ended an attempt: too late, reset, closed, no way there. What is not listed (no free descriptor, port or
// memory, a firewall on this machine) is a failure of our own and proves nothing about the node.
func isNetwork(err error) bool {
	var netErr net.Error
	if errors.As(err, &netErr) && netErr.Timeout() {
		return true
	}
	for _, e := range []error{
		io.EOF, io.ErrUnexpectedEOF, context.DeadlineExceeded, os.ErrDeadlineExceeded,
		syscall.ECONNRESET, syscall.ECONNABORTED, syscall.EPIPE, syscall.ETIMEDOUT, syscall.EHOSTUNREACH, syscall.EHOSTDOWN, syscall.ENETUNREACH,
		syscall.ENOTCONN, syscall.ESHUTDOWN, syscall.ENETRESET,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// wireError is what a probe itself has to say about what it met on the wire. It holds no address and no secret.
type wireError struct{ text string }

func (e wireError) Error() string { return e.text }

// reason says in few words why an attempt failed, without addresses and without what wraps it.
func reason(err error) string {
	var wire wireError
	var dns *net.DNSError
	var errno syscall.Errno
	var netErr net.Error
	switch {
	case errors.As(err, &wire):
		return printable(wire.text)
	case errors.As(err, &dns):
		return printable("look up " + dns.Name + ": " + dns.Err)
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.As(err, &netErr) && netErr.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed"
	default:
		return printable(rootCause(err).Error())
	}
}

// rootCause follows a chain to its end; of several joined errors it takes the first.
func rootCause(err error) error {
	for {
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			next := e.Unwrap()
			if next == nil {
				return err
			}
			err = next
		case interface{ Unwrap() []error }:
			all := e.Unwrap()
			if len(all) == 0 {
				return err
			}
			err = all[0]
		default:
			return err
		}
	}
}
