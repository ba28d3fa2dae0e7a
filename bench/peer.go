package bench

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// peer is a server with one canned answer for every simple query.
type peer struct {
	ln     net.Listener
	answer []byte

	mu    sync.Mutex // guards conns
	conns map[net.Conn]struct{}
	all   sync.WaitGroup
}

// startPeer serves on a free port of loopback until close. Each answer carries one row of size bytes.
func startPeer(size int) (*peer, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for peer: %w", err)
	}
	p := &peer{ln: ln, answer: cannedAnswer(size), conns: map[net.Conn]struct{}{}}
	p.all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			p.track(c)
			p.all.Go(func() { p.serve(c) })
		}
	})
	return p, nil
}

func (p *peer) addr() string { return p.ln.Addr().String() }

// close ends the listener and every connection, and waits.
func (p *peer) close() error {
	err := p.ln.Close()
	p.mu.Lock()
	for c := range p.conns {
		err = errors.Join(err, c.Close())
	}
	p.mu.Unlock()
	p.all.Wait()
	return err
}

func (p *peer) track(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns[c] = struct{}{}
}

// serve logs a client in without a password and answers each of its queries.
func (p *peer) serve(c net.Conn) {
	defer func() {
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
		_ = c.Close() // the client may have gone first
	}()
	in := bufio.NewReader(c)
	if err := skipStartup(in); err != nil {
		return
	}
	if _, err := c.Write(greeting); err != nil {
		return
	}
	for {
		asked, err := in.Peek(len(copyPrefix))
		if err != nil && len(asked) < 5 {
			return
		}
		isCopyOut, isCopyIn := bytes.HasPrefix(asked, copyOut[:len(copyPrefix)]), bytes.HasPrefix(asked, copyIn[:len(copyPrefix)])
		kind, err := skipMessage(in)
		if err != nil || kind == 'X' {
			return
		}
		answer := p.answer
		switch {
		case isCopyOut:
			answer = copyOutAnswer
		case isCopyIn:
			if answer, err = takeRows(c, in); err != nil {
				return
			}
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// copyPrefix is enough of a query to tell the two kinds of COPY, and both from anything else.
const copyPrefix = "Q....COPY t FROM"

// takeRows reads what a COPY from the client sends, and returns the answer to it.
func takeRows(c io.Writer, in *bufio.Reader) ([]byte, error) {
	if _, err := c.Write(message(nil, 'G', []byte{0, 0, 0})); err != nil {
		return nil, fmt.Errorf("ask for rows: %w", err)
	}
	for {
		kind, err := skipMessage(in)
		switch {
		case err != nil:
			return nil, err
		case kind == 'c':
			return copyDone(nil), nil
		}
	}
}

// copyOutAnswer is CopyOutResponse, the rows, CopyDone, CommandComplete and ReadyForQuery.
var copyOutAnswer = copyDone(message(append(message(nil, 'H', []byte{0, 0, 0}), copiedRows...), 'c', nil))

func copyDone(b []byte) []byte {
	return message(message(b, 'C', []byte("COPY 1000\x00")), 'Z', []byte{'I'})
}

// greeting is what a PostgreSQL 15 primary with trust authentication says first.
var greeting = func() []byte {
	var b []byte
	b = message(b, 'R', []byte{0, 0, 0, 0})
	for _, kv := range [][2]string{{"server_version", "15.18"}, {"client_encoding", "UTF8"}, {"in_hot_standby", "off"}} {
		b = message(b, 'S', []byte(kv[0]+"\x00"+kv[1]+"\x00"))
	}
	b = message(b, 'K', []byte{0, 0, 0, 42, 1, 2, 3, 4})
	return message(b, 'Z', []byte{'I'})
}()

// cannedAnswer is RowDescription, one DataRow with one text column, CommandComplete and ReadyForQuery.
func cannedAnswer(size int) []byte {
	column := append([]byte("v\x00"), make([]byte, 18)...)
	binary.BigEndian.PutUint32(column[8:], 25) // the type: text
	b := message(nil, 'T', append([]byte{0, 1}, column...))
	row := binary.BigEndian.AppendUint32([]byte{0, 1}, uint32(size))
	b = message(b, 'D', append(row, make([]byte, size)...))
	b = message(b, 'C', []byte("SELECT 1\x00"))
	return message(b, 'Z', []byte{'I'})
}

// message appends one message of the protocol.
func message(dst []byte, kind byte, body []byte) []byte {
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(body)+4))
	return append(dst, body...)
}

// skipStartup reads one startup packet.
func skipStartup(in *bufio.Reader) error {
	var header [4]byte
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return fmt.Errorf("read startup packet: %w", err)
	}
	if _, err := in.Discard(int(binary.BigEndian.Uint32(header[:])) - 4); err != nil {
		return fmt.Errorf("read startup packet: %w", err)
	}
	return nil
}

// skipMessage reads one message and returns its type.
func skipMessage(in *bufio.Reader) (kind byte, err error) {
	header, err := in.Peek(5)
	if err != nil {
		return 0, fmt.Errorf("read message: %w", err)
	}
	kind = header[0]
	if _, err := in.Discard(int(binary.BigEndian.Uint32(header[1:])) + 1); err != nil {
		return 0, fmt.Errorf("read message: %w", err)
	}
	return kind, nil
}
