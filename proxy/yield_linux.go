package proxy

import _ "unsafe" // for go:linkname

// yield lets the goroutines run that wait for this processor, as runtime.Gosched does, but wakes no other thread to look for work: who waits
// elsewhere has been seen to by those who made it ready. The runtime keeps the name for those who use it (go.dev/issue/67401); were it gone, pgtether
// would not link.
//
//go:linkname yield runtime.goyield
func yield()
