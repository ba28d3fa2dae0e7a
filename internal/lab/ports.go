package lab

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from below the range that Linux and the BSDs use for outgoing connections (32768 and up): a node that is
// stopped for a while must find its port free when it starts again.
const (
	firstPort = 20000
	lastPort  = 32700
)

// freePort returns a port of ip on which nothing listens now. Another process may still take it before we do; callers start
// over with a new one then.
func freePort(ip string) (int, error) {
	for range 200 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if portIsFree(ip, port) {
			return port, nil
		}
	}
	return 0, fmt.Errorf("find free port on %s between %d and %d: 200 tries, all taken", ip, firstPort, lastPort)
}

func portIsFree(ip string, port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return l.Close() == nil
}
