// Package control is the imperative shell around the decision engine.
//
// One goroutine (Loop.Run) owns the engine: it turns ticks, probe results and commands into events, performs the actions that the engine
// returns, in order, and feeds their outcomes back as events.
//
// Guarantees: a record is on disk, fsynced, before the engine hears that it is (so before its effect starts); an event of /events is on disk
// before the actions that follow it are performed; two processes never share one state directory; a torn, lost or foreign state file is
// never read as a record.
//
// Beside the loop stand the operator's own programs: Hooks runs one and says how it ended, EventFeed gives one every event without the loop ever
// waiting for it. Each runs in a process group of its own that is gone when its time is up.
//
// While no writer is open everything that the engine is told is recorded, and a change of the writer leaves it as a file in the folder evidence of
// the state directory: written at the point of no return and again when the change ended, by a goroutine that nothing waits for. Bundle.Replay
// restores the engine from it and compares what it does, byte for byte. While a writer is open nothing is recorded.
//
// It never decides anything, opens no socket and knows neither the data plane nor the probes but through the small interfaces it owns.
package control
