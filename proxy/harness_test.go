package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/pgtether/pgtether/internal/metrics"
	"github.com/pgtether/pgtether/internal/pgwire"
)

// harness is a Server on a loopback listener.
type harness struct {
	*Server
	t        testing.TB
	addr     string
	registry *prometheus.Registry
	logs     *logBuffer
	suspects chan string
}

// startServer serves with the configuration. The server is shut down at the end of the test.
func startServer(t testing.TB, cfg Config, deps Deps) *harness {
	t.Helper()
	h := newHarness(t, cfg, deps)
	h.listen()
	return h
}

func newHarness(t testing.TB, cfg Config, deps Deps) *harness {
	t.Helper()
	h := &harness{t: t, registry: prometheus.NewRegistry(), logs: &logBuffer{}, suspects: make(chan string, 10000)}
	var reasons []string
	for _, r := range pgwire.Reasons() {
		reasons = append(reasons, r.String())
	}
	deps.Metrics = metrics.New(h.registry, metrics.Labels{Reasons: reasons, Ends: Ends(), LoginResults: LoginResults(), CancelResults: CancelResults(), MoveResults: MoveResults()}).Proxy
	if deps.Log == nil {
		deps.Log = slog.New(slog.NewTextHandler(h.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if deps.Suspect == nil {
		deps.Suspect = func(node string) {
			select {
			case h.suspects <- node:
			default:
			}
		}
	}
	var err error
	if h.Server, err = New(cfg, deps); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // force what is left
		_ = h.Shutdown(ctx)
		if t.Failed() {
			logs := h.logs.String()
			t.Logf("log of the proxy:\n%s", logs[max(0, len(logs)-4000):])
		}
	})
	return h
}

// bind opens a listener, to which clients are led from then on.
func (h *harness) bind() net.Listener {
	h.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.addr = ln.Addr().String()
	return ln
}

func (h *harness) listen() {
	h.t.Helper()
	ln := h.bind()
	served := make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())
	go func() { served <- h.Serve(ctx, ln) }()
	h.t.Cleanup(func() {
		stop()
		select {
		case err := <-served:
			if !errors.Is(err, ErrServerClosed) && !errors.Is(err, context.Canceled) {
				h.t.Errorf("Serve returned %v", err)
			}
		case <-time.After(patience):
			h.t.Error("Serve did not return")
		}
	})
}

// serve serves what a test makes of a listener, which is returned, and the result of Serve with it.
func (h *harness) serve(made func(net.Listener) net.Listener) (ln net.Listener, served <-chan error) {
	h.t.Helper()
	ln = h.bind()
	result := make(chan error, 1)
	go func() { result <- h.Serve(h.t.Context(), made(ln)) }()
	return ln, result
}

// open opens a route and fails the test if that is refused.
func (h *harness) open(r Route) {
	h.t.Helper()
	if err := h.Open(r); err != nil {
		h.t.Fatal(err)
	}
}

// dial connects a client, which is closed at the end of the test.
func (h *harness) dial() *testClient {
	h.t.Helper()
	conn, err := net.DialTimeout("tcp", h.addr, patience)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = conn.Close() })
	return &testClient{Conn: conn, t: h.t}
}

// start connects a client and sends a startup packet for user "app" and database "db".
func (h *harness) start() *testClient {
	h.t.Helper()
	c := h.dial()
	c.write(startupPacket(pgwire.Version30, "user", "app", "database", "db"))
	return c
}

// login connects a client and logs it in without a password.
func (h *harness) login() *testClient {
	h.t.Helper()
	c := h.start()
	if got := c.messages(); got[len(got)-1] != "Z I" {
		h.t.Fatalf("login ended with %q", got)
	}
	return c
}

// metric returns the value of a counter or gauge with the one label value, or the number of observations of a histogram.
func (h *harness) metric(name string, label ...string) float64 {
	h.t.Helper()
	families, err := h.registry.Gather()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(label) == 0 || slices.ContainsFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == label[0] }) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	h.t.Fatalf("no metric %s %v", name, label)
	return 0
}

// refusals returns how often the reason was counted.
func (h *harness) refusals(r pgwire.Reason) float64 {
	return h.metric("pgtether_refusals_total", r.String())
}

// clients is how many clients count against the limits.
func (h *harness) clients() int {
	h.counts.mu.Lock()
	defer h.counts.mu.Unlock()
	return h.counts.total
}

// cameIn is how many connections the proxy has taken notice of: those that were refused, before their startup packet was read or after it, those
// that have gone, and those that are clients now.
func (h *harness) cameIn() int {
	n := h.clients()
	for _, r := range pgwire.Reasons() {
		n += int(h.refusals(r))
	}
	for _, result := range []string{loginServerRefused, loginClientGone, loginFailed} {
		n += int(h.metric("pgtether_logins_total", result))
	}
	return n
}

// underWay is how many logins are between the dial and the session.
func (h *harness) underWay() int {
	h.admission.mu.Lock()
	defer h.admission.mu.Unlock()
	return h.admission.underWay
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// same compares two lists of messages.
func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n got %s\nwant %s", what, strings.Join(got, " | "), strings.Join(want, " | "))
	}
}

// fatal renders a refusal as messages() does.
func fatal(r pgwire.Reason) string {
	return fmt.Sprintf("E FATAL %s %s", r.SQLState(), r.Message())
}

// logBuffer collects what is logged.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// lines counts the logged lines with all the words.
func (l *logBuffer) lines(words ...string) (n int) {
	for line := range strings.Lines(l.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

// testMetrics are nobody's: for what is tested without a Server.
var testMetrics = sync.OnceValue(func() *metrics.Proxy { return metrics.New(prometheus.NewRegistry(), metrics.Labels{}).Proxy })

// bufferConn is a connection that keeps what is written to it, and does nothing else.
type bufferConn struct {
	net.Conn
	w *bytes.Buffer
}

func (b bufferConn) Write(p []byte) (int, error) { return b.w.Write(p) }
