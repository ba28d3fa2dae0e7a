package lab

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// doorMode is how a relay treats new connections.
type doorMode uint8

const (
	doorClosed doorMode = iota // refused
	doorOpen                   // accepted
	doorSilent                 // no answer to the SYN
)

// setDoor changes the mode from any to any.
func (r *Relay) setDoor(mode doorMode) error {
	r.door.Lock()
	defer r.door.Unlock()
	if mode == r.mode {
		return nil
	}
	r.mode = mode
	switch mode {
	case doorClosed:
		r.stopAccepting()
		r.emptyQueue()
		if r.ln == nil {
			return nil
		}
		err := r.ln.Close()
		r.ln = nil
		r.mu.Lock()
		clear(r.own) // they went down with the queue
		r.mu.Unlock()
		return err
	case doorSilent:
		if err := r.reopen(); err != nil {
			return err
		}
		r.stopAccepting()
		return r.fillQueue()
	default:
		if err := r.reopen(); err != nil {
			return err
		}
		r.emptyQueue()
		if err := setBacklog(r.ln, openBacklog); err != nil {
			return err
		}
		r.startAccepting()
		return nil
	}
}

// openBacklog is the length of the accept queue of an open door.
const openBacklog = 1024

// listen opens the door for the first time.
func (r *Relay) listen() error { return r.setDoor(doorOpen) }

// reopen makes sure that there is a listener.
func (r *Relay) reopen() error {
	if r.ln != nil {
		return nil
	}
	r.mu.Lock()
	closed := r.closed
	r.mu.Unlock()
	if closed {
		r.mode = doorClosed
		return errors.New("open relay: it is closed")
	}
	ln, err := net.Listen("tcp", r.Addr())
	if err != nil {
		r.mode = doorClosed
		return fmt.Errorf("open relay: %w", err)
	}
	r.ln = ln.(*net.TCPListener)
	return nil
}

// startAccepting runs the accept loop; whoever stops it waits for its end.
func (r *Relay) startAccepting() {
	if r.accepting != nil {
		return
	}
	ended := make(chan struct{})
	r.accepting = ended
	ln := r.ln
	_ = ln.SetDeadline(time.Time{}) // fails only on a closed listener, and then Accept says so
	go func() {
		defer close(ended)
		for {
			conn, err := ln.AcceptTCP()
			if err == nil {
				r.wg.Add(1)
				go r.serve(conn)
				continue
			}
			if isTimeout(err) || errors.Is(err, net.ErrClosed) {
				return
			}
			time.Sleep(pollEvery) // out of descriptors, or the client left the queue: go on
		}
	}()
}

func (r *Relay) stopAccepting() {
	if r.accepting == nil {
		return
	}
	_ = r.ln.SetDeadline(time.Unix(1, 0)) // a deadline in the past calls Accept back
	<-r.accepting
	r.accepting = nil
}

// fillQueue leaves no room for another connection: Linux drops a SYN, without an answer, when the accept queue is longer than the
// backlog (tcp_conn_request), and with a backlog of 0 one waiting connection is enough.
func (r *Relay) fillQueue() error {
	if err := setBacklog(r.ln, 0); err != nil {
		return fmt.Errorf("silence relay: %w", err)
	}
	const tries = 8
	for range tries {
		filler, err := net.DialTimeout("tcp", r.Addr(), 200*time.Millisecond)
		if err != nil { // the kernel is silent now
			return nil
		}
		r.fillers = append(r.fillers, filler)
		r.mu.Lock()
		r.own[filler.LocalAddr().String()] = true
		r.mu.Unlock()
	}
	return fmt.Errorf("silence relay: the kernel still answers after %d connections", tries)
}

func (r *Relay) emptyQueue() {
	for _, filler := range r.fillers {
		filler.Close()
	}
	r.fillers = nil
}

// setBacklog changes the length of a listener's accept queue.
func setBacklog(ln *net.TCPListener, backlog int) error {
	raw, err := ln.SyscallConn()
	if err != nil {
		return err
	}
	var listenErr error
	if err := raw.Control(func(fd uintptr) { listenErr = listenAgain(fd, backlog) }); err != nil {
		return err
	}
	return listenErr
}
