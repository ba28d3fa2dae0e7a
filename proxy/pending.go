package proxy

import (
	"container/list"
	"sync"
)

// pendingMax bounds the connections that have not sent a whole startup packet. They cost a descriptor and a small buffer each.
const pendingMax = 1024

// pending holds the connections before their startup packet is complete. A new one always finds room: the oldest is closed for it. An honest
// client is through within milliseconds and never the oldest of many.
type pending struct {
	mu   sync.Mutex
	max  int
	list list.List // of droppable, the oldest first
}

// droppable is a connection that can be ended by others.
type droppable interface{ drop() }

// add takes a connection in. The returned function takes it out again and reports whether it was still there: false means that it had to make
// room and is ended.
func (p *pending) add(c droppable) (remove func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.list.Len() >= p.max {
		p.dropLocked()
	}
	e := p.list.PushBack(c)
	there := true
	return func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if e.Value == nil {
			return false
		}
		if there {
			there = false
			p.list.Remove(e)
		}
		return true
	}
}

// drop closes up to n of the oldest and returns how many.
func (p *pending) drop(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	dropped := 0
	for ; dropped < n && p.list.Len() > 0; dropped++ {
		p.dropLocked()
	}
	return dropped
}

func (p *pending) dropLocked() {
	e := p.list.Front()
	c := e.Value.(droppable)
	p.list.Remove(e)
	e.Value = nil
	c.drop()
}

// size is how many connections are pending.
func (p *pending) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.list.Len()
}
