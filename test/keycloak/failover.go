package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/pgtether/pgtether/internal/lab"
	"github.com/pgtether/pgtether/test/rig"
)

// How long the load runs before the primary is killed, and after it.
const beforeKill, afterKill = 10 * time.Second, 30 * time.Second

// failOver kills the primary under a real Keycloak and says what its users saw, and what of what was acknowledged to them holds no longer.
func failOver(ctx context.Context, s settings, synchronous bool) (err error) {
	kind := "asynchronous"
	if synchronous {
		kind = "synchronous"
	}
	fmt.Printf("\n%s replication\n", strings.ToUpper(kind[:1])+kind[1:])
	dir, err := os.MkdirTemp("", "pgtether-keycloak-")
	if err != nil {
		return fmt.Errorf("make working directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	began := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("%6.1fs  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	pair, err := lab.Start(ctx, lab.Options{Synchronous: synchronous})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pair.Close()) }()
	proxy, err := rig.Start(ctx, pair, rig.Options{Binary: s.binary, Dir: filepath.Join(dir, "pgtether"), Mode: "auto"})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, proxy.Stop()) }()
	if _, err := proxy.Await(ctx, "the pair is ready", func(s rig.Status) bool { return s.State == "STANDBY_READY" }); err != nil {
		return err
	}
	db := database{url: jdbcURL(proxy.Listen, pair.AppDatabase), user: pair.AppUser, password: pair.AppPassword}
	server, err := boot(ctx, s.home, filepath.Join(dir, "keycloak.log"), db)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	say("Keycloak is ready through pgtether, which promotes by itself")
	people, err := settle(ctx, server.base, s.users)
	if err != nil {
		return err
	}
	if err := countRelaxed(ctx, proxy, server.base, people, say); err != nil {
		return err
	}

	crowd := startLoad(ctx, server.base, realm, people)
	pause(ctx, beforeKill)
	if err := pair.Node(lab.RegionA).Kill9(); err != nil {
		crowd.end()
		return err
	}
	killed := time.Now()
	say("kill -9 of the primary under %d users who log in, refresh, log out and change passwords", len(people))
	pause(ctx, afterKill)
	results := crowd.end()
	status, err := proxy.Await(ctx, "another node is the writer", func(s rig.Status) bool { return s.Writes == "open" && s.LastChange != nil })
	if err != nil {
		return err
	}
	tell(results, killed, say)

	// A fresh Keycloak: nothing that it says now comes out of a cache that outlived the change.
	fresh, err := server.again(ctx, filepath.Join(dir, "keycloak-again.log"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fresh.stop()) }()
	return judge(ctx, fresh.base, people, status.LastChange, synchronous, say)
}

// realm is where the users live.
const realm = "demo"

// settle makes the realm, the client and the users.
func settle(ctx context.Context, base string, users int) ([]*person, error) {
	boss, err := newAdmin(ctx, base)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(boss.createRealm(ctx, realm), boss.createClient(ctx, realm, "app")); err != nil {
		return nil, err
	}
	var people []*person
	for i := range users {
		p := &person{name: userName(i), password: userPassword}
		if err := boss.createUser(ctx, realm, p.name); err != nil {
			return nil, err
		}
		if p.id, err = boss.userID(ctx, realm, p.name); err != nil {
			return nil, err
		}
		people = append(people, p)
	}
	return people, nil
}

// tell says what the users saw.
func tell(results []result, killed time.Time, say func(string, ...any)) {
	sort.Slice(results, func(i, k int) bool { return results[i].ended.Before(results[k].ended) })
	failed := map[string]int{}
	failures := 0
	var stall time.Duration
	var first time.Time
	last := killed
	for _, r := range results {
		if !r.ok() {
			failures++
			failed[fmt.Sprintf("%s %d", r.what, r.status)]++
			continue
		}
		if r.ended.After(killed) {
			stall = max(stall, r.ended.Sub(last))
			last = r.ended
		}
		if first.IsZero() && r.began.After(killed) {
			first = r.ended
		}
	}
	var kinds []string
	for what, n := range failed {
		kinds = append(kinds, fmt.Sprintf("%s: %d", what, n))
	}
	slices.Sort(kinds)
	say("%d requests, %d failed (%s)", len(results), failures, strings.Join(kinds, ", "))
	say("longest time without a success %.2f s; the first request that was sent after the kill and succeeded did so %.2f s after it", stall.Seconds(),
		first.Sub(killed).Seconds())
}

// judge looks whether what was acknowledged still holds.
func judge(ctx context.Context, base string, people []*person, change *rig.Change, synchronous bool, say func(string, ...any)) error {
	l := &load{base: base, realm: realm}
	logouts, revived, passwords, forgotten := 0, 0, 0, 0
	for _, p := range people {
		for _, token := range p.loggedOut {
			logouts++
			if r := l.post(p, "refresh", endpoint(base, realm, "token"), map[string][]string{"grant_type": {"refresh_token"}, "refresh_token": {token}}); r.ok() {
				revived++
			}
		}
		if p.uncertain != "" {
			continue // its last change was never answered: the old password or the new one, either is right
		}
		passwords += len(p.before)
		works := func(password string) bool {
			_, ok := l.ask(p, "login", map[string][]string{"grant_type": {"password"}, "username": {p.name}, "password": {password}})
			return ok
		}
		if !works(p.password) || slices.ContainsFunc(p.before, works) {
			forgotten++
		}
	}
	bound := "unknown"
	if change.DataLossBytes != nil {
		bound = fmt.Sprint(*change.DataLossBytes)
	}
	say("stated loss: %s, at most %s bytes; of %d acknowledged logouts %d no longer hold, of %d acknowledged password changes %d", change.Lossless, bound,
		logouts, revived, passwords, forgotten)
	switch lost := revived + forgotten; {
	case logouts == 0 || passwords == 0:
		return errors.New("the load did not log out or change a password: nothing was tried")
	case lost > 0 && synchronous:
		return fmt.Errorf("%d acknowledged logouts or password changes are lost although replication is synchronous", lost)
	case lost > 0 && change.DataLossBytes != nil && *change.DataLossBytes == 0:
		return fmt.Errorf("%d acknowledged logouts or password changes are lost, and no loss was stated", lost)
	}
	return nil
}

// countRelaxed says how many commits of logins, refreshes and logouts asked for less than the server's own durability.
func countRelaxed(ctx context.Context, proxy *rig.Proxy, base string, people []*person, say func(string, ...any)) error {
	l := &load{base: base, realm: realm}
	const rounds = 10
	counted := map[string]float64{}
	during := func(what string, do func()) error {
		before, err := proxy.Counter(ctx, "pgtether_relaxed_commits_total")
		if err != nil {
			return err
		}
		do()
		after, err := proxy.Counter(ctx, "pgtether_relaxed_commits_total")
		counted[what] = after - before
		return err
	}
	held := make([]tokens, rounds)
	p := people[0]
	err := errors.Join(
		during("logins", func() {
			for i := range held {
				held[i], _ = l.ask(p, "login", map[string][]string{"grant_type": {"password"}, "username": {p.name}, "password": {p.password}})
			}
		}),
		during("refreshes", func() {
			pause(ctx, 2*time.Second) // a refresh within the second of its login has nothing to write
			for i := range held {
				held[i], _ = l.ask(p, "refresh", map[string][]string{"grant_type": {"refresh_token"}, "refresh_token": {held[i].RefreshToken}})
			}
		}),
		during("logouts", func() {
			for i := range held {
				l.post(p, "logout", endpoint(base, realm, "logout"), map[string][]string{"refresh_token": {held[i].RefreshToken}})
			}
		}))
	if err != nil {
		return err
	}
	for _, r := range l.results {
		if !r.ok() {
			return fmt.Errorf("%s before the failover: status %d", r.what, r.status)
		}
	}
	say("relaxed commits (SET LOCAL synchronous_commit TO OFF) that pgtether counted: %d logins %.0f, %d refreshes %.0f, %d logouts %.0f", rounds,
		counted["logins"], rounds, counted["refreshes"], rounds, counted["logouts"])
	if counted["logins"] < rounds || counted["refreshes"] < rounds || counted["logouts"] != 0 {
		return errors.New("relaxed commits: those of logins and refreshes were expected to be counted, and none of logouts")
	}
	return nil
}
