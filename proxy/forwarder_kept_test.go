package proxy

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
)

// Split at every byte, the message of a dying server must not reach an idle client.
func TestAMessageThatMayMeanADyingServerIsKeptBackFromAnIdleClient(t *testing.T) {
	for name, message := range map[string]string{"57P01 error": terminated, "57P02 warning": crashed} {
		t.Run(name, func(t *testing.T) {
			onEach(t, func(t *testing.T, newRig func(bool) *rig) {
				for split := 0; split < len(message); split += 7 {
					r := newRig(false).start()
					r.client.write([]byte(simple("one")))
					r.expect(r.server, simple("one"))
					r.server.write([]byte(done + ready + message[:split]))
					r.expect(r.client, done+ready)
					r.server.write([]byte(message[split:]))
					res := r.awaitEnd(endKeptBack)
					if string(res.keptBack) != message || !res.clean {
						t.Fatalf("split at %d: kept back %q, clean %v", split, res.keptBack, res.clean)
					}
					if n := r.pair.toClient.Load(); n != int64(len(done+ready)) {
						t.Fatalf("split at %d: the client got %d bytes", split, n)
					}
				}
			})
		})
	}
}

func TestOtherUnaskedForMessagesPassUnchanged(t *testing.T) {
	notice := encode(&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: "hello"})
	long := encode(&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "57P01", Message: strings.Repeat("x", siftMax)})
	reports := encode(&pgproto3.ParameterStatus{Name: "TimeZone", Value: "UTC"}, &pgproto3.NotificationResponse{Channel: "c", Payload: "p"})
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		for _, words := range []string{notice, reports, notice + reports + notice, long, idleTimeout} {
			r.server.write([]byte(words[:3]))
			r.server.write([]byte(words[3:]))
			r.expect(r.client, words)
		}
		_ = r.server.Close()
		r.awaitEnd(endServer)
		if r.pair.tracker.LastServer() != 'E' {
			t.Error("it is not known that the server had the last word")
		}
	})
}

func TestAnEndThatAnswersARequestPasses(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		r.client.write([]byte(simple("slow")))
		r.expect(r.server, simple("slow"))
		r.server.write([]byte(terminated))
		r.expect(r.client, terminated)
		_ = r.server.Close()
		r.awaitEnd(endServer)
	})
}

// The client asks something while the beginning of the message is held up: then the message is the answer, and must not be swallowed.
func TestAMessageThatAnswersAfterAllIsReleased(t *testing.T) {
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		r.server.write([]byte(terminated[:10]))
		r.client.write([]byte(simple("late")))
		r.expect(r.server, simple("late"))
		r.server.write([]byte(terminated[10:]))
		r.expect(r.client, terminated)
	})
}

func TestParkWaitsUntilAHeldUpMessageIsUnderstood(t *testing.T) {
	notice := encode(&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: "hello"})
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		r.server.write([]byte(notice[:9]))
		eventually(t, "the beginning of the notice has been read", func() bool { return isKeeping(r.forwarder, r.pair) })
		r.park()
		if len(r.parkedAt) > 0 {
			t.Fatal("parked in the middle of a message")
		}
		r.server.write([]byte(notice[9:]))
		r.expect(r.client, notice)
		r.awaitParked()
	})
}

// One read brings the end of what was held up, and more: the pair that parks there takes the rest along.
func TestWhatFollowsAHeldUpMessageIsNotLostWhenThePairParksThere(t *testing.T) {
	notice := encode(&pgproto3.NoticeResponse{Severity: "NOTICE", Code: "00000", Message: "hello"})
	first := encode(&pgproto3.NotificationResponse{Channel: "c", Payload: "first"})
	second := encode(&pgproto3.NotificationResponse{Channel: "c", Payload: "second"})
	half := len(second) / 2
	onEach(t, func(t *testing.T, newRig func(bool) *rig) {
		r := newRig(false).start()
		goOn := func(heard string) {
			r.expect(r.client, heard)
			r.server.write([]byte(second[half:])) // some park before it comes, some after it
			r.awaitParked()
			if !r.pair.tracker.ServerBoundary() {
				t.Error("parked in the middle of a message")
			}
			r.start()
			r.expect(r.client, first+second)
		}
		r.server.write([]byte(notice[:9]))
		eventually(t, "the beginning of the notice has been read", func() bool { return isKeeping(r.forwarder, r.pair) })
		r.park()
		r.server.write([]byte(notice[9:] + first + second[:half]))
		goOn(notice)

		r.client.write([]byte(simple("one")))
		r.expect(r.server, simple("one"))
		r.park()
		r.server.write([]byte(done + ready + notice + first + second[:half]))
		goOn(done + ready + notice)
	})
}

// isKeeping reports whether the forwarder holds up the beginning of a message of the pair's.
func isKeeping(f forwarder, p *pair) bool {
	g, ok := f.(*goForwarder)
	if !ok {
		return isLoopKeeping(f, p)
	}
	run := g.find(p)
	run.mu.Lock()
	defer run.mu.Unlock()
	return run.keeping
}
