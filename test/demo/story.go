package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// story is the demo under way.
type story struct {
	settings
	pair  *lab.Lab
	proxy *rig.Proxy
	work  *workload
	began time.Time

	stopped, promoted time.Time // when the primary was told to stop, and when the standby was told to lead
}

// tell plays the four acts and prints the balance.
func tell(ctx context.Context, s settings, pair *lab.Lab, proxy *rig.Proxy) (err error) {
	st := &story{settings: s, pair: pair, proxy: proxy, work: &workload{dsn: pair.AppDSNAt(proxy.Listen)}, began: time.Now()}
	if err := st.createTable(ctx); err != nil {
		return err
	}
	workCtx, endWork := context.WithCancel(ctx)
	workEnded := make(chan struct{}) // closed when every worker has returned
	go func() {
		defer close(workEnded)
		st.work.run(workCtx, s.workers)
	}()
	for _, act := range []func(context.Context) error{st.steady, st.primaryStops, st.standbyIsPromoted, st.oldPrimaryReturns} {
		if err = act(ctx); err != nil {
			break
		}
	}
	endWork()
	<-workEnded
	if err != nil {
		return err
	}
	return st.balance(ctx)
}

// say prints a line of the story with its time.
func (st *story) say(format string, args ...any) {
	fmt.Printf("%6.1fs  %s\n", time.Since(st.began).Seconds(), fmt.Sprintf(format, args...))
}

func (st *story) createTable(ctx context.Context) error {
	c, err := pgx.Connect(ctx, st.work.dsn)
	if err != nil {
		return fmt.Errorf("log in through the proxy: %w", err)
	}
	defer closeConn(c)
	if _, err := c.Exec(ctx, "CREATE TABLE login_event (id bigint PRIMARY KEY, user_name text NOT NULL, at timestamptz NOT NULL DEFAULT now())"); err != nil {
		return fmt.Errorf("create table: %w", err)
	}
	return nil
}

// steady: every connection of the pool is pinned to the writer.
func (st *story) steady(ctx context.Context) error {
	fmt.Println("1. A quiet day")
	began := time.Now()
	s, err := st.await(ctx, "every connection is pinned and the standby could take over", func(s rig.Status) bool {
		return s.Sessions.Open == st.workers && s.State == "STANDBY_READY" && time.Since(began) > st.pause
	})
	if err != nil {
		return err
	}
	v := st.work.view()
	st.say("%d connections of the application are pinned to %s, the writer of epoch %s (%s).", s.Sessions.Open, text(s.Writer), text(s.Epoch), s.State)
	st.say("%d transactions acknowledged, median %.1f ms; %d errors.", len(v.commits), median(v.commits).Seconds()*1e3, len(v.errors))
	return ctx.Err()
}

// primaryStops: sessions end as the server says, new logins wait.
func (st *story) primaryStops(ctx context.Context) error {
	fmt.Println("\n2. The primary is stopped; nobody has told pgtether anything")
	st.stopped = time.Now()
	if err := st.pair.Node(lab.RegionA).Stop(ctx, lab.Fast); err != nil {
		return err
	}
	st.say("%s is down after %.1f s. Its sessions ended with errors on which a pool drops a connection (class 08, 57P01).", lab.RegionA,
		time.Since(st.stopped).Seconds())
	s, err := st.await(ctx, "the clients are held", func(s rig.Status) bool { return s.Sessions.Held == st.workers })
	if err != nil {
		return err
	}
	pause(ctx, st.pause)
	st.say("%s%s: the pool logged in again and %d clients are held. They wait; no one is refused, and no one", s.State, slash(s.Step), s.Sessions.Held)
	st.say("is sent to the standby, which would answer \"cannot execute INSERT in a read-only transaction\".")
	return ctx.Err()
}

// standbyIsPromoted: the proxy follows, and the held clients go on.
func (st *story) standbyIsPromoted(ctx context.Context) error {
	fmt.Println("\n3. The standby is promoted by hand")
	st.promoted = time.Now()
	if err := st.pair.Node(lab.RegionB).Promote(ctx); err != nil {
		return err
	}
	led := time.Since(st.promoted)
	s, err := st.await(ctx, "every client is served by the new writer", func(s rig.Status) bool {
		return s.Writer != nil && *s.Writer == lab.RegionB && s.Sessions.Held == 0 && len(since(st.work.view().logins, st.promoted)) >= st.workers
	})
	if err != nil {
		return err
	}
	logins := since(st.work.view().logins, st.promoted)
	st.say("%s left recovery %.2f s after the command. pgtether proved it on the node itself and opened epoch %s.", lab.RegionB, led.Seconds(), text(s.Epoch))
	st.say("The first held client was served %.2f s after the command, the last one of %d after %.2f s.", logins[0].at.Sub(st.promoted).Seconds(),
		len(logins), logins[len(logins)-1].at.Sub(st.promoted).Seconds())
	pause(ctx, st.pause)
	return ctx.Err()
}

// oldPrimaryReturns: the moment in which split brain is born, without a fence.
func (st *story) oldPrimaryReturns(ctx context.Context) error {
	fmt.Println("\n4. The old primary is started again. It was never told, and believes it still leads")
	if err := st.pair.Node(lab.RegionA).Start(ctx); err != nil {
		return err
	}
	started := time.Now()
	alone, err := st.pair.Node(lab.RegionA).QueryText(ctx, "postgres", "SELECT NOT pg_is_in_recovery()")
	if err != nil {
		return err
	}
	if alone != "t" {
		return errors.New("the old primary came back in recovery; this story needs it as a primary")
	}
	s, err := st.await(ctx, "the old primary is quarantined", func(s rig.Status) bool { return s.Quarantine(lab.RegionA) != "" })
	if err != nil {
		return err
	}
	st.say("Two servers now accept writes. pgtether keeps %s and quarantined %s within %.1f s:", text(s.Writer), lab.RegionA, time.Since(started).Seconds())
	st.say("\"%s\"", s.Quarantine(lab.RegionA))
	pause(ctx, st.pause)
	return ctx.Err()
}

// await polls the proxy's status; the bound ends a hang and measures nothing.
func (st *story) await(ctx context.Context, what string, holds func(rig.Status) bool) (rig.Status, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, 90*time.Second, errors.New("not seen within 90 s"))
	defer cancel()
	return st.proxy.Await(ctx, what, holds)
}

// balance compares what the application was told with what both servers hold.
func (st *story) balance(ctx context.Context) error {
	v := st.work.view()
	a, err := rowsOf(ctx, st.pair.Node(lab.RegionA))
	if err != nil {
		return err
	}
	b, err := rowsOf(ctx, st.pair.Node(lab.RegionB))
	if err != nil {
		return err
	}
	r := compare(v, a, b)
	fmt.Println("\nWhat it cost")
	fmt.Printf("  %6d transactions acknowledged, %d of them by the new writer\n", len(v.acked), len(since(v.commits, st.promoted)))
	fmt.Printf("  %6d acknowledged transactions missing on the new writer\n", len(r.missing))
	fmt.Printf("  %6d rows on the old primary that the new writer does not have\n", len(r.onlyOld))
	fmt.Printf("  %6d commits in doubt (sent, not answered), %d of them are there\n", len(v.doubt), r.doubtKept)
	fmt.Printf("  %6d errors seen by the application%s\n", len(v.errors), kinds(v.errors))
	fmt.Printf("  %5.1fs longest wait of a client for its connection, %.1fs of it because the story waited\n", longest(v.logins).Seconds(), st.pause.Seconds())
	if err := r.verdict(v); err != nil {
		return err
	}
	fmt.Println("\nNothing acknowledged was lost and no row was accepted by two writers. `make lab` keeps the pair up for you.")
	return nil
}

// kinds lists errors by what the client was told, " (8 x 57P01 during transaction)".
func kinds(errs []failure) string {
	counts := map[string]int{}
	for _, e := range errs {
		counts[e.sqlState+" during "+e.during]++
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d x %s", counts[k], k))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// text is a nullable value for people.
func text[T any](v *T) string {
	if v == nil {
		return "none"
	}
	return fmt.Sprint(*v)
}

func slash(step string) string {
	if step == "" {
		return ""
	}
	return "/" + step
}
