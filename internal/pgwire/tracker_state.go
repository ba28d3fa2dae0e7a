package pgwire

// Running reports whether the server owes anything: a request is unanswered, an answer has begun, or extended-protocol messages were sent that
// it may be working on without a Sync.
func (t *Tracker) Running() bool {
	client := t.clientWord.Load()
	server := t.serverWord.Load()
	return server>>serverFlagBits != client>>clientFlagBits || server&serverAnswering != 0 || client&clientUnsynced != 0
}

// ServerBoundary reports whether the client has received whole messages only, so that a message of the proxy's own may follow.
func (t *Tracker) ServerBoundary() bool {
	return t.serverWord.Load()&serverPartial == 0 && t.broken.Load() == nil
}

// LastServer returns the type of the last message that was relayed to the client, 0 before the first one. It belongs to the goroutine that
// copies server to client, or to whoever comes after it.
func (t *Tracker) LastServer() byte { return t.server.frame.typ }

// Fetch reads a little of everything that the next message in either direction will touch, so that it is in the processor's caches by then. What it
// returns has no meaning. It belongs to a goroutine that copies in both directions.
func (t *Tracker) Fetch() uint64 {
	sum := uint64(t.client.frame.have) + t.clientWord.Load() + uint64(t.server.frame.have) + t.unsure.Load()
	if t.client.names != nil {
		sum++
	}
	if t.memory != nil {
		sum += uint64(t.memory.wary)
	}
	return sum
}
