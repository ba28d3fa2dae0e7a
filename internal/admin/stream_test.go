package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

type jsonRaw = json.RawMessage

// seqs returns the first and the last number of a list of events that has no gap; zeros for none.
func seqs(t *testing.T, body string) [2]int {
	t.Helper()
	var list struct{ Events []struct{ Seq int } }
	if err := json.Unmarshal([]byte(body), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Events) == 0 {
		return [2]int{}
	}
	first, last := list.Events[0].Seq, list.Events[len(list.Events)-1].Seq
	if last-first+1 != len(list.Events) {
		t.Errorf("%d events from %d to %d", len(list.Events), first, last)
	}
	return [2]int{first, last}
}

// reader reads a stream of events.
type reader struct {
	t      *testing.T
	lines  *bufio.Scanner
	cancel context.CancelFunc
	body   io.Closer
	header http.Header
}

// follow opens a stream.
func (r *running) follow(path string, edit func(*http.Request)) *reader {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if edit != nil {
		edit(req)
	}
	res, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		r.t.Fatalf("the stream answers %d, %s", res.StatusCode, res.Header.Get("Content-Type"))
	}
	s := &reader{t: r.t, lines: bufio.NewScanner(res.Body), cancel: cancel, body: res.Body, header: res.Header}
	r.t.Cleanup(s.close)
	return s
}

func (s *reader) close() {
	s.cancel()
	_ = s.body.Close()
}

// next returns the id and the data of the next event; false at the end of the stream.
func (s *reader) next() (id string, data string, ok bool) {
	for s.lines.Scan() {
		line := s.lines.Text()
		if v, found := strings.CutPrefix(line, "id: "); found {
			id = v
		}
		if v, found := strings.CutPrefix(line, "data: "); found {
			data = v
		}
		if line == "" && data != "" {
			return id, data, true
		}
	}
	return "", "", false
}

// expect reads the events with the given numbers.
func (s *reader) expect(from, to int) {
	s.t.Helper()
	for seq := from; seq <= to; seq++ {
		id, data, ok := s.next()
		if !ok {
			s.t.Fatalf("the stream ended before event %d", seq)
		}
		conforms(s.t, "Event", data)
		if want := fmt.Sprintf(`{"seq":%d,`, seq); id != fmt.Sprint(seq) || !strings.HasPrefix(data, want) {
			s.t.Fatalf("id %s, data %s, want event %d", id, data, seq)
		}
	}
}

func TestAStreamGivesWhatWasAndThenWhatComes(t *testing.T) {
	w := newWorld()
	for i := range 3 {
		w.happen(Event{Kind: "step", Message: fmt.Sprintf("line one\nline %d", i)})
	}
	r := start(t, w)
	s := r.follow("/events/stream", nil)
	s.expect(1, 3)
	for i := 4; i < 10; i++ {
		w.happen(Event{Kind: "opened"})
		s.expect(i, i)
	}
}

func TestAStreamLosesNothingUnderABurst(t *testing.T) {
	w := newWorld()
	r := start(t, w)
	s := r.follow("/events/stream?since=0", nil)
	const events = 3*streamBatch + 7
	var burst sync.WaitGroup
	burst.Go(func() {
		for range events {
			w.happen(Event{Kind: "step"})
		}
	})
	defer burst.Wait()
	for seq := 1; seq <= events; seq++ {
		id, _, ok := s.next()
		if !ok || id != fmt.Sprint(seq) {
			t.Fatalf("event %q (%v), want %d", id, ok, seq)
		}
	}
}

func TestABrokenStreamIsTakenUpWhereItBroke(t *testing.T) {
	w := newWorld()
	for range 5 {
		w.happen(Event{Kind: "step"})
	}
	r := start(t, w)
	r.follow("/events/stream?since=3", nil).expect(4, 5)
	r.follow("/events/stream?since=1", header("Last-Event-ID", "4")).expect(5, 5)
	if a := r.do("GET", "/events/stream", header("Last-Event-ID", "four")); a.status != 400 {
		t.Errorf("a bad Last-Event-ID answers %d", a.status)
	}
}

func TestAShutdownEndsEveryStream(t *testing.T) {
	w := newWorld()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(w.deps())
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	r := &running{Server: s, world: w, url: "http://" + l.Addr().String(), http: &http.Client{Transport: &http.Transport{}}, t: t}
	defer r.http.CloseIdleConnections()
	streams := []*reader{r.follow("/events/stream", nil), r.follow("/events/stream", nil)}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.Shutdown(ctx); err != nil {
		t.Fatalf("shutdown: %v", err)
	}
	for _, stream := range streams {
		if _, data, ok := stream.next(); ok {
			t.Errorf("an event after the shutdown: %s", data)
		}
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
}

func TestStreamsNeverKeepOutAStatus(t *testing.T) {
	w := newWorld()
	r := start(t, w)
	r.http.Transport.(*http.Transport).MaxConnsPerHost = 0
	streams := make([]*reader, maxStreams)
	for i := range streams {
		streams[i] = r.follow("/events/stream", nil)
	}
	a := r.do("GET", "/events/stream", nil)
	if a.status != 503 || r.refusal(a).Code != "unavailable" {
		t.Errorf("one stream too many answers %d", a.status)
	}
	if a := r.do("GET", "/status", nil); a.status != 200 {
		t.Errorf("the status answers %d beside %d streams", a.status, maxStreams)
	}
	streams[0].close()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if len(r.streams) < maxStreams {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a stream whose client is gone keeps its place")
		}
	}
	r.follow("/events/stream", nil)
}

func TestConnectionsBeyondTheLimitWaitAndAreServedLater(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newLimitListener(inner, 2)
	accepted := make(chan net.Conn)
	var loop sync.WaitGroup
	loop.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	})
	defer loop.Wait()
	defer func() { _ = l.Close() }()
	for range 3 {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	first, second := <-accepted, <-accepted
	select {
	case <-accepted:
		t.Fatal("a third connection was accepted beside two open ones")
	case <-time.After(50 * time.Millisecond):
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	_ = first.Close() // a second time gives no second slot
	third := <-accepted
	_ = second.Close()
	_ = third.Close()
	if len(l.slots) > 1 {
		t.Errorf("%d slots are taken, at most the accept that waits has one", len(l.slots))
	}
}

func TestAListenerThatIsFullCanBeClosed(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newLimitListener(inner, 1)
	l.slots <- struct{}{}
	ended := make(chan error, 1)
	go func() { _, err := l.Accept(); ended <- err }()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err == nil {
		t.Error("a closed listener accepted")
	}
}
