package bench

import (
	"bufio"
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

// roundTrip sends the query and reads its whole answer.
func (c *client) roundTrip() error {
	if _, err := c.conn.Write(query); err != nil {
		return fmt.Errorf("send query: %w", err)
	}
	return c.awaitReady()
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
