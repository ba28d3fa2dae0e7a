package main

import (
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgproto3"
)

// The roles in which this program starts itself once more, as processes whose cost can be told from ours.
const (
	roleProxy  = "iocopy-proxy"
	roleServer = "idle-server"
)

// roles take the address to listen on and the address of the server.
var roles = map[string]func(args []string) error{
	roleProxy:  func(args []string) error { return listenFor(args, copyProxy) },
	roleServer: func(args []string) error { return listenFor(args, idleServer) },
}

// idleUser is the role whose logins the idle server answers itself.
const idleUser = "idle"

// listenFor serves each connection on a goroutine until the process is killed.
func listenFor(args []string, serve func(c net.Conn, server string)) error {
	if len(args) != 2 {
		return errors.New("read arguments: want the address to listen on and that of the server")
	}
	ln, err := net.Listen("tcp", args[0])
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		c, err := ln.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go serve(c, args[1])
	}
}

// copyProxy is the plain proxy that anybody writes first: it dials, and io.Copy carries the bytes each way.
func copyProxy(c net.Conn, server string) {
	s, err := net.Dial("tcp", server)
	if err != nil {
		_ = c.Close() // the client sees it
		return
	}
	splice(c, s)
}

// splice copies both ways until one ends.
func splice(a, b net.Conn) {
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // an error ends the pair, as the end of the stream does
			ended <- struct{}{}
		}()
	}
	<-ended
	_, _ = a.Close(), b.Close()
	<-ended
}

// idleServer takes as many sessions of the role idle as there are descriptors, more than a PostgreSQL server can; everybody else, a
// proxy's probes for instance, is led to the PostgreSQL server that it stands in for.
func idleServer(c net.Conn, server string) {
	defer c.Close()
	backend := pgproto3.NewBackend(c, c)
	startup, err := receiveStartup(c, backend)
	if err != nil {
		return
	}
	if startup.Parameters["user"] != idleUser {
		lead(c, startup, server)
		return
	}
	backend.Send(&pgproto3.AuthenticationOk{})
	for name, value := range map[string]string{"server_version": "15.0", "client_encoding": "UTF8", "in_hot_standby": "off"} {
		backend.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	backend.Send(&pgproto3.BackendKeyData{ProcessID: 42, SecretKey: []byte{1, 2, 3, 4}})
	backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for backend.Flush() == nil {
		m, err := backend.Receive()
		if err != nil {
			return
		}
		switch m.(type) {
		case *pgproto3.Terminate:
			return
		case *pgproto3.Query: // a pool that sets its parameters
			backend.Send(&pgproto3.CommandComplete{CommandTag: []byte("SET")})
			backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		}
	}
}

// receiveStartup refuses TLS and GSS encryption and returns the startup message.
func receiveStartup(c net.Conn, backend *pgproto3.Backend) (*pgproto3.StartupMessage, error) {
	for {
		m, err := backend.ReceiveStartupMessage()
		if err != nil {
			return nil, fmt.Errorf("receive startup message: %w", err)
		}
		switch m := m.(type) {
		case *pgproto3.StartupMessage:
			return m, nil
		case *pgproto3.SSLRequest, *pgproto3.GSSEncRequest:
			if _, err := c.Write([]byte{'N'}); err != nil {
				return nil, fmt.Errorf("refuse encryption: %w", err)
			}
		default:
			return nil, fmt.Errorf("receive startup message: a %T came", m)
		}
	}
}

// lead brings a client to the server and hands its startup message on. A client waits for the answer, so nothing else has been read.
func lead(c net.Conn, startup *pgproto3.StartupMessage, server string) {
	packet, err := startup.Encode(nil)
	if err != nil {
		return
	}
	s, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	if _, err := s.Write(packet); err != nil {
		_ = s.Close() // and the client with it
		return
	}
	splice(c, s)
}
