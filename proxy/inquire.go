package proxy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// questionsAtOnce bounds the questions to the source: each may be a connection to the writer.
	questionsAtOnce = 4
	// questionTimeout bounds one question.
	questionTimeout = 5 * time.Second
	// storedKept is how long the stored password of a role is kept after its last session, so that a client which connects for every request does
	// not make the proxy do so too. The keys are gone by then.
	storedKept = time.Minute
	// What passes at least between two questions about one role: after an answer that did not fit, after none, and after an error, at first and at most.
	pauseMisfit   = time.Second
	pauseNone     = 10 * time.Second
	pauseError    = time.Second
	pauseErrorMax = 30 * time.Second
)

// want sees to it that the role is asked about.
func (c *credentials) want(r *roleSecrets) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.wanted = true
	if !r.asking {
		r.asking = true
		c.goes.Go(func() { c.inquire(r) })
	}
}

// inquire asks about the role until the answer is enough. One goroutine of a role's runs it.
func (c *credentials) inquire(r *roleSecrets) {
	pause := pauseError
	for {
		at, wanted := c.nextQuestion(r)
		if !wanted {
			return
		}
		select {
		case <-time.After(time.Until(at)):
		case <-c.ctx.Done():
			return
		}
		if err := c.askInTurn(c.ctx, r); err != nil {
			c.postpone(r, pause)
			pause = min(2*pause, pauseErrorMax)
		}
	}
}

// nextQuestion says when to ask, if there is still somebody who waits for the answer; else the goroutine has to end.
func (c *credentials) nextQuestion(r *roleSecrets) (at time.Time, wanted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	waits := slices.ContainsFunc(r.entries, func(k *credential) bool { return k.awaits != nil })
	r.asking = r.wanted && waits
	r.wanted = false
	return r.notBefore, r.asking
}

// postpone asks again after an error.
func (c *credentials) postpone(r *roleSecrets, pause time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.wanted, r.notBefore = true, time.Now().Add(pause)
}

// refresh asks what is stored as these roles' passwords now, before their sessions are moved. Sessions that logged in with another password, or with
// one that is not valid any more, are passwordChanged when it returns. It ends by the deadline of ctx, and by questionTimeout a question at the latest;
// about a role that could not be asked for nothing is changed: the server will say.
func (c *credentials) refresh(ctx context.Context, roles []string) {
	var group sync.WaitGroup
	for _, r := range c.askable(roles) {
		group.Go(func() { _ = c.askInTurn(ctx, r) }) // it has been logged
	}
	group.Wait()
}

// askable returns those of the roles that hold something to ask about.
func (c *credentials) askable(names []string) []*roleSecrets {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*roleSecrets
	for _, name := range names {
		r := c.roles[name]
		if r != nil && !slices.Contains(list, r) && slices.ContainsFunc(r.entries, func(k *credential) bool { return k.method != methodPassword }) {
			list = append(list, r)
		}
	}
	return list
}

// askInTurn asks once few enough others do.
func (c *credentials) askInTurn(ctx context.Context, r *roleSecrets) error {
	return c.inTurn(ctx, func() error { return c.ask(ctx, r) })
}

// inTurn asks something once few enough others do.
func (c *credentials) inTurn(ctx context.Context, ask func() error) error {
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
		return ask()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// lookUp asks the source for a login that waits for the answer, once few enough others do: hundreds of logins that come at once are not hundreds of
// questions. It is not called on an event loop.
func (c *credentials) lookUp(ctx context.Context, role string) (stored Stored, known bool, err error) {
	if !utf8.ValidString(role) { // nobody can be asked about it
		return Stored{}, false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	err = c.inTurn(ctx, func() (err error) {
		stored, known, err = c.source(ctx, role)
		return err
	})
	return stored, known, err
}

// ask puts one question to the source and takes the answer in. A source that was taken out of the configuration says nothing against a key.
func (c *credentials) ask(ctx context.Context, r *roleSecrets) error {
	if !c.configured() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, questionTimeout)
	defer cancel()
	number := c.questions.Add(1)
	stored, known, err := c.source(ctx, r.name)
	if err != nil {
		if !errors.Is(err, context.Canceled) && c.notes.allow(r.name) {
			c.log.Warn("the stored password of a role cannot be looked up; its sessions cannot be moved unless it was before", "user", r.name, "err", err)
		}
		return err
	}
	if misfit := c.hear(r, number, stored, known); misfit != nil && c.notes.allow(r.name) {
		c.log.Warn("the stored password of a role does not fit its login; its sessions cannot be moved", "user", r.name, "err", misfit)
	}
	return nil
}

// hear takes an answer in. It returns why what is stored does not fit the login that waits for it, when there is one.
func (c *credentials) hear(r *roleSecrets, number uint64, stored Stored, known bool) (misfit error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if number < r.answered || c.roles[r.name] != r {
		stored.wipe()
		return nil
	}
	r.stored.wipe()
	r.stored, r.known, r.answered = stored, known, number
	r.notBefore = time.Now().Add(pauseNone)
	if known {
		r.notBefore = time.Now().Add(pauseMisfit)
	}
	for _, k := range r.entries {
		switch {
		case standing(k.standing.Load()) == stands:
			if k.method != methodPassword && (!known || !k.isOf(stored)) {
				k.lose(standsOutdated)
			}
		case known && k.awaits != nil:
			misfit = k.fit(stored)
		}
	}
	return misfit
}

// drop takes a credential out of the role.
func (r *roleSecrets) drop(k *credential) {
	r.entries = slices.DeleteFunc(r.entries, func(o *credential) bool { return o == k })
}

// forget ends the memory of a role that has had no session for a while.
func (c *credentials) forget(r *roleSecrets) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(r.entries) > 0 || c.roles[r.name] != r:
	case r.asking:
		r.forget = time.AfterFunc(storedKept, func() { c.forget(r) })
	default:
		r.stored.wipe()
		delete(c.roles, r.name)
	}
}
