//go:build linux

package lab_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"go.uber.org/goleak"
)

// victimVariable makes the test binary a lab to be killed; see TestKilledProgramLeavesNothing.
const victimVariable = "PGTETHER_LAB_TEST_VICTIM"

func TestMain(m *testing.M) {
	if how := os.Getenv(victimVariable); how != "" {
		beVictim(how)
	}
	goleak.VerifyTestMain(m)
}

// beVictim starts a lab, says where it is and waits to be killed.
func beVictim(how string) {
	l, err := lab.Start(context.Background(), lab.Options{Single: true})
	if err == nil && how == "frozen" {
		err = l.Node(lab.RegionA).FreezeAll()
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Println(l.Dir())
	time.Sleep(time.Hour)
}

// limit bounds one test; it ends hangs and asserts nothing.
const limit = 3 * time.Minute

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func start(t *testing.T, opts lab.Options) (context.Context, *lab.Lab) {
	t.Helper()
	ctx := within(t)
	l, err := lab.Start(ctx, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, l)
		}
		must(t, l.Close())
	})
	return ctx, l
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func ask(t *testing.T, ctx context.Context, n *lab.Node, sql string) string {
	t.Helper()
	text, err := n.QueryText(ctx, "postgres", sql)
	must(t, err)
	return text
}

func want(t *testing.T, what, got, expected string) {
	t.Helper()
	if got != expected {
		t.Errorf("%s is %q, want %q", what, got, expected)
	}
}

// showLogs prints the end of the servers' logs.
func showLogs(t *testing.T, l *lab.Lab) {
	t.Helper()
	for _, n := range l.Nodes() {
		content, err := os.ReadFile(n.LogFile())
		if err != nil {
			continue
		}
		lines := strings.Split(string(content), "\n")
		t.Logf("log of %s:\n%s", n.Name(), strings.Join(lines[max(0, len(lines)-60):], "\n"))
	}
}
