package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// socketName is the control socket in a lab's directory.
const socketName = "control.sock"

// maxLine bounds a line of a fault; none is longer than a few words.
const maxLine = 4096

func (l *Lab) controlSocket() string { return filepath.Join(l.dir, socketName) }

// listen takes faults from the control socket: a line in, an answer out, then "ok" or "error: ..." alone on the last line. The
// directory is closed to other accounts, and so is the socket.
func (c *console) listen(ctx context.Context) (stop func(), err error) {
	ln, err := net.Listen("unix", c.lab.controlSocket())
	if err != nil {
		return nil, fmt.Errorf("open control socket: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // closed by stop
			}
			all.Go(func() { c.answer(ctx, conn) })
		}
	})
	return func() {
		cancel()
		ln.Close()
		all.Wait()
	}, nil
}

// answer serves one connection: one line.
func (c *console) answer(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	unhook := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) }) // nobody may hold the end up
	defer unhook()
	line, err := bufio.NewReader(io.LimitReader(conn, maxLine)).ReadString('\n')
	if err != nil {
		fmt.Fprintf(conn, "error: want one line of at most %d bytes\n", maxLine)
		return
	}
	text, err := c.obey(ctx, line)
	writeAnswer(conn, text, err)
}

func writeAnswer(w io.Writer, text string, err error) {
	if text != "" {
		fmt.Fprintln(w, text)
	}
	if err != nil {
		fmt.Fprintf(w, "error: %s\n", strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	fmt.Fprintln(w, "ok")
}

// obeyLines carries out what a person types or a script pipes in.
func (c *console) obeyLines(ctx context.Context, in io.Reader, out io.Writer) {
	lines := bufio.NewScanner(in)
	for ctx.Err() == nil && lines.Scan() {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		text, err := c.obey(ctx, lines.Text())
		if ctx.Err() != nil && err == nil {
			return
		}
		writeAnswer(out, text, err)
	}
}

// FindSocket returns the control socket of the one lab that runs on this machine, as far as this account may see.
func FindSocket() (string, error) {
	var found []string
	for _, parent := range []string{os.Getenv("PGTETHER_LAB_DIR"), os.TempDir()} {
		if parent == "" {
			continue
		}
		sockets, _ := filepath.Glob(filepath.Join(parent, dirPrefix+"*", socketName)) // the pattern is well formed
		found = append(found, sockets...)
	}
	slices.Sort(found)
	found = slices.Compact(found)
	switch len(found) {
	case 0:
		return "", errors.New("find control socket: no lab runs here; start one with 'pgtether lab'")
	case 1:
		return found[0], nil
	default:
		return "", fmt.Errorf("find control socket: several labs run here; choose one with --socket: %s", strings.Join(found, ", "))
	}
}

// Send has a running lab carry out one line, such as "kill region-a", and writes the answer. A fault that the lab refused, or that
// failed, is an error.
func Send(ctx context.Context, socket, line string, out io.Writer) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("reach lab: %w", err)
	}
	defer conn.Close()
	unhook := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer unhook()
	if strings.ContainsAny(line, "\r\n") {
		return fmt.Errorf("send %q: want one line", line)
	}
	if _, err := io.WriteString(conn, line+"\n"); err != nil {
		return fmt.Errorf("send %q: %w", line, err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return fmt.Errorf("read answer to %q: %w", line, err)
	}
	text := strings.TrimSuffix(string(answer), "\n")
	body, last := "", text
	if i := strings.LastIndexByte(text, '\n'); i >= 0 {
		body, last = text[:i+1], text[i+1:]
	}
	if _, err := io.WriteString(out, body); err != nil {
		return fmt.Errorf("write answer to %q: %w", line, err)
	}
	if reason, failed := strings.CutPrefix(last, "error: "); failed {
		return errors.New(reason)
	}
	if last != "ok" {
		return fmt.Errorf("send %q: the lab ended before it answered", line)
	}
	return nil
}
