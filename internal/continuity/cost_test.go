package continuity

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// cpu is the processor time of a backend so far.
func cpu(t testing.TB, pid uint32) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(int(pid)) + "/schedstat")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.Fields(string(b))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n)
}

// TestTheCostOfAMove: a thousand sessions are asked within seconds, so one may cost the server some milliseconds and no more.
func TestTheCostOfAMove(t *testing.T) {
	const most = 10 * time.Millisecond
	l := startServer(t)
	least := time.Hour
	for round := range 5 {
		c := connect(t, l, "app", "TimeZone=Europe/Berlin")
		c.run(t, "SELECT count(*) FROM t", "SET application_name = 'cost'", "BEGIN; UPDATE t SET v = v; ROLLBACK")
		for i := range 20 {
			name := fmt.Sprintf("S_%d", i)
			request := appendSync(appendRun(appendParse(nil, name, fmt.Sprintf("SELECT id, v FROM t WHERE id = $1 AND v <> '%d'", i), nil), name, "1"))
			if _, err := c.send(request, 1); err != nil {
				t.Fatal(err)
			}
		}
		var state *State
		for n := range 3 {
			before, began := cpu(t, c.pid), time.Now()
			s, o, err := c.take(t, Known{})
			if o != "" || err != nil {
				t.Fatalf("obstacle %q, %v", o, err)
			}
			spent := cpu(t, c.pid) - before
			t.Logf("round %d, take %d: %v wall, %v server CPU", round, n, time.Since(began), spent)
			if n == 0 {
				least = min(least, spent)
			}
			state = s
		}
		fresh := connect(t, l, "app", "TimeZone=Europe/Berlin")
		before, began := cpu(t, fresh.pid), time.Now()
		if _, err := state.Replay(fresh.conn, fresh.told); err != nil {
			t.Fatal(err)
		}
		t.Logf("round %d, replay: %v wall, %v server CPU", round, time.Since(began), cpu(t, fresh.pid)-before)
	}
	if least > most {
		t.Errorf("the first question to a session costs the server %v or more; want at most %v", least, most)
	}
}
