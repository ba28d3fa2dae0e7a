package health

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
)

func testCheckSwitchover(ctx context.Context, t *testing.T, l *lab.Lab) {
	a := l.Node(lab.RegionA)
	writer, to := labTarget(l, lab.RegionA), labTarget(l, lab.RegionB)
	must(t, l.Node(lab.RegionB).AwaitStreaming(ctx))
	ask := func() string {
		return strings.Join(lines(CheckSwitchover(ctx, writer, to, 7*time.Second, false)), "\n")
	}
	if got := ask(); !strings.Contains(got, "region-a warning: wal_keep_size is 0") {
		t.Errorf("of a node that keeps no log for pg_rewind: %s", got)
	}
	for _, not := range []string{"prepared", "logical", "archived", "has been open", "could not be"} {
		if got := ask(); strings.Contains(got, not) {
			t.Errorf("of a pair at rest: %s", got)
		}
	}
	conn := connectAs(ctx, t, a.AppDSN(), "batch")
	defer conn.Close(ctx)
	_, err := conn.Exec(ctx, "BEGIN; SELECT pg_sleep(5.1)")
	must(t, err)
	var pid uint32
	must(t, conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid))
	got := ask()
	want := `region-a warning: a transaction has been open for (\d+)s \(idle in transaction\): process \d+ of role "keycloak" in database "keycloak" from \S+ ` +
		`\(batch\); open transactions would have 7s to end`
	said := regexp.MustCompile(want).FindStringSubmatch(got)
	if said == nil {
		t.Fatalf("%q is not in\n%s", want, got)
	}
	if age, err := strconv.Atoi(said[1]); err != nil || age < 5 || age > 60 {
		t.Errorf("a transaction of 5.1 s, and of what the machine adds, is said to have been open for %ss", said[1])
	}
	super, err := pgx.Connect(ctx, a.SuperDSN("postgres"))
	must(t, err)
	if got := ask(); !strings.Contains(got, `region-a blocker: 1 session of a superuser is there ("postgres")`) {
		t.Errorf("beside a superuser: %s", got)
	}
	if got := Unfenceable(ctx, writer, false); !strings.HasPrefix(got, "1 session of a superuser is there") {
		t.Errorf("beside a superuser: %q", got)
	}
	if got := Unfenceable(ctx, writer, true); got != "" {
		t.Errorf("with a hook: %q", got)
	}
	must(t, super.Close(ctx))
	open, err := Operator{}.Transactions(ctx, writer)
	must(t, err)
	if age := open[pid]; age < 5*time.Second || age > time.Minute {
		t.Errorf("process %d has had its transaction for %s: %v", pid, age, open)
	}
	dead := writer
	dead.Address = "127.0.0.1:1"
	if got := strings.Join(lines(CheckSwitchover(ctx, dead, to, time.Second, false)), "\n"); !strings.Contains(got, "could not be asked for") {
		t.Errorf("of a writer that is not there: %s", got)
	}
}
