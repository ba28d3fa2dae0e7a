package pgwire

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// modelUnit is what a client sends for one purpose. A unit with then is a COPY FROM STDIN of a client that looks before it goes on: then is sent when
// the server has asked for data.
type modelUnit struct {
	first, then []byte
	refused     []byte // sent in place of then if the server has not asked
	copies      int    // CopyDone and CopyFail messages in it
	wait        bool   // nothing is sent behind it before the server has answered it all
}

// modelClient makes up what clients send. A legal one keeps to the protocol as drivers do; the other sends anything.
type modelClient struct {
	rng   *rand.Rand
	blind bool // COPY data is always sent without looking
	named int
}

func (c *modelClient) pick(choices ...string) string { return choices[c.rng.IntN(len(choices))] }

func (c *modelClient) statement() string {
	return c.pick("SELECT", "INSERT", "SELECT", "BEGIN", "COMMIT", "ROLLBACK", "BEGIN", "COMMIT", "FAIL", "SYNTAX", "OUT", "DEFER", "",
		"DEALLOCATE ALL", "DEALLOCATE s1", "DEALLOCATE s2")
}

func (c *modelClient) legal() modelUnit {
	switch n := c.rng.IntN(20); {
	case n < 7:
		return modelUnit{first: c.query(), wait: c.rng.IntN(3) == 0}
	case n < 14:
		return modelUnit{first: c.extended(), wait: c.rng.IntN(3) == 0}
	case n < 15:
		return modelUnit{first: c.messages(c.pick("S", "H", "S", "F"))}
	case n < 16: // CopyData that is late for its COPY
		return modelUnit{first: c.messages("d late", "d bad")}
	case n < 18:
		return c.copySimple()
	default:
		return c.copyExtended()
	}
}

// anything is a message that may or may not make sense where it comes.
func (c *modelClient) anything() modelUnit {
	text := c.pick("IN", "EARLY", "IN;IN", "BEGIN;IN;COMMIT", c.statement(), c.statement())
	return modelUnit{first: c.messages(c.pick("Q "+text, "Q "+c.statement()+";"+text, "P /"+text, "P s1/"+text, "B /", "B p1/", "B /s1", "B p1/s1",
		"E", "E p1", "D s1", "C s1", "C ", "H", "H x", "S", "S", "S", "S x", "F", "d row", "d bad", "c", "c", "f no"))}
}

func (c *modelClient) messages(list ...string) []byte {
	var b []byte
	for _, m := range list {
		b = append(b, clientMsg(m)...)
	}
	return b
}

func (c *modelClient) query() []byte {
	texts := make([]string, 1+c.rng.IntN(5)/4)
	for i := range texts {
		texts[i] = c.statement()
	}
	return c.messages("Q " + strings.Join(texts, ";"))
}

// extended is a batch of statements and a Sync, sometimes with a Flush on the way.
func (c *modelClient) extended() []byte {
	var list []string
	for range 1 + c.rng.IntN(3) {
		name, portal := "", c.pick("", "", "p1")
		if c.rng.IntN(3) == 0 {
			name = fmt.Sprintf("s%d", c.named%20)
		}
		if name == "" || c.rng.IntN(2) == 0 {
			if name != "" {
				c.named++
				name = fmt.Sprintf("s%d", c.named%20)
			}
			list = append(list, "P "+name+"/"+c.statement())
		}
		list = append(list, "B "+portal+"/"+name)
		if c.rng.IntN(2) == 0 {
			list = append(list, "D")
		}
		list = append(list, strings.TrimSpace("E "+portal))
		switch c.rng.IntN(6) {
		case 0:
			list = append(list, "H")
		case 1:
			list = append(list, "C "+name)
		}
	}
	return c.messages(append(list, "S")...)
}

func (c *modelClient) data() []string {
	var list []string
	for range c.rng.IntN(4) {
		list = append(list, c.pick("d row", "d row", "d row", "d bad", "H"))
	}
	return append(list, c.pick("c", "c", "c", "f no"))
}

func (c *modelClient) copySimple() modelUnit {
	if c.rng.IntN(4) == 0 { // Syncs during a COPY are swallowed
		return c.copyUnit(c.pick("Q IN", "Q SELECT;IN;SELECT"), "S", "d row", "S", "c")
	}
	return c.copyUnit("Q "+c.pick("IN", "IN", "EARLY", "SELECT;IN;SELECT", "SYNTAX"), c.data()...)
}

// copyExtended is libpq's way (Execute and Sync, ... CopyDone and Sync) or that of a client which sends Flush in place of the first Sync.
func (c *modelClient) copyExtended() modelUnit {
	execute := "P /" + c.pick("IN", "IN", "IN", "EARLY", "SYNTAX") + "|B /|E|"
	if c.rng.IntN(2) == 0 {
		return c.copyUnit(execute+"S", append(c.data(), "S")...)
	}
	u := c.copyUnit(execute+"H", append(c.data(), "S")...)
	u.refused = c.messages("S")
	return u
}

func (c *modelClient) copyUnit(first string, then ...string) modelUnit {
	u := modelUnit{first: c.messages(strings.Split(first, "|")...), then: c.messages(then...), copies: 1, wait: true}
	if c.blind || c.rng.IntN(2) == 0 {
		u.first, u.then, u.wait = append(u.first, u.then...), nil, c.rng.IntN(2) == 0
	}
	return u
}
