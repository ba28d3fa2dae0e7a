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
	costRelaxed = clientMsgs("P /SET LOCAL synchronous_commit TO OFF|B /|E|S|Q COMMIT")
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
	tr.Client(clientMsgs("P S_1/COMMIT|P S_2/SET LOCAL synchronous_commit TO OFF|S")) // allocates the table of names, once
	tr.Server(costServer("1", "1", "Z"))
	for _, c := range []struct {
		name            string
		request, answer []byte
	}{
		{"extended", costRequest, costAnswer},
		{"named", costNamed, costAnswer},
		{"simple", costQuery, costAnswer},
		{"commit", costCommit, costAnswer},
		{"copy in", costCopy, costCopied},
		{"a relaxed commit", costRelaxed, costServer("12CZ", "CZ")},
		{"relaxed by name", clientMsgs("B /S_2|E|S|Q COMMIT"), costServer("2CZ", "CZ")},
		{"a marked session", clientMsgs("Q SET synchronous_commit = off"), costServer("CZ")},
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

// BenchmarkTrackerLogin is the end of a transaction that relaxes its commit.
func BenchmarkTrackerLogin(b *testing.B) {
	benchmarkTraffic(b, costRelaxed, costServer("12CZ", "CZ"), 5+6)
}

// BenchmarkTrackerEntity is a statement of a length and with names as an object-relational mapper writes them.
func BenchmarkTrackerEntity(b *testing.B) {
	benchmarkTraffic(b, clientMsgs("P /select ue1_0.ID,ue1_0.CREATED_TIMESTAMP,ue1_0.EMAIL,ue1_0.EMAIL_CONSTRAINT,ue1_0.EMAIL_VERIFIED,ue1_0.ENABLED,"+
		"ue1_0.FEDERATION_LINK,ue1_0.FIRST_NAME,ue1_0.LAST_NAME,ue1_0.NOT_BEFORE,ue1_0.REALM_ID,ue1_0.SERVICE_ACCOUNT_CLIENT_LINK,ue1_0.USERNAME "+
		"from USER_ENTITY ue1_0 where ue1_0.REALM_ID=$1 and ue1_0.USERNAME=$2 and ue1_0.TYPE=$3 order by ue1_0.KEY|B /|D|E|S"), costAnswer, 5+15)
}

// BenchmarkTrackerLongQuery is a text of 64 KiB that is searched for further statements.
func BenchmarkTrackerLongQuery(b *testing.B) {
	query := msg('Q', "INSERT INTO t VALUES ('"+string(bytes.Repeat([]byte{'x'}, 1<<16))+"')\x00")
	benchmarkTraffic(b, query, costServer("C", "Z"), 3)
}
