package pgwire

import (
	"reflect"
	"slices"
	"testing"
)

// FuzzRecall gives a tracker that remembers any bytes of either side, whole and in pieces: it never panics, remembers the same, keeps to its bounds,
// and says all else that it says without.
func FuzzRecall(f *testing.F) {
	for _, c := range recallScripts {
		f.Add(scriptBytes(c.script, ">"), scriptBytes(c.script, "<"), uint8(3))
	}
	for _, script := range scripts {
		f.Add(scriptBytes(script, ">"), scriptBytes(script, "<"), uint8(0))
	}
	f.Fuzz(func(t *testing.T, client, server []byte, size uint8) {
		whole, split, without := remembering(), remembering(), started()
		whole.Client(client)
		without.Client(client)
		for piece := range slices.Chunk(client, int(size)+1) {
			split.Client(piece)
		}
		feedServer(t, whole, server, len(server)+1)
		feedServer(t, without, server, len(server)+1)
		feedServer(t, split, server, int(size)+1)
		if got, want := observe(whole), observe(without); got != want {
			t.Fatalf("remembering: %+v, without: %+v", got, want)
		}
		got, want := split.Recall(), whole.Recall()
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("in pieces:\n %+v, whole:\n %+v", got, want)
		}
		if len(got.Named) > maxNamed || len(got.Settings) > maxSettings || len(got.Custom) > maxCustom {
			t.Fatalf("%d statements, %d settings, %d names", len(got.Named), len(got.Settings), len(got.Custom))
		}
		if again := whole.Recall(); !reflect.DeepEqual(again, want) {
			t.Fatalf("again:\n %+v, first:\n %+v", again, want)
		}
	})
}
