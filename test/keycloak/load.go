package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// result is one request of the load.
type result struct {
	began, ended time.Time
	what         string
	status       int // 0 when there was no answer
	// said is what a request that failed was told, or why there was no answer.
	said string
}

// ok says whether Keycloak answered as it does when its database is well.
func (r result) ok() bool {
	return r.status == http.StatusOK || r.status == http.StatusNoContent || r.status == http.StatusCreated
}

// person is one user of the load. Only its own goroutine uses it until the load has ended.
type person struct {
	name, id string
	// password is the last one whose change was acknowledged, before the ones that were replaced by acknowledged changes. uncertain is one
	// whose change was not answered as done: it may hold or not.
	password  string
	before    []string
	uncertain string
	// loggedOut are refresh tokens whose logout was acknowledged.
	loggedOut []string
	changes   int
}

// load is a crowd that logs in, refreshes, logs out and changes passwords, each person one request after the other.
type load struct {
	base, realm string
	people      []*person
	wg          sync.WaitGroup
	stop        context.CancelFunc

	mu      sync.Mutex
	results []result
	// pending are the beginnings of the requests that have not ended.
	pending map[int]time.Time
	asked   int
}

// startLoad begins; end stops it and waits.
func startLoad(ctx context.Context, base, realm string, people []*person) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{base: base, realm: realm, people: people, stop: stop}
	for _, p := range people {
		l.wg.Go(func() { l.live(ctx, p) })
	}
	return l
}

func (l *load) end() []result {
	l.stop()
	l.wg.Wait()
	return l.results
}

// live is one person's days, until the load ends. What was sent is finished, so that its outcome is known.
func (l *load) live(ctx context.Context, p *person) {
	boss := &admin{base: l.base}
	for day := 0; ctx.Err() == nil; day++ {
		t, ok := l.ask(p, "login", url.Values{"grant_type": {"password"}, "username": {p.name}, "password": {p.password}})
		if !ok && p.uncertain != "" { // the change that was not answered may have been made
			if t, ok = l.ask(p, "login", url.Values{"grant_type": {"password"}, "username": {p.name}, "password": {p.uncertain}}); ok {
				p.before, p.password, p.uncertain = append(p.before, p.password), p.uncertain, ""
			}
		}
		if !ok {
			pause(ctx, 100*time.Millisecond)
			continue
		}
		if newer, ok := l.ask(p, "refresh", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {t.RefreshToken}}); ok {
			t = newer
		}
		if day%3 == 2 {
			l.changePassword(boss, p)
		}
		if l.post(p, "logout", endpoint(l.base, l.realm, "logout"), url.Values{"refresh_token": {t.RefreshToken}}).ok() {
			p.loggedOut = append(p.loggedOut, t.RefreshToken)
		}
		pause(ctx, 50*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// ask asks the token endpoint.
func (l *load) ask(p *person, what string, form url.Values) (t tokens, ok bool) {
	var answer string
	r := l.record(what, func(ctx context.Context) (status int, _ string, err error) {
		form.Set("client_id", "app")
		status, answer, err = send(ctx, endpoint(l.base, l.realm, "token"), formType, "", []byte(form.Encode()))
		return status, answer, err
	})
	if !r.ok() || json.Unmarshal([]byte(answer), &t) != nil {
		return tokens{}, false
	}
	return t, true
}

func (l *load) post(p *person, what, address string, form url.Values) result {
	return l.record(what, func(ctx context.Context) (int, string, error) {
		form.Set("client_id", "app")
		return send(ctx, address, formType, "", []byte(form.Encode()))
	})
}

// changePassword gives the person another password; until it is acknowledged it is uncertain which one holds.
func (l *load) changePassword(boss *admin, p *person) {
	p.changes++
	next := fmt.Sprintf("%s %d", userPassword, p.changes)
	r := l.record("password", func(ctx context.Context) (int, string, error) {
		if err := boss.authenticate(ctx); err != nil {
			return 0, "", err
		}
		p.uncertain = next
		return boss.setPassword(ctx, l.realm, p.id, next)
	})
	if r.ok() {
		p.before, p.password, p.uncertain = append(p.before, p.password), next, ""
	}
}

// record makes one request, whatever becomes of the load meanwhile, and keeps its outcome.
func (l *load) record(what string, do func(context.Context) (status int, answer string, err error)) result {
	r := result{began: time.Now(), what: what}
	l.mu.Lock()
	if l.pending == nil {
		l.pending = map[int]time.Time{}
	}
	l.asked++
	ticket := l.asked
	l.pending[ticket] = r.began
	l.mu.Unlock()
	status, answer, err := do(context.Background())
	r.ended, r.said = time.Now(), answer
	if r.status = status; err != nil {
		r.status, r.said = 0, err.Error()
	}
	if r.ok() {
		r.said = ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.pending, ticket)
	l.results = append(l.results, r)
	return r
}

// setPassword is what an administrator does for a user.
func (a *admin) setPassword(ctx context.Context, realm, id, password string) (status int, answer string, err error) {
	body, err := json.Marshal(map[string]any{"type": "password", "value": password, "temporary": false})
	if err != nil {
		return 0, "", fmt.Errorf("encode password: %w", err)
	}
	return a.request(ctx, http.MethodPut, "/admin/realms/"+realm+"/users/"+id+"/reset-password", body)
}

// userID looks a user up.
func (a *admin) userID(ctx context.Context, realm, name string) (string, error) {
	if err := a.authenticate(ctx); err != nil {
		return "", err
	}
	_, answer, err := a.request(ctx, http.MethodGet, "/admin/realms/"+realm+"/users?exact=true&username="+url.QueryEscape(name), nil)
	if err != nil {
		return "", err
	}
	var found []struct{ ID string }
	if err := json.Unmarshal([]byte(answer), &found); err != nil || len(found) != 1 {
		return "", fmt.Errorf("look up user %s: %d found: %w", name, len(found), err)
	}
	return found[0].ID, nil
}

// request is one request of the admin interface.
func (a *admin) request(ctx context.Context, method, path string, body []byte) (status int, answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestPatience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, "", fmt.Errorf("prepare %s %s: %w", method, path, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+a.token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("send %s %s: %w", method, path, err)
	}
	defer res.Body.Close()
	content, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
	if err != nil {
		return 0, "", fmt.Errorf("read answer of %s: %w", path, err)
	}
	return res.StatusCode, string(content), nil
}
