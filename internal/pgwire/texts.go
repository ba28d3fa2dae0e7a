package pgwire

import (
	"hash/maphash"
	"runtime"
	"sync"
	"sync/atomic"
	"weak"
)

// Texts holds one copy of every statement's text and name that the trackers of many sessions remember, and of what it means for them. It is
// safe for concurrent use. What no session remembers any more is collected with the garbage: nothing has to be given back.
type Texts struct {
	seed   maphash.Seed
	shards [textShards]textShard
	clean  [cleanKept]atomic.Uint64 // hashes of texts of Query messages without a verdict, each in the place that it chooses
	pieces pieces
}

const (
	textShards = 16
	cleanKept  = 1 << 12
	maxProbes  = 8 // texts of neighbouring hashes that are told apart
)

// textShard is the part of the texts whose hashes end alike.
type textShard struct {
	mu   sync.Mutex
	text map[uint64]weak.Pointer[sharedText]
}

// sharedText is the body of a Query, of a Parse without the name, or a name.
type sharedText struct {
	raw     string
	verdict *verdict
}

// NewTexts makes an empty store.
func NewTexts() *Texts {
	s := &Texts{seed: maphash.MakeSeed()}
	for i := range s.shards {
		s.shards[i].text = map[uint64]weak.Pointer[sharedText]{}
	}
	return s
}

// pieces are buffers for messages that come in pieces.
type pieces struct {
	mu   sync.Mutex
	free [][]byte
}

// piecesKept bounds the free buffers, each of which is as large as a message was, up to maxStatement.
const piecesKept = 32

func (p *pieces) get() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.free)
	if n == 0 {
		return make([]byte, 0, 512)
	}
	b := p.free[n-1]
	p.free = p.free[:n-1]
	return b
}

func (p *pieces) put(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) < piecesKept {
		p.free = append(p.free, b[:0])
	}
}

// Len returns how many texts and names are held; some of them may be garbage already.
func (s *Texts) Len() int {
	n := 0
	for i := range s.shards {
		shard := &s.shards[i]
		shard.mu.Lock()
		n += len(shard.text)
		shard.mu.Unlock()
	}
	return n
}

// statement returns the one copy of the body of a Parse behind its name.
func (s *Texts) statement(body []byte) *sharedText {
	return s.intern(body, maphash.Bytes(s.seed, body), func(raw string) *verdict { return judge(statementText(raw)) })
}

// name returns the one copy of a name.
func (s *Texts) name(name []byte) *sharedText {
	return s.intern(name, maphash.Bytes(s.seed, name), func(string) *verdict { return nil })
}

// query returns what the body of a Query means. A text that means nothing is remembered by its hash alone; a hash that another text has
// too, once in 2^64, would make it that text.
func (s *Texts) query(body []byte) *verdict {
	h := maphash.Bytes(s.seed, body)
	place := &s.clean[h%cleanKept]
	if place.Load() == h && h != 0 {
		return nil
	}
	if t := s.find(body, h); t != nil {
		return t.verdict
	}
	v := judge(statementText(string(body)))
	if v == nil {
		place.Store(h)
		return nil
	}
	return s.intern(body, h, func(string) *verdict { return v }).verdict
}

// statementText is the part of a body up to the NUL that ends it.
func statementText(raw string) string {
	for i := range len(raw) {
		if raw[i] == 0 {
			return raw[:i]
		}
	}
	return raw
}

func (s *Texts) shard(h uint64) *textShard { return &s.shards[h>>32%textShards] }

// find returns the one copy of raw, or nil if there is none.
func (s *Texts) find(raw []byte, h uint64) *sharedText {
	shard := s.shard(h)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	t, _ := shard.find(raw, h)
	return t
}

// find returns the text, or nil and a key that is free for it; there may be none.
func (s *textShard) find(raw []byte, h uint64) (t *sharedText, free uint64) {
	for key := h; key != h+maxProbes; key++ {
		p, ok := s.text[key]
		if !ok {
			return nil, key
		}
		t := p.Value()
		if t == nil { // its cleanup is on the way
			return nil, key
		}
		if string(raw) == t.raw {
			return t, key
		}
	}
	return nil, h + maxProbes
}

// intern returns the one copy of raw and makes it if need be. The judgement is made outside the lock.
func (s *Texts) intern(raw []byte, h uint64, judged func(string) *verdict) *sharedText {
	if t := s.find(raw, h); t != nil {
		return t
	}
	made := &sharedText{raw: string(raw)}
	made.verdict = judged(made.raw)
	shard := s.shard(h)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	t, key := shard.find(raw, h)
	if t != nil {
		return t
	}
	if key == h+maxProbes {
		return made
	}
	p := weak.Make(made)
	shard.text[key] = p
	runtime.AddCleanup(made, shard.collected, collectedText{key, p})
	return made
}

// collectedText says which text has become garbage.
type collectedText struct {
	key  uint64
	text weak.Pointer[sharedText]
}

// collected removes a text that is garbage, unless another one has taken its place.
func (s *textShard) collected(c collectedText) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.text[c.key] == c.text {
		delete(s.text, c.key)
	}
}
