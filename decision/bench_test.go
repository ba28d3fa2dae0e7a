package decision

import "testing"

// BenchmarkStep measures an event on a healthy pair: what the control loop pays all day.
func BenchmarkStep(b *testing.B) {
	w := newWorld(testConfig("region-a", "region-b"), NewRecord(), Opt[LastKnown]{})
	w.run(3 * w.cfg.ProbeInterval)
	b.ReportAllocs()
	for b.Loop() {
		w.now = w.now.Add(w.cfg.TickInterval / 10)
		w.e.Step(Observed{At: w.now, Observation: w.probe(w.servers[0])})
		w.e.Step(Tick{At: w.now})
	}
}
