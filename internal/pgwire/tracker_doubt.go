package pgwire

// InDoubt reports whether a session that ended now would leave its client not knowing whether something was committed: a COMMIT, END or PREPARE
// TRANSACTION is unanswered, or a statement outside a transaction block is. BEGIN and ROLLBACK alone leave no doubt. Where the text of a
// statement is not certain (named statements beyond a bound, several statements in one text), it errs towards true.
func (t *Tracker) InDoubt() bool {
	server := t.serverWord.Load()
	settled := server >> serverFlagBits
	if settled < t.doubt.Load() || t.clientWord.Load()&clientMuddled != 0 {
		return true
	}
	// A statement was sent behind a BEGIN, which has been answered by now, and yet no block is open: that BEGIN failed.
	return server&statusMask == statusIdle && settled < t.inside.Load() && settled >= t.begun.Load()
}

// parsed takes note of what a Parse prepares. What would outlive a transaction marks the session at once.
func (t *Tracker) parsed() {
	c := &t.client
	m := c.asks.mark()
	if m == markSession {
		t.relaxes(m)
	}
	e := statement{effect: c.text.effect(), relaxes: m == markLocal}
	switch {
	case !c.named && (c.unsynced || c.skippable):
		c.unnamed.mayBe(e, c.requests+1)
	case !c.named: // never skipped, and the old statement goes even if the new one is wrong (exec_parse_message)
		c.unnamed = unnamedStatement{last: e}
	case c.names != nil:
		c.names.parsed(c.name, c.requests+1, e)
	case e.isEnd() || e.relaxes:
		c.names = &namedEnds{}
		c.names.parsed(c.name, c.requests+1, e)
	}
}

// bound takes note of what a portal will execute.
func (t *Tracker) bound() {
	c := &t.client
	settled, failed := t.serverWord.Load()>>serverFlagBits, t.failed.Load()
	var e statement
	if c.named {
		e = c.names.lookup(c.name, c.requests+1, settled, failed)
	} else {
		e = c.unnamed.lookup(c.requests+1, settled, failed)
	}
	if !c.portalNamed {
		c.portal = e
	} else if e.effect != effectNone {
		c.portals = c.portals.or(e).or(statement{effect: effectOther})
	}
}

// executed is what an Execute that has been read runs.
func (c *clientSide) executed() statement {
	e := c.portal
	if c.named {
		e = c.portals
	}
	if e.effect == effectNone { // nothing known: SQL can declare portals too
		e.effect = effectOther
	}
	return e
}

// executes notes what a statement means for InDoubt, before the request that it belongs to is counted.
func (t *Tracker) executes(e effect) {
	c := &t.client
	request := c.requests + 1
	switch e {
	case effectNone:
	case effectBegin:
		c.blockBegins, c.beginAlone = true, c.frame.typ == 'Q' && !c.unsynced && !c.skippable
		t.begun.Store(request)
	case effectRollback:
		c.blockBegins, c.ends = false, request
	case effectCommit:
		c.blockBegins, c.ends = false, request
		t.doubt.Store(request)
	case effectOther:
		if t.insideBlock() {
			t.inside.Store(request)
		} else {
			t.doubt.Store(request)
		}
	}
}

// insideBlock reports whether the next statement will find a block open, as far as the statements that are still unanswered tell, and the
// last ReadyForQuery where they do not. A BEGIN that an error before it may skip is trusted only as long as that error would skip the next
// statement too: up to its own Sync.
func (t *Tracker) insideBlock() bool {
	server := t.serverWord.Load()
	settled := server >> serverFlagBits
	if t.client.blockBegins {
		if begun := t.begun.Load(); begun > settled {
			return t.client.beginAlone || begun == t.client.requests+1
		}
	} else if t.client.ends > settled {
		return false
	}
	return server&statusMask >= statusInBlock
}
