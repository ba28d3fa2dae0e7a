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
