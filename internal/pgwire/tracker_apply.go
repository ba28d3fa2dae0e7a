package pgwire

import "slices"

// settle applies the messages whose requests are settled, in their order.
func (m *memory) settle(t *Tracker) {
	word := t.serverWord.Load()
	settled := word >> serverFlagBits
	for m.done < len(m.ops) && m.ops[m.done].request <= settled {
		o := &m.ops[m.done]
		if o.body != nil {
			m.pending -= len(o.body.raw)
		}
		m.apply(o, m.failures.of(o), m.opened.Load() < o.request)
		*o = op{}
		m.done++
	}
	if m.done < len(m.ops) {
		return
	}
	m.failures.forget(settled)
	m.ops, m.done, m.pending = m.ops[:0], 0, 0
	if cap(m.ops) > opsKept {
		m.ops = nil
	}
	if settled == t.client.requests && word&statusMask == statusIdle && !t.client.unsynced {
		m.portal, m.portals = nil, nil // no portal of a transaction outlives it (AtCommit_Portals)
	}
	m.beWary()
}

// beWary finds what matters when everything is answered.
func (m *memory) beWary() {
	m.wary = 0
	if m.unnamed != nil && m.unnamed.verdict.alters() {
		m.wary |= waryUnnamed
	}
	if m.alter > 0 {
		m.wary |= waryNamed
	}
	if m.portal != nil {
		m.wary |= waryPortal
	}
	if len(m.portals) > 0 {
		m.wary |= waryPortals
	}
}

// apply does what a message has done. rested: its request certainly left no block open that was not open before.
func (m *memory) apply(o *op, out outcome, rested bool) {
	if out == outcomeUnknown {
		m.lose(o.request)
		return
	}
	if out == outcomeSkipped {
		return
	}
	ran := out != outcomeFailed
	switch o.typ {
	case 'Q':
		m.replace(o, nil)
		m.run(o, o.verdict, out, rested)
	case 'P':
		switch {
		case o.name == nil && ran:
			m.replace(o, o.body)
		case o.name == nil:
			m.replace(o, nil)
		case ran:
			m.prepare(o.name, o.body)
		}
	case 'C':
		switch {
		case !ran:
		case o.name == nil:
			m.replace(o, nil)
		default:
			m.remove(m.find(o.name))
		}
	case 'B':
		if ran {
			m.bound(o)
		}
	case 'E':
		if ran {
			m.run(o, m.runs(o.name).verdict, out, rested)
		}
	}
}

// nothing is a text that does nothing.
var nothing = &sharedText{}

// prepare adds a named statement, which did not exist.
func (m *memory) prepare(name, body *sharedText) {
	m.remove(m.find(name))
	if len(m.named) == maxNamed {
		m.unsure.Named = true
		return
	}
	if m.bytes+len(body.raw) > maxNamedText {
		if body.verdict.alters() {
			body = unclear
		} else {
			body = unkept
		}
	}
	m.bytes += len(body.raw)
	if body.verdict.alters() {
		m.alter++
	}
	m.named = append(m.named, namedText{name, body})
}

// find returns the place of a statement, -1 if there is none of that name. A name has one copy as long as anybody remembers it.
func (m *memory) find(name *sharedText) int {
	for i := range m.named {
		if m.named[i].name == name {
			return i
		}
	}
	return -1
}

// remove forgets the statement at a place; -1 is none.
func (m *memory) remove(i int) {
	if i < 0 {
		return
	}
	m.bytes -= len(m.named[i].body.raw)
	if m.named[i].body.verdict.alters() {
		m.alter--
	}
	m.named = slices.Delete(m.named, i, i+1)
}

func (m *memory) deallocateAll(o *op) {
	m.named, m.bytes, m.alter = nil, 0, 0
	if o.request > m.lostAt {
		m.unsure.Named = false
	}
}

// replace notes that the unnamed statement is certainly another one, or none.
func (m *memory) replace(o *op, body *sharedText) {
	m.unnamed = body
	if o.request > m.lostAt {
		m.unsure.Unnamed = false
	}
}

// bound notes what a portal runs.
func (m *memory) bound(o *op) {
	body := m.unnamed
	if o.name != nil {
		body = nothing
		if i := m.find(o.name); i >= 0 {
			body = m.named[i].body
		}
	}
	if body == nil || !body.verdict.alters() {
		body = nil
	}
	if o.portal == nil {
		m.portal = body
		return
	}
	m.portals = slices.DeleteFunc(m.portals, func(p portalText) bool { return p.name == o.portal })
	if body != nil && len(m.portals) < maxNamed {
		m.portals = append(m.portals, portalText{o.portal, body})
	}
}

// runs is what a portal runs.
func (m *memory) runs(portal *sharedText) *sharedText {
	if portal == nil {
		if m.portal != nil {
			return m.portal
		}
		return nothing
	}
	for _, p := range m.portals {
		if p.name == portal {
			return p.body
		}
	}
	return nothing
}

// run does what a text does that was run.
func (m *memory) run(o *op, v *verdict, out outcome, rested bool) {
	if !v.alters() {
		return
	}
	for _, d := range v.deeds {
		switch {
		case d.kind.transactional():
			if out == outcomeRan && o.outside && rested {
				m.set(d)
			} else if !o.outside || !rested && out == outcomeRan {
				m.unknown |= UnknownSetInBlock
			}
		case d.kind == deedUnclear, v.several && out == outcomeUndone, o.mixed && out == outcomeFailed:
			// It may have run before the statement that failed, or the commit: the tag of a Query's last statement comes behind that.
			m.unsure.Named = true
		case out == outcomeFailed:
		default:
			m.dispose(o, d)
		}
	}
}

// set changes a parameter.
func (m *memory) set(d deed) {
	if d.kind == deedResetAll {
		m.settings = nil
		return
	}
	i := slices.IndexFunc(m.settings, func(s Setting) bool { return s.Name == d.name })
	if i >= 0 && i == len(m.settings)-1 && d.kind == deedSet {
		m.settings[i].Values = d.values
		return
	}
	if i >= 0 {
		m.settings = slices.Delete(m.settings, i, i+1)
	}
	if d.kind == deedReset {
		return
	}
	if len(m.settings) == maxSettings {
		m.unknown |= UnknownSet
		return
	}
	m.settings = append(m.settings, Setting{Name: d.name, Values: d.values})
}

// dispose does away with prepared statements.
func (m *memory) dispose(o *op, d deed) {
	switch d.kind {
	case deedDiscardAll:
		m.settings = nil
		m.deallocateAll(o)
	case deedDeallocateAll:
		m.deallocateAll(o)
	case deedDeallocate:
		m.remove(slices.IndexFunc(m.named, func(s namedText) bool { return s.name.raw == d.name }))
	}
}

// addCustom adds a name with a dot.
func (m *memory) addCustom(name string) {
	if slices.Contains(m.custom, name) {
		return
	}
	if len(m.custom) == maxCustom {
		m.unknown |= UnknownCustom
		return
	}
	m.custom = append(m.custom, name)
}
