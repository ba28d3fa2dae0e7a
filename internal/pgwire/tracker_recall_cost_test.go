package pgwire

import (
	"runtime"
	"strconv"
	"testing"
)

// costStreams is steady traffic of one request and its answer.
var costStreams = []struct {
	name            string
	request, answer []byte
	messages        int
}{
	{"prepared", clientMsgs("B /S_1|D|E|S"), costServer("2T", "DDDDDDDDDD", "CZ"), 4 + 14},
	{"unnamed and many prepared", costRequest, costAnswer, 5 + 15},
	{"unnamed", costRequest, costAnswer, 5 + 15},
	{"simple", costQuery, costAnswer, 1 + 15},
	{"block", clientMsgs("P /BEGIN|B /|E|P /SELECT a FROM t WHERE id = $1|B /|D|E|S|P /COMMIT|B /|E|S"), blockAnswer(), 24},
	{"set", clientMsgs("P /SET application_name = 'x'|B /|E|S"), costServer("12CZ"), 8},
	{"set simple", clientMsgs("Q SET application_name = 'x'"), costServer("CZ"), 3},
	{"close", clientMsgs("C S_2|P S_2/SELECT 2|B /S_2|D|E|S"), costServer("31", "2T", "DCZ"), 12},
	{"fails", clientMsgs("P /SELECT 1/0|B /|D|E|S"), costServer("12T", "E", "Z"), 10},
	{"custom", clientMsgs("Q SELECT set_config('a.b', '1', false)"), costServer("TDCZ"), 5},
}

func blockAnswer() []byte {
	b := append(costServer("12C12T", "D", "C"), msg('Z', "T")...)
	return append(b, costServer("12C", "Z")...)
}

// steady is a session that has been set up.
func steady(name string, remember bool) *Tracker {
	tr := new(Tracker)
	if remember {
		tr.Remember(NewTexts())
	}
	tr.Start('I')
	for _, request := range []string{"P /SET extra_float_digits = 3|B /|E|S", "P S_1/SELECT a FROM t WHERE id = $1|P S_2/SELECT 2|S"} {
		tr.Client(clientMsgs(request))
		tr.Server(map[bool][]byte{true: costServer("12CZ"), false: costServer("11Z")}[request[2] == '/'])
	}
	for i := range map[string]int{"unnamed and many prepared": 256}[name] {
		prepare(tr, "S_"+strconv.Itoa(i+10), "SELECT "+strconv.Itoa(i))
	}
	return tr
}

func TestRememberingAllocatesNothingPerMessage(t *testing.T) {
	for _, c := range costStreams {
		tr := steady(c.name, true)
		if n := testing.AllocsPerRun(500, func() {
			tr.Client(c.request)
			tr.Server(c.answer)
			if !tr.Idle() || tr.Broken() != nil {
				t.Fatalf("%s: %v", c.name, state(tr))
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
		if n := testing.AllocsPerRun(100, func() {
			for i := range c.request {
				tr.Client(c.request[i : i+1])
			}
			for i := range c.answer {
				tr.Server(c.answer[i : i+1])
			}
		}); n != 0 {
			t.Errorf("%s, byte by byte: %v allocations", c.name, n)
		}
		if r := tr.Recall(); r.Unsure != (Unsure{}) {
			t.Errorf("%s: %s", c.name, r.told())
		}
	}
}

// TestAnIdleSessionIsRememberedInLittleRoom measures sessions that have prepared nothing, and such with 20 statements that others have too.
func TestAnIdleSessionIsRememberedInLittleRoom(t *testing.T) {
	for _, c := range []struct {
		statements, most int
	}{{0, 400}, {20, 1500}} {
		texts := NewTexts()
		trackers := make([]*Tracker, 2000)
		for i := range trackers {
			trackers[i] = new(Tracker)
		}
		before := heap()
		for _, tr := range trackers {
			tr.Remember(texts)
			tr.Start('I')
			for n := range c.statements {
				prepare(tr, "S_"+string(rune('a'+n)), "SELECT a, b, c, d, e, f FROM a_table_with_a_name WHERE id = "+string(rune('a'+n)))
			}
		}
		each := int(heap()-before) / len(trackers)
		t.Logf("%d statements: %d bytes a session", c.statements, each)
		if each > c.most {
			t.Errorf("%d statements: %d bytes a session", c.statements, each)
		}
		runtime.KeepAlive(trackers)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkRemember is each stream without and with.
func BenchmarkRemember(b *testing.B) {
	for _, c := range costStreams {
		for _, remember := range []bool{false, true} {
			b.Run(c.name+map[bool]string{false: "/without", true: "/with"}[remember], func(b *testing.B) {
				tr := steady(c.name, remember)
				b.ReportAllocs()
				for b.Loop() {
					tr.Client(c.request)
					tr.Server(c.answer)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(c.messages), "ns/message")
			})
		}
	}
}

// BenchmarkJudge is a text that nobody has sent before.
func BenchmarkJudge(b *testing.B) {
	for name, text := range map[string]string{
		"select": "select ue1_0.ID,ue1_0.CREATED_TIMESTAMP,ue1_0.EMAIL,ue1_0.EMAIL_CONSTRAINT,ue1_0.EMAIL_VERIFIED,ue1_0.ENABLED,ue1_0.USERNAME " +
			"from USER_ENTITY ue1_0 where ue1_0.REALM_ID=$1 and ue1_0.USERNAME=$2",
		"set": "SET application_name = 'x'",
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				judge(text)
			}
		})
	}
}
