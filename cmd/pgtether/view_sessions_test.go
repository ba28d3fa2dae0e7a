package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/pgtether/pgtether/health"
	"github.com/pgtether/pgtether/internal/admin"
	"github.com/pgtether/pgtether/proxy"
)

// fakeWriter logs everybody in, and says after a while that the backend 42 has had a transaction open for a minute.
type fakeWriter struct {
	address string
	logins  atomic.Int64
}

func newFakeWriter(t *testing.T, pause time.Duration) *fakeWriter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &fakeWriter{address: ln.Addr().String()}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			w.logins.Add(1)
			serving.Go(func() {
				defer func() { _ = conn.Close() }()
				answerTransactions(conn, pause)
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		serving.Wait()
	})
	return w
}

// answerTransactions serves one connection until its client leaves.
func answerTransactions(conn net.Conn, pause time.Duration) {
	b := pgproto3.NewBackend(conn, conn)
	if _, err := b.ReceiveStartupMessage(); err != nil {
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ParameterStatus{Name: "server_version", Value: "15.12"})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for b.Flush() == nil {
		m, err := b.Receive()
		if err != nil {
			return
		}
		switch m := m.(type) {
		case *pgproto3.Parse:
			b.Send(&pgproto3.ParseComplete{})
		case *pgproto3.Bind:
			b.Send(&pgproto3.BindComplete{})
		case *pgproto3.Describe:
			if m.ObjectType == 'S' {
				b.Send(&pgproto3.ParameterDescription{})
			}
			b.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("pid"), DataTypeOID: 25}, {Name: []byte("seconds"), DataTypeOID: 25}}})
		case *pgproto3.Execute:
			time.Sleep(pause)
			b.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("42"), []byte("60")}})
			b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
		case *pgproto3.Sync:
			b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		case *pgproto3.Terminate:
			return
		}
	}
}

// listing is a daemon with one session, whose backend 42 is in a transaction on the writer.
func listing(w *fakeWriter) (d *daemon, list func(context.Context) []admin.Session) {
	target := &atomic.Pointer[health.Target]{}
	target.Store(&health.Target{Node: "region-a", Address: w.address, User: "pgtether", Database: "postgres", Instance: "test", Timeout: time.Minute})
	d = &daemon{log: slog.New(slog.DiscardHandler), probes: &probes{targets: map[string]*atomic.Pointer[health.Target]{"region-a": target}}}
	return d, func(ctx context.Context) []admin.Session {
		return d.describeSessions(ctx, []proxy.SessionInfo{{ID: 1, State: "in_transaction", Node: "region-a", PID: 42}})
	}
}

// TestTheWriterIsAskedOnceForAllWhoListSessions: nobody needs a token to ask, and each question is a login there.
func TestTheWriterIsAskedOnceForAllWhoListSessions(t *testing.T) {
	w := newFakeWriter(t, 100*time.Millisecond)
	_, list := listing(w)
	url := serveAdmin(t, admin.Deps{ListSessions: list, Log: slog.New(slog.DiscardHandler)})
	var asking sync.WaitGroup
	var told atomic.Int64
	began := time.Now()
	for range 200 {
		asking.Go(func() {
			resp, err := http.Get(url + "/sessions")
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			var body struct {
				Sessions []struct {
					Since *time.Time `json:"in_transaction_since"`
				}
			}
			if err := json.NewDecoder(resp.Body).Decode(&body); err != nil || len(body.Sessions) != 1 {
				t.Errorf("%d sessions, %v", len(body.Sessions), err)
				return
			}
			if since := body.Sessions[0].Since; since != nil && time.Since(*since) >= time.Minute {
				told.Add(1)
			}
		})
	}
	asking.Wait()
	most := 1 + int64(time.Since(began)/factsLast) // one, unless the machine is too slow for 200 requests in a second
	if n := w.logins.Load(); n > most || told.Load() != 200 {
		t.Errorf("%d logins on the writer, %d of 200 were told since when the transaction is open", n, told.Load())
	}
}

func TestWhoStopsAskingForSessionsTakesTheAnswerFromNobody(t *testing.T) {
	w := newFakeWriter(t, 100*time.Millisecond)
	d, _ := listing(w)
	target, _ := d.probes.target("region-a")
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if since, err := d.transactions.of(impatient, target); err != nil || len(since) != 1 {
		t.Errorf("the first was told %v, %v", since, err)
	}
	if since, err := d.transactions.of(t.Context(), target); err != nil || len(since) != 1 || w.logins.Load() != 1 {
		t.Errorf("the next was told %v, %v, after %d logins", since, err, w.logins.Load())
	}
}

func TestAWriterThatDoesNotSayIsNotAskedAgainAtOnce(t *testing.T) {
	w := newFakeWriter(t, 2*factsTimeout)
	d, _ := listing(w)
	target, _ := d.probes.target("region-a")
	if _, err := d.transactions.of(t.Context(), target); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the first was told %v", err)
	}
	if since, err := d.transactions.of(t.Context(), target); err != nil || len(since) != 0 || w.logins.Load() != 1 {
		t.Errorf("the next was told %v, %v, after %d logins", since, err, w.logins.Load())
	}
	d.transactions.at = time.Now().Add(-factsLast)
	_, _ = d.transactions.of(t.Context(), target)
	if n := w.logins.Load(); n != 2 {
		t.Errorf("%d logins after a second", n)
	}
}
