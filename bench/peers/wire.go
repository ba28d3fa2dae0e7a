package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// session is a connection that has logged in, with nothing between us and its bytes: the client must not be the slowest.
type session struct {
	conn net.Conn
	in   *bufio.Reader
}

// config is how our own clients log in to a peer.
func (st *stage) config(p *peer, encrypted bool) (*pgconn.Config, error) {
	config, err := pgconn.ParseConfig(fmt.Sprintf("host=127.0.0.1 sslmode=disable user=%s password=%s dbname=%s",
		st.lab.AppUser, st.lab.AppPassword, st.lab.AppDatabase))
	if err != nil {
		return nil, fmt.Errorf("configure client: %w", err)
	}
	address := p.address
	if encrypted {
		address = p.tls
		ours := &tls.Config{RootCAs: st.lab.TLS().Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS13}
		if p.tlsFirst {
			config.DialFunc = (&tls.Dialer{Config: ours}).DialContext
		} else {
			config.TLSConfig = ours
		}
	}
	host, port := split(address)
	config.Host = host
	if _, err := fmt.Sscan(port, &config.Port); err != nil {
		return nil, fmt.Errorf("read port of %s: %w", address, err)
	}
	config.ConnectTimeout = 30 * time.Second
	return config, nil
}

// login logs in, by pgx, and takes the connection over.
func (st *stage) login(ctx context.Context, p *peer, encrypted bool) (*session, error) {
	config, err := st.config(p, encrypted)
	if err != nil {
		return nil, err
	}
	c, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	// After a write that took long pgx reads in the background, and would take the first bytes of the next answer with it.
	if err := c.SyncConn(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("log in: %w", err), c.Close(ctx))
	}
	taken, err := c.Hijack()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("take connection over: %w", err), c.Close(ctx))
	}
	if encrypted {
		if t, ok := taken.Conn.(*tls.Conn); !ok || t.ConnectionState().Version != tls.VersionTLS13 {
			return nil, errors.Join(fmt.Errorf("log in: the connection is a %T, not TLS 1.3", taken.Conn), taken.Conn.Close())
		}
	}
	return &session{conn: taken.Conn, in: bufio.NewReaderSize(taken.Conn, 256<<10)}, nil
}

// awaitLogin returns when a login works. A peer that has just been started may not listen yet.
func (st *stage) awaitLogin(ctx context.Context, p *peer) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		s, err := st.login(ctx, p, false)
		if err == nil {
			return s.close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", p.name, err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// close says goodbye and closes the connection.
func (s *session) close() error {
	packet, err := (&pgproto3.Terminate{}).Encode(nil)
	if err == nil {
		_, err = s.conn.Write(packet)
	}
	return errors.Join(err, s.conn.Close())
}

// endWith breaks the connection when the context ends, so that nobody waits on it for ever. The function returned ends that.
func (s *session) endWith(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = s.conn.SetDeadline(time.Now()) }) // whoever reads or writes sees it
}

// send sends messages in one write.
func (s *session) send(messages ...pgproto3.FrontendMessage) error {
	packet, err := encode(messages...)
	if err != nil {
		return err
	}
	_, err = s.conn.Write(packet)
	return err
}

func encode(messages ...pgproto3.FrontendMessage) (packet []byte, err error) {
	for _, m := range messages {
		if packet, err = m.Encode(packet); err != nil {
			return nil, fmt.Errorf("encode %T: %w", m, err)
		}
	}
	return packet, nil
}

// await reads up to and including a message of the wanted type and returns how many bytes of CopyData came before it. An ErrorResponse is
// an error.
func await(in *bufio.Reader, want byte) (copied int64, err error) {
	for {
		header, err := in.Peek(5)
		if err != nil {
			return copied, fmt.Errorf("read answer: %w", err)
		}
		kind, length := header[0], int(binary.BigEndian.Uint32(header[1:]))
		if kind == 'E' {
			return copied, refusal(in, length)
		}
		if _, err := in.Discard(length + 1); err != nil {
			return copied, fmt.Errorf("read answer: %w", err)
		}
		if kind == 'd' {
			copied += int64(length - 4)
		}
		if kind == want {
			return copied, nil
		}
	}
}

// refusal is what the server's ErrorResponse says.
func refusal(in *bufio.Reader, length int) error {
	body := make([]byte, length+1)
	if _, err := io.ReadFull(in, body); err != nil {
		return fmt.Errorf("read error of the server: %w", err)
	}
	var m pgproto3.ErrorResponse
	if err := m.Decode(body[5:]); err != nil {
		return fmt.Errorf("read error of the server: %w", err)
	}
	return fmt.Errorf("the server says: %w", pgconn.ErrorResponseToPgError(&m))
}

// loginIdle logs in to a server of idle sessions, without a password, asks for one thing, so that a pool commits a server connection to the
// session, and keeps nothing but the connection.
func loginIdle(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	packet, err := encode(&pgproto3.StartupMessage{
		ProtocolVersion: pgproto3.ProtocolVersion30, Parameters: map[string]string{"user": idleUser, "database": idleUser},
	})
	if err == nil {
		err = c.SetDeadline(time.Now().Add(60 * time.Second))
	}
	if err == nil {
		_, err = c.Write(packet)
	}
	s := session{conn: c, in: bufio.NewReaderSize(c, 512)}
	if err == nil {
		_, err = await(s.in, 'Z')
	}
	if err == nil {
		err = s.send(&pgproto3.Query{String: "SET search_path TO public"})
	}
	if err == nil {
		_, err = await(s.in, 'Z')
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("log in: %w", err), c.Close())
	}
	return c, nil
}

// copyRow is a row of one column of 8 KiB in PostgreSQL's binary format of COPY, as a message.
func copyRow() []byte {
	row := binary.BigEndian.AppendUint16(nil, 1)
	row = binary.BigEndian.AppendUint32(row, copyRowBytes)
	row = append(row, bytes.Repeat([]byte{'x'}, copyRowBytes)...)
	return copyData(row)
}

// copyRowBytes is long enough for the server's own work on a row to weigh little.
const copyRowBytes = 8 << 10

func copyData(body []byte) []byte {
	packet := binary.BigEndian.AppendUint32([]byte{'d'}, uint32(len(body)+4))
	return append(packet, body...)
}
