//go:build race

package decision

// raceEnabled shortens the long tests: the engine has one owner and no goroutine, and the detector makes it ten times slower.
const raceEnabled = true
