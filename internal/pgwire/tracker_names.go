package pgwire

// maxNamedEnds bounds the remembered names of statements that begin or end transactions. pgjdbc needs one or two: it gives the text COMMIT one
// name per connection.
const maxNamedEnds = 8

// namedEnds remembers, by a hash of their names, the prepared statements whose effect is not effectOther. It is allocated when the first one is
// parsed. Nothing is
// forgotten at Close or at another Parse of the name: either may be skipped by the server after an error.
type namedEnds struct {
	used   uint8
	lost   bool // a commit found no place: any named statement may be one
	effect [maxNamedEnds]effect
	name   [maxNamedEnds]uint64
}

// find returns the place of name, or -1.
func (n *namedEnds) find(name uint64) int {
	for i := range int(n.used) {
		if n.name[i] == name {
			return i
		}
	}
	return -1
}

// lookup returns the effect of executing the statement name.
func (n *namedEnds) lookup(name uint64) effect {
	if n == nil {
		return effectOther
	}
	if i := n.find(name); i >= 0 {
		return n.effect[i]
	}
	if n.lost {
		return effectCommit
	}
	return effectOther
}

// parsed notes that name may from now on stand for a statement of effect e. It may keep its old meaning, if the Parse fails: of two meanings
// the more doubtful one stays.
func (n *namedEnds) parsed(name uint64, e effect) {
	i := n.find(name)
	switch {
	case i >= 0:
		n.effect[i] = n.effect[i].or(e)
	case e == effectOther || e == effectNone:
	case int(n.used) < maxNamedEnds:
		n.name[n.used], n.effect[n.used] = name, e
		n.used++
	case e != effectBegin: // a BEGIN that is not remembered is merely not trusted to open a block
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
