package pgwire

import "testing"

func TestRunningIsWhatTheServerOwes(t *testing.T) {
	for _, c := range []struct {
		name, script string
		running      bool
	}{
		{"after login", "= idle", false},
		{"a query", "> Q SELECT 1", true},
		{"its answer", "> Q SELECT 1\n< T D", true},
		{"its end", "> Q SELECT 1\n< T D C ZI", false},
		{"an open block", "> Q BEGIN\n< C ZT", false},
		{"without a Sync", "> P /SELECT 1", true},
		{"without a Sync, answered", "> P /SELECT 1|B /|E|H\n< 1 2 C", true},
		{"a Flush alone", "> H", false},
		{"a notification", "< A", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := started()
			runScript(t, tr, c.script)
			if tr.Running() != c.running {
				t.Errorf("running: %t", tr.Running())
			}
		})
	}
}

func TestServerBoundaryIsBetweenMessages(t *testing.T) {
	tr := started()
	runScript(t, tr, "> Q SELECT 1")
	b := msg('D', "row")
	for i := range b {
		if !tr.ServerBoundary() != (i > 0) {
			t.Errorf("boundary after %d bytes: %t", i, tr.ServerBoundary())
		}
		tr.Server(b[i : i+1])
	}
	if !tr.ServerBoundary() || tr.LastServer() != 'D' {
		t.Errorf("boundary %t, last %q", tr.ServerBoundary(), tr.LastServer())
	}
	tr.Server(msg('?', ""))
	if tr.ServerBoundary() {
		t.Error("a broken stream has a boundary")
	}
}

func TestTerminated(t *testing.T) {
	tr := started()
	tr.Client([]byte{'X', 0, 0, 0})
	if tr.Terminated() {
		t.Error("terminated by a part of a message")
	}
	tr.Client([]byte{4})
	if !tr.Terminated() || tr.Idle() {
		t.Errorf("terminated %t, idle %t", tr.Terminated(), tr.Idle())
	}
	// The session is not idle: what the server says is relayed.
	if pass, stop := tr.Server(msg('E', "SFATAL\x00\x00")); stop || pass == 0 {
		t.Error("an error behind Terminate is kept back")
	}
}

func TestANewTrackerIsNotIdle(t *testing.T) {
	var tr Tracker
	if tr.Idle() || tr.TxStatus() != 0 || tr.InTransaction() || tr.InDoubt() || tr.Terminated() || tr.Broken() != nil {
		t.Error("a session that has not logged in has a state")
	}
	if _, stop := tr.Server(msg('E', "SFATAL\x00C28P01\x00\x00")); stop {
		t.Error("an error during the login is kept back")
	}
}

func TestAnErrorIsKeptBackByItsTypeAlone(t *testing.T) {
	for _, typ := range []byte{'E', 'N'} {
		tr := started()
		whole := msg(typ, "SFATAL\x00C57P01\x00\x00")
		if pass, stop := tr.Server(whole[:1]); !stop || pass != 0 {
			t.Fatalf("%c: %d %t", typ, pass, stop)
		}
		if pass, stop := tr.Server(whole); !stop || pass != 0 {
			t.Fatalf("%c, asked again: %d %t", typ, pass, stop)
		}
		tr.PassServer(whole[:1])
		if tr.Idle() {
			t.Errorf("%c: idle in the middle of a message", typ)
		}
		if pass, stop := tr.Server(whole[1:]); stop || pass != len(whole)-1 {
			t.Errorf("%c: the rest of what was relayed is kept back", typ)
		}
		if tr.Idle() != (typ == 'N') { // after an error the server closes, or says ReadyForQuery
			t.Errorf("%c: idle %t", typ, tr.Idle())
		}
	}
}
