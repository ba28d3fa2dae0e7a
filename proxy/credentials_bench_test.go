package proxy

import (
	"context"
	"testing"
)

// What a SCRAM login costs more than its relay: the watch, and finding the role's key.
func BenchmarkALoginThatIsWatched(b *testing.B) {
	v, key := keyOf(b, "a", "0123456789abcdef")
	c := newTestCredentials(b, func(context.Context, string) (Stored, bool, error) { return StoredVerifier(v.Clone()), true, nil })
	frames := recordedLogin(b, v, key)
	first := new(watch)
	frames.show(first)
	k, _ := c.learn("app", first, false, true)
	for name, blind := range map[string]bool{"with a source": false, "without": true} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w := watch{blind: blind}
				frames.show(&w)
				got, _ := c.learn("app", &w, false, true)
				c.release(got)
			}
		})
	}
	c.release(k)
}

// Asking what stands against a move of each session, as a list of all of them does.
func BenchmarkWhyASessionCannotBeLoggedInAgain(b *testing.B) {
	v, key := keyOf(b, "a", "0123456789abcdef")
	c := newTestCredentials(b, func(context.Context, string) (Stored, bool, error) { return StoredVerifier(v.Clone()), true, nil })
	w := new(watch)
	recordedLogin(b, v, key).show(w)
	k, _ := c.learn("app", w, false, true)
	s := &session{learned: k}
	for b.Loop() {
		if _, why := s.credential(); why != "" {
			b.Fatal(why)
		}
	}
}
