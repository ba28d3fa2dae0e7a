package pgwire

// maxNamedEnds bounds the remembered names of statements that begin or end transactions, or relax one. pgjdbc needs five: it gives BEGIN, COMMIT
// and ROLLBACK one name each per connection after some uses, and so may a client do with SET LOCAL synchronous_commit.
const maxNamedEnds = 8

// statement is what is remembered of a statement's text.
type statement struct {
	effect  effect
	relaxes bool // it has markLocal
}

// isEnd reports whether the statement begins or ends a transaction.
func (s statement) isEnd() bool { return s.effect != effectOther && s.effect != effectNone }

// or is what to assume of a statement that is one of two.
func (s statement) or(other statement) statement {
	return statement{effect: s.effect.or(other.effect), relaxes: s.relaxes || other.relaxes}
}

// namedEnds remembers, by a hash of their names, the prepared statements that end or relax a transaction. It is allocated when the first one is
// parsed. Nothing is forgotten at Close or at another Parse of the name: either may be skipped by the server after an error.
type namedEnds struct {
	used   uint8
	lost   bool // one that ends a transaction found no place: any named statement may be it
	lax    bool // so did one that relaxes
	effect [maxNamedEnds]statement
	name   [maxNamedEnds]uint64
	parse  [maxNamedEnds]uint64 // place of the request that the Parse belongs to; 0 once it is known to have succeeded
}

func (n *namedEnds) find(name uint64) int {
	for i := range int(n.used) {
		if n.name[i] == name {
			return i
		}
	}
	return -1
}

// lookup returns what executing the statement name in the given request runs. Requests up to settled are answered, the last that failed is
// failed.
func (n *namedEnds) lookup(name, request, settled, failed uint64) statement {
	other := statement{effect: effectOther}
	if n == nil {
		return other
	}
	i := n.find(name)
	if i < 0 {
		if n.lost {
			other.effect = effectCommit
		}
		other.relaxes = n.lax
		return other
	}
	switch parse := n.parse[i]; {
	case parse == 0 || parse == request: // where the Parse fails, what is behind it in the same request is skipped
	case parse > settled:
		return n.effect[i].or(other) // the name may still stand for an older statement
	case failed < parse:
		n.parse[i] = 0
	default:
		n.effect[i], n.parse[i] = n.effect[i].or(other), 0
	}
	return n.effect[i]
}

// parsed notes that name may from now on stand for the statement e. It may keep its old meaning, if the Parse fails: of two meanings
// the more doubtful one stays.
func (n *namedEnds) parsed(name, request uint64, e statement) {
	i := n.find(name)
	switch {
	case i >= 0:
		n.effect[i] = n.effect[i].or(e)
	case !e.isEnd() && !e.relaxes:
	case int(n.used) < maxNamedEnds:
		n.name[n.used], n.effect[n.used], n.parse[n.used] = name, e, request
		n.used++
	case e.relaxes:
		n.lax = true
	case e.effect != effectBegin: // a BEGIN that is not remembered is merely not trusted to open a block
		n.lost = true
	}
}

// or is the effect to assume for a statement that is one of two.
func (e effect) or(other effect) effect {
	switch {
	case e == other:
		return e
	case max(e, other) == effectCommit || e == effectRollback || other == effectRollback:
		return effectCommit
	default:
		return effectOther
	}
}

// unnamedStatement is what the unnamed statement may be.
type unnamedStatement struct {
	last, older statement
	parse       uint64 // place of the request that the last Parse belongs to, if the server may have skipped that: then it is older
}

// mayBe notes a Parse that is skipped if something before it fails.
func (u *unnamedStatement) mayBe(e statement, request uint64) {
	if u.parse == 0 {
		u.older = u.last
	} else {
		u.older = u.older.or(u.last)
	}
	u.last, u.parse = e, request
}

// lookup is that of namedEnds.
func (u *unnamedStatement) lookup(request, settled, failed uint64) statement {
	switch {
	case u.parse == 0 || u.parse == request: // where the Parse is skipped, what is behind it in the same request is too
		return u.last
	case u.parse > settled:
		return u.last.or(u.older)
	case failed >= u.parse:
		u.last = u.last.or(u.older)
	}
	u.parse = 0
	return u.last
}

// The hash is FNV-1a, 64 bits. Two names of one session that collide could at worst hide a doubt from the client that chose them.
const (
	hashSeed  = 14695981039346656037
	hashPrime = 1099511628211
)

func hashName(h uint64, part []byte) uint64 {
	for _, c := range part {
		h = (h ^ uint64(c)) * hashPrime
	}
	return h
}
