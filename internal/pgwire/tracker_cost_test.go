package pgwire

import (
	"bytes"
	"testing"
)

// The traffic of one request and its answer, as pgjdbc and PostgreSQL send it.
var (
	costRequest = clientMsgs("P /SELECT a, b, c FROM t WHERE id = $1|B /|D|E|S")
	costNamed   = clientMsgs("B /S_1|E|S")
	costQuery   = clientMsgs("Q SELECT a, b, c FROM t WHERE id = 1")
	costCommit  = clientMsgs("Q COMMIT")
	costCopy    = clientMsgs("Q COPY t FROM STDIN|d row|d row|d row|c")
	costAnswer  = costServer("12T", "DDDDDDDDDD", "CZ")
	costCopied  = costServer("G", "C", "Z")
)

func costServer(parts ...string) []byte {
	var b []byte
	for _, part := range parts {
		for i := range part {
			switch part[i] {
			case 'Z':
				b = append(b, msg('Z', "I")...)
			case 'D':
				b = append(b, msg('D', string(bytes.Repeat([]byte{'x'}, 80)))...)
			default:
				b = append(b, serverMsg(part[i:i+1])...)
			}
		}
	}
	return b
}

func TestNothingIsAllocatedPerMessage(t *testing.T) {
	tr := started()
	tr.Client(clientMsgs("P S_1/COMMIT|S")) // allocates the table of names, once
	tr.Server(costServer("1", "Z"))
	for _, c := range []struct {
		name            string
		request, answer []byte
	}{
		{"extended", costRequest, costAnswer},
		{"named", costNamed, costAnswer},
		{"simple", costQuery, costAnswer},
		{"commit", costCommit, costAnswer},
		{"copy in", costCopy, costCopied},
	} {
		if n := testing.AllocsPerRun(200, func() {
			tr.Client(c.request)
			tr.Server(c.answer)
			if !tr.Idle() || tr.InDoubt() || tr.Broken() != nil {
				t.Fatalf("%s: %v", c.name, state(tr))
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
		if n := testing.AllocsPerRun(50, func() {
			for i := range c.request {
				tr.ClientBoundary(c.request[i:])
				tr.Client(c.request[i : i+1])
			}
			for i := range c.answer {
				tr.Server(c.answer[i : i+1])
			}
		}); n != 0 {
			t.Errorf("%s, byte by byte: %v allocations", c.name, n)
		}
	}
}

func benchmarkTraffic(b *testing.B, request, answer []byte, messages int) {
	tr := started()
	b.SetBytes(int64(len(request) + len(answer)))
	b.ReportAllocs()
	for b.Loop() {
		tr.Client(request)
		tr.Server(answer)
	}
	if !tr.Idle() {
		b.Fatal(state(tr))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(messages), "ns/message")
}

func BenchmarkTrackerExtended(b *testing.B) { benchmarkTraffic(b, costRequest, costAnswer, 5+15) }
func BenchmarkTrackerNamed(b *testing.B)    { benchmarkTraffic(b, costNamed, costAnswer, 3+15) }
func BenchmarkTrackerSimple(b *testing.B)   { benchmarkTraffic(b, costQuery, costAnswer, 1+15) }

func BenchmarkTrackerCopyIn(b *testing.B) {
	rows := bytes.Repeat(msg('d', string(bytes.Repeat([]byte{'x'}, 100))), 80)
	tr := started()
	tr.Client(clientMsgs("Q COPY t FROM STDIN"))
	tr.Server(costServer("G"))
	b.SetBytes(int64(len(rows)))
	for b.Loop() {
		tr.Client(rows)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/80, "ns/message")
}

// BenchmarkTrackerLongQuery is a text of 64 KiB that is searched for further statements.
func BenchmarkTrackerLongQuery(b *testing.B) {
	query := msg('Q', "INSERT INTO t VALUES ('"+string(bytes.Repeat([]byte{'x'}, 1<<16))+"')\x00")
	benchmarkTraffic(b, query, costServer("C", "Z"), 3)
}
