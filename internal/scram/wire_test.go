package scram_test

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/scram"
)

// The framing that package scram leaves to its caller, as small as a test can have it.

const (
	sslRequest = 80877103
	patience   = 60 * time.Second
)

// readStartup reads one packet without a type byte.
func readStartup(r io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 8 || n > 10000 {
		return nil, fmt.Errorf("read startup packet: length %d", n)
	}
	packet := append(head[:], make([]byte, n-4)...)
	_, err := io.ReadFull(r, packet[4:])
	return packet, err
}

func isSSLRequest(packet []byte) bool {
	return len(packet) == 8 && binary.BigEndian.Uint32(packet[4:]) == sslRequest
}

func readMessage(r io.Reader) (kind byte, body []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > 1<<20 {
		return 0, nil, fmt.Errorf("read message %q: length %d", head[0], n)
	}
	body = make([]byte, n-4)
	_, err = io.ReadFull(r, body)
	return head[0], body, err
}

func message(kind byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4))
	return append(b, body...)
}

// startup returns a startup packet for protocol 3.0.
func startup(user, database string) []byte {
	body := binary.BigEndian.AppendUint32(nil, 3<<16)
	for _, s := range []string{"user", user, "database", database, ""} {
		body = append(append(body, s...), 0)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
}

// fields takes an ErrorResponse apart by its field letters.
func fields(body []byte) map[byte]string {
	m := map[byte]string{}
	for _, f := range strings.Split(string(body), "\x00") {
		if f != "" {
			m[f[0]] = f[1:]
		}
	}
	return m
}

// serverError is an ErrorResponse as an error.
type serverError map[byte]string

func (e serverError) Error() string {
	return fmt.Sprintf("%s %s: %s %s", e['S'], e['C'], e['M'], e['D'])
}

// dial opens a connection that ends with the test and never blocks for ever.
func dial(t testing.TB, address string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// logIn performs a login with a Client on a connection on which nothing was sent yet, and reads on to ReadyForQuery.
func logIn(conn net.Conn, c *scram.Client, user, database string) error {
	if _, err := conn.Write(startup(user, database)); err != nil {
		return err
	}
	for done := false; !done; {
		kind, body, err := readMessage(conn)
		if err != nil {
			return err
		}
		if kind == 'E' {
			return serverError(fields(body))
		}
		if kind != 'R' {
			return fmt.Errorf("message %q during authentication", kind)
		}
		var reply []byte
		if reply, done, err = c.Step(body); err != nil {
			return err
		}
		if reply != nil {
			if _, err := conn.Write(message('p', reply)); err != nil {
				return err
			}
		}
	}
	for {
		kind, body, err := readMessage(conn)
		switch {
		case err != nil:
			return err
		case kind == 'E':
			return serverError(fields(body))
		case kind == 'Z':
			return nil
		}
	}
}

// endpoint listens on loopback and hands each connection to serve; the test waits for all of them.
func endpoint(t testing.TB, serve func(net.Conn) error) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = conn.Close() }()
				if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
					t.Error(err)
				}
				if err := serve(conn); err != nil && !errors.Is(err, io.EOF) {
					t.Errorf("endpoint: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		all.Wait()
	})
	return ln.Addr().String()
}

// acceptStartup answers an SSLRequest, with TLS when there is a configuration for it, and returns the startup packet.
func acceptStartup(conn net.Conn, config *tls.Config) (net.Conn, []byte, error) {
	packet, err := readStartup(conn)
	if err != nil || !isSSLRequest(packet) {
		return conn, packet, err
	}
	if config == nil {
		if _, err := conn.Write([]byte{'N'}); err != nil {
			return nil, nil, err
		}
	} else {
		if _, err := conn.Write([]byte{'S'}); err != nil {
			return nil, nil, err
		}
		conn = tls.Server(conn, config)
	}
	packet, err = readStartup(conn)
	return conn, packet, err
}

// offerTLS asks a server for TLS and returns the encrypted connection.
func offerTLS(conn net.Conn, config *tls.Config) (*tls.Conn, error) {
	if _, err := conn.Write(binary.BigEndian.AppendUint32([]byte{0, 0, 0, 8}, sslRequest)); err != nil {
		return nil, err
	}
	var answer [1]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return nil, err
	}
	if answer[0] != 'S' {
		return nil, fmt.Errorf("offer TLS: server answers %q", answer[0])
	}
	c := tls.Client(conn, config)
	return c, c.Handshake()
}
