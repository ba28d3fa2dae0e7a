//go:build !race

package proxy

// raceEnabled says that the race detector slows everything down.
const raceEnabled = false
