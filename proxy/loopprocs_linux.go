package proxy

import (
	"os"
	"runtime"
	"strings"
	"sync"
)

// maxLoops bounds the event loops. One loop carries what several cores of PostgreSQL produce; more of them spread the same readiness over more
// wake-ups.
const maxLoops = 4

// procs is how much of GOMAXPROCS was added for loops.
var procs struct {
	sync.Mutex
	added int
}

// loopCount is how many event loops there are: one for every two processors that the process may use.
func loopCount() int {
	procs.Lock()
	defer procs.Unlock()
	return min(max((runtime.GOMAXPROCS(0)-procs.added)/2, 1), maxLoops)
}

// moreProcs makes room in the scheduler for loops, or takes it back: a loop that waits for readiness keeps its processor (GOMAXPROCS), which
// everything else would lack. From the first call on GOMAXPROCS no longer follows changes of the CPU limit.
func moreProcs(loops int) {
	procs.Lock()
	defer procs.Unlock()
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + loops)
	procs.added += loops
}

// preemptible reports whether the runtime can interrupt a loop that waits in the kernel.
func preemptible() bool { return !strings.Contains(os.Getenv("GODEBUG"), "asyncpreemptoff=1") }
