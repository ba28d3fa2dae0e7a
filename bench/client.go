package bench

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
)

// client is a logged-in connection that sends one query over and over.
type client struct {
	conn net.Conn
	in   *bufio.Reader
}

// query is the canned request, about the size of one of pgbench -S.
var query = message(nil, 'Q', []byte("SELECT abalance FROM pgbench_accounts WHERE aid = 4711;\x00"))

// dial logs in to address.
func dial(address string) (*client, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	c := &client{conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
	startup := append(binary.BigEndian.AppendUint32(nil, 3<<16), "user\x00bench\x00database\x00bench\x00\x00"...)
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(startup)+4)), startup...)); err != nil {
		return nil, fmt.Errorf("send startup packet: %w", err)
	}
	if err := c.awaitReady(); err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	return c, nil
}

const (
	// copyRows messages of copyRow bytes are what a COPY moves.
	copyRows = 1000
	copyRow  = 8 << 10
)

// copyOut and copyIn are COPY as the peer knows it: a query of that text, and for copyIn the rows and their end behind it.
var (
	copyOut = message(nil, 'Q', []byte("COPY t TO STDOUT\x00"))
	copyIn  = message(append(message(nil, 'Q', []byte("COPY t FROM STDIN\x00")), copiedRows...), 'c', nil)
)

var copiedRows = bytes.Repeat(message(nil, 'd', make([]byte, copyRow)), copyRows)

// roundTrip sends the query and reads its whole answer.
func (c *client) roundTrip() error { return c.exchange(query, 1) }

// exchange sends requests and reads their whole answers.
func (c *client) exchange(requests []byte, answers int) error {
	if _, err := c.conn.Write(requests); err != nil {
		return fmt.Errorf("send requests: %w", err)
	}
	for range answers {
		if err := c.awaitReady(); err != nil {
			return err
		}
	}
	return nil
}

// awaitReady reads up to ReadyForQuery. An ErrorResponse is an error.
func (c *client) awaitReady() error {
	for {
		kind, err := skipMessage(c.in)
		switch {
		case err != nil:
			return err
		case kind == 'E':
			return fmt.Errorf("read answer: the server sent an error")
		case kind == 'Z':
			return nil
		}
	}
}

// close says goodbye and closes the connection.
func (c *client) close() error {
	if _, err := c.conn.Write(message(nil, 'X', nil)); err != nil {
		return fmt.Errorf("send goodbye: %w", err)
	}
	return c.conn.Close()
}
