package pgwire

import (
	"bytes"
	"strings"
	"testing"
)

func clientMsgs(list string) []byte {
	var b []byte
	for _, m := range strings.Split(list, "|") {
		b = append(b, clientMsg(strings.TrimSpace(m))...)
	}
	return b
}

func TestWhileParkingOnlyWorkUnderWayIsFinished(t *testing.T) {
	for _, c := range []struct {
		name, before string // script up to the moment
		next         string // what the client sends
		passes       string // what of it may be forwarded
	}{
		{"an idle session begins nothing", "= idle", "Q SELECT 1", ""},
		{"not even what does no work", "= idle", "S|H|X", ""},
		{"nor after a transaction", "> Q BEGIN\n< C ZT\n> Q COMMIT\n< C ZI", "Q BEGIN|Q SELECT 1", ""},
		{"before login nothing passes", "", "Q SELECT 1", ""},
		{"what is unanswered may open a block: wait", "> Q BEGIN", "Q INSERT|Q COMMIT", ""},
		{"a block goes on, one request at a time", "> Q BEGIN\n< C ZT", "Q INSERT|Q COMMIT|Q BEGIN", "Q INSERT"},
		{"a failed block goes on", "> Q BEGIN\n< C ZT\n> Q bad\n< E ZE", "Q ROLLBACK|Q BEGIN", "Q ROLLBACK"},
		{"a block goes on with a batch to its Sync", "> Q BEGIN\n< C ZT", "P /SELECT 1|B /|E|S|P /SELECT 2|S", "P /SELECT 1|B /|E|S"},
		{"a block goes on with a Query behind a batch", "> Q BEGIN\n< C ZT", "P /SELECT 1|Q SELECT 2|Q SELECT 3", "P /SELECT 1|Q SELECT 2"},
		{"a block goes on with a function call", "> Q BEGIN\n< C ZT", "F|F", "F"},
		{"a batch is finished to its Sync", "> P /SELECT 1|B /", "E|H|P /SELECT 2|B /|E|S|S|P /SELECT 3", "E|H|P /SELECT 2|B /|E|S|S"},
		{"behind a Flush that was answered too", "> P /SELECT 1|B /|E|H\n< 1 2 C", "E|S|Q SELECT 1", "E|S"},
		{"a COPY is finished", "> Q COPY t FROM STDIN\n< G", "d row|d row|c|Q SELECT 1", "d row|d row|c"},
		{"a COPY is failed", "> Q COPY t FROM STDIN\n< G", "d row|f no|Q SELECT 1", "d row|f no"},
		{"a COPY that the server has not begun", "> Q COPY t FROM STDIN", "d row|c|Q SELECT 1", "d row|c"},
		{"a COPY by libpq's extended protocol", "> P /COPY t FROM STDIN|B /|E|S\n< 1 2 G", "d row|S|d row|c|S|P /SELECT 1", "d row|S|d row|c|S"},
		{"the same when CopyDone has passed", "> P /COPY t FROM STDIN|B /|E|S\n< 1 2 G\n> d row|c", "S|Q SELECT 1", "S"},
		{"and when it was answered", "> P /COPY t FROM STDIN|B /|E|S\n< 1 2 G\n> d row|c\n< C", "S|Q SELECT 1", "S"},
		{"a batch that failed waits for its Sync", "> P /SELECT bad|B /|E\n< E", "P /SELECT 2|S|P /SELECT 3", "P /SELECT 2|S"},
		{"a skipped Query waits for a Sync", "> P /SELECT bad|Q SELECT 2\n< E", "S|Q SELECT 1", "S"},
		{"Terminate behind work under way", "> Q SELECT 1", "X", "X"},
		{"Terminate in a block", "> Q BEGIN\n< C ZT", "X", "X"},
		{"after Terminate all is ignored", "> X", "Q SELECT 1", "Q SELECT 1"},
		{"a doubt that only another answer ends", "> P /COPY t FROM STDIN|B /|E|S\n< 1 2 G\n> d bad|c|S\n< E ZI\n= busy", "Q SELECT 1|Q SELECT 2", "Q SELECT 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := started()
			if c.before == "" {
				tr = new(Tracker)
			} else {
				runScript(t, tr, c.before)
			}
			next, want := clientMsgs(c.next), 0
			if c.passes != "" {
				want = len(clientMsgs(c.passes))
			}
			if got := tr.ClientBoundary(next); got != want {
				t.Errorf("%d bytes may pass, want %d of %d", got, want, len(next))
			}
			for size := range len(next) { // asked about any part, it says the same
				if got := tr.ClientBoundary(next[:size]); got != min(size, want) {
					t.Errorf("of the first %d bytes %d may pass, want %d", size, got, min(size, want))
				}
			}
		})
	}
}

func TestAMessageBegunIsFinished(t *testing.T) {
	query, next := clientMsgs("Q SELECT 1"), clientMsgs("Q SELECT 2")
	for size := 1; size < len(query); size++ {
		tr := started()
		tr.Client(query[:size])
		rest := append(bytes.Clone(query[size:]), next...)
		if got := tr.ClientBoundary(rest); got != len(query)-size {
			t.Errorf("after %d bytes %d may pass, want %d", size, got, len(query)-size)
		}
		if got := tr.ClientBoundary(nil); got != 0 {
			t.Errorf("%d of no bytes may pass", got)
		}
	}
}

func TestAskingAboutTheBoundaryChangesNothing(t *testing.T) {
	tr := started()
	runScript(t, tr, "> P /SELECT 1|B /")
	before := strings.Join(state(tr), " ")
	tr.ClientBoundary(clientMsgs("E|S|Q COMMIT"))
	tr.ClientBoundary([]byte("E\x00"))
	if after := strings.Join(state(tr), " "); after != before {
		t.Errorf("%q, was %q", after, before)
	}
	runScript(t, tr, `
		> E | S
		< 1 2 C ZI
		= idle`)
}

func TestNonsenseIsNotHeldBack(t *testing.T) {
	tr := started()
	tr.Client([]byte("?"))
	tr.Client([]byte{0, 0, 0, 4})
	if tr.Broken() == nil || tr.ClientBoundary([]byte("anything")) != 8 {
		t.Error("what the server will refuse is held back")
	}
	tr = started()
	runScript(t, tr, "> P /SELECT 1")
	if n := tr.ClientBoundary([]byte("S\x00\x00\x00\x01 and more")); n != 14 {
		t.Errorf("%d bytes of a message with an impossible length pass", n)
	}
}
