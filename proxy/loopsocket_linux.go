package proxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the event loops. The sockets never block, so that the scheduler need not hear of a call: RawSyscall spares its bookkeeping.

// isLater reports whether the call should be made again when the socket is ready.
func isLater(errno syscall.Errno) bool { return errno == syscall.EAGAIN || errno == syscall.EINTR }

// control changes what an epoll instance is told about a socket.
func control(epoll int, op int, fd int32, event *unix.EpollEvent) error {
	_, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(event)), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("epoll_ctl", errno)
	}
	return nil
}

// socketError takes the error that a socket has failed with.
func socketError(fd int32) error {
	if code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 {
		return syscall.Errno(code)
	}
	return syscall.EPIPE // somebody has taken it before
}

// duplicate returns another descriptor of the same socket.
func duplicate(c syscall.Conn) (int32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var dup int
	var failed error
	if err := raw.Control(func(fd uintptr) { dup, failed = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return -1, err
	}
	if failed != nil {
		return -1, os.NewSyscallError("fcntl", failed)
	}
	return int32(dup), nil
}

// adopt makes a connection of a descriptor, which is closed. If that fails the socket is closed with a reset.
func (f *loopForwarder) adopt(fd int32, keepAlive net.KeepAliveConfig) (*net.TCPConn, error) {
	file := os.NewFile(uintptr(fd), "")
	defer file.Close()
	conn, err := net.FileConn(file)
	if isShortage(err) {
		conn, err = f.fileConnInNeed(file)
	}
	if err != nil {
		abandon(int(fd))
		return nil, err
	}
	raw := conn.(*net.TCPConn)
	_ = raw.SetKeepAliveConfig(keepAlive) // FileConn has set its own
	return raw, nil
}

// fileConnInNeed is net.FileConn, which needs a second descriptor for a moment, when there is none: the one that is kept for this is given up for it.
func (f *loopForwarder) fileConnInNeed(file *os.File) (conn net.Conn, err error) {
	f.need.Lock()
	defer f.need.Unlock()
	for range 3 { // another may be faster
		closeDescriptor(f.reserve)
		conn, err = net.FileConn(file)
		if err == nil {
			_ = file.Close() // whose descriptor is the next reserve
		}
		f.reserve = openReserve()
		if !isShortage(err) {
			break
		}
	}
	return conn, err
}

// isShortage reports whether a descriptor is what lacks.
func isShortage(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// openReserve returns a descriptor that is good for nothing but to be closed; -1 when there is none.
func openReserve() int32 {
	fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return int32(fd)
}

// newBackendSocket returns a socket for a connection to a node, with the options that dial sets.
func newBackendSocket(at netip.AddrPort) (int32, error) {
	family := unix.AF_INET
	if !at.Addr().Is4() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	if err := errors.Join(setOptions(fd, backendKeepAlive), setUserTimeout(fd)); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("setsockopt", err)
	}
	return int32(fd), nil
}

// setOptions is what net does for a connection with the same configuration.
func setOptions(fd int, c net.KeepAliveConfig) error {
	return errors.Join(
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(c.Idle.Seconds())),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(c.Interval.Seconds())),
		unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, c.Count))
}

// connectTo begins to connect the socket, or asks how far that has come.
func connectTo(fd int32, at netip.AddrPort) syscall.Errno {
	port := at.Port()
	be := [2]byte{byte(port >> 8), byte(port)}
	var to unsafe.Pointer
	var length uintptr
	if addr := at.Addr(); addr.Is4() {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: *(*uint16)(unsafe.Pointer(&be)), Addr: addr.As4()}
		to, length = unsafe.Pointer(&sa), unix.SizeofSockaddrInet4
	} else {
		sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: *(*uint16)(unsafe.Pointer(&be)), Addr: addr.As16()}
		to, length = unsafe.Pointer(&sa), unix.SizeofSockaddrInet6
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(to), length)
	return errno
}

// isSelf reports whether a socket is connected to itself: nobody listened there, and the port that it was given was that very one.
func isSelf(fd int32, at netip.AddrPort) bool {
	var sa unix.RawSockaddrInet6 // large enough for both families
	length := uint32(unix.SizeofSockaddrInet6)
	_, _, errno := syscall.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&length)))
	return errno == 0 && addrPortOf(&sa) == at
}

// acceptFrom takes the next client of a listening socket.
func acceptFrom(listener int32) (fd int32, from netip.AddrPort, errno syscall.Errno) {
	var sa unix.RawSockaddrInet6 // large enough for both families
	length := uint32(unix.SizeofSockaddrInet6)
	n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&length)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, from, errno
	}
	return int32(n), addrPortOf(&sa), 0
}

// addrPortOf reads what the kernel has written, of either family.
func addrPortOf(sa *unix.RawSockaddrInet6) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&sa.Port))
	addr := netip.AddrFrom16(sa.Addr)
	if sa.Scope_id != 0 && sa.Family == unix.AF_INET6 { // fe80::1 of two interfaces are two
		addr = addr.WithZone(strconv.Itoa(int(sa.Scope_id)))
	}
	if sa.Family == unix.AF_INET {
		addr = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(sa)).Addr)
	}
	return netip.AddrPortFrom(addr, uint16(port[0])<<8|uint16(port[1]))
}
