package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"
)

// How much traffic there is: requests each second, and the visitors who make them, each one request after the other. While nothing is answered,
// three seconds of requests can be under way.
const trafficRate, visitors = 40, 120

// visitor is one user who logs in, looks around and logs out. One request of it is under way at a time.
type visitor struct {
	name string
	t    tokens
	step int
}

// traffic is a load whose requests are due at a fixed rate, whether the earlier ones have been answered or not: a stall is met by everybody who
// comes meanwhile.
type traffic struct {
	load
	free []*visitor

	bossMu sync.Mutex
	boss   admin

	// unsent are the requests that were due while every visitor waited for an answer.
	unsent int
}

// startTraffic begins; end stops it and waits.
func startTraffic(ctx context.Context, base string, names []string) *traffic {
	ctx, stop := context.WithCancel(ctx)
	f := &traffic{load: load{base: base, realm: realm, stop: stop}, boss: admin{base: base}}
	for _, name := range names {
		f.free = append(f.free, &visitor{name: name})
	}
	f.wg.Go(func() { f.flow(ctx) })
	return f
}

func (f *traffic) flow(ctx context.Context) {
	due := time.NewTicker(time.Second / trafficRate)
	defer due.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
		}
		v := f.pick()
		if v == nil {
			continue
		}
		f.wg.Go(func() {
			f.next(v)
			f.mu.Lock()
			defer f.mu.Unlock()
			f.free = append(f.free, v)
		})
	}
}

// pick takes any of the visitors who have nothing under way, so that all kinds of request are mixed; nil when there is none.
func (f *traffic) pick() *visitor {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(f.free)
	if n == 0 {
		f.unsent++
		return nil
	}
	i := rand.IntN(n)
	v := f.free[i]
	f.free[i] = f.free[n-1]
	f.free = f.free[:n-1]
	return v
}

// next is the visitor's next request. After one that failed it logs in again.
func (f *traffic) next(v *visitor) {
	ok := true
	switch v.step {
	case 0:
		v.t, ok = f.ask(nil, "login", url.Values{"grant_type": {"password"}, "scope": {"openid"}, "username": {v.name}, "password": {userPassword}})
	case 1, 4:
		ok = f.look("userinfo", endpoint(f.base, f.realm, "userinfo"), func(context.Context) (string, error) { return v.t.AccessToken, nil }).ok()
	case 2, 5:
		var newer tokens
		if newer, ok = f.ask(nil, "refresh", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {v.t.RefreshToken}}); ok {
			v.t = newer
		}
	case 3:
		ok = f.look("admin read", f.base+"/admin/realms/"+f.realm+"/users?exact=true&username="+url.QueryEscape(v.name), f.bossToken).ok()
	default:
		ok = f.post(nil, "logout", endpoint(f.base, f.realm, "logout"), url.Values{"refresh_token": {v.t.RefreshToken}}).ok()
	}
	if v.step = (v.step + 1) % 7; !ok {
		v.step = 0
	}
}

// look reads a page with the token that is to be shown there.
func (f *traffic) look(what, address string, token func(context.Context) (string, error)) result {
	return f.record(what, func(ctx context.Context) (int, string, error) {
		t, err := token(ctx)
		if err != nil {
			return 0, "", err
		}
		boss := admin{base: address, token: t}
		return boss.request(ctx, http.MethodGet, "", nil)
	})
}

// bossToken is the administrator's token, renewed in time by whoever needs it.
func (f *traffic) bossToken(ctx context.Context) (string, error) {
	f.bossMu.Lock()
	defer f.bossMu.Unlock()
	if err := f.boss.authenticate(ctx); err != nil {
		return "", err
	}
	return f.boss.token, nil
}

// since are the outcomes of the requests that ended after a time, in the order of their ends.
func (l *load) since(t time.Time) []result {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []result
	for _, r := range l.results {
		if r.ended.After(t) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b result) int { return a.ended.Compare(b.ended) })
	return found
}

// answered waits until every request that was sent before a time has ended.
func (l *load) answered(ctx context.Context, before time.Time) error {
	for {
		waiting := 0
		l.mu.Lock()
		for _, began := range l.pending {
			if began.Before(before) {
				waiting++
			}
		}
		l.mu.Unlock()
		if waiting == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the answers to %d requests: %w", waiting, context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stall is what a change looked like from outside.
type stall struct {
	// silence is the longest time within which no request was completed.
	silence time.Duration
	// slowest is the request that took longest of those under way in it.
	slowest result
}

// stallWithin looks at the requests that were under way between two times; results are in the order of their ends.
func stallWithin(results []result, from, to time.Time) (s stall) {
	last := from
	for _, r := range results {
		if r.ended.Before(from) || r.began.After(to) {
			continue
		}
		if r.ended.Sub(r.began) > s.slowest.ended.Sub(s.slowest.began) {
			s.slowest = r
		}
		if r.ok() && last.Before(to) {
			s.silence = max(s.silence, r.ended.Sub(last))
			last = r.ended
		}
	}
	if last.Before(to) {
		s.silence = max(s.silence, to.Sub(last))
	}
	return s
}

// longest is the greater of the two.
func (s stall) longest() time.Duration { return max(s.silence, s.slowest.ended.Sub(s.slowest.began)) }

func (s stall) String() string {
	return fmt.Sprintf("longest time without a completed request %d ms, slowest request %d ms (%s)", s.silence.Milliseconds(),
		s.slowest.ended.Sub(s.slowest.began).Milliseconds(), s.slowest.what)
}
