package session

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// A socket writes without waiting. It is used by one goroutine at a time.
type socket struct {
	raw syscall.RawConn
	try func(fd uintptr) bool // made once, so that a write allocates nothing

	p   []byte
	n   int
	err error
}

// newSocket returns the socket of a plain connection, nil for any other.
func newSocket(nc net.Conn) *socket {
	s := socket{raw: rawOf(nc)}
	if s.raw == nil {
		return nil
	}
	s.try = func(fd uintptr) bool {
		for {
			if s.n, s.err = unix.Write(int(fd), s.p); s.err != unix.EINTR {
				return true
			}
		}
	}
	return &s
}

// write writes as much of p as the socket takes at once.
func (s *socket) write(p []byte) (n int, err error) {
	s.p, s.n, s.err = p, 0, nil
	err = s.raw.Write(s.try)
	s.p = nil
	if err == nil && s.err != unix.EAGAIN {
		err = s.err
	}
	return max(s.n, 0), err
}

// rawOf is the system's side of a plain connection, nil for any other.
func rawOf(nc net.Conn) (raw syscall.RawConn) {
	var err error
	switch nc := nc.(type) {
	case *net.TCPConn:
		raw, err = nc.SyscallConn()
	case *net.UnixConn:
		raw, err = nc.SyscallConn()
	}
	if err != nil {
		return nil
	}
	return raw
}

// allSent says that the other side, or its system, has everything that was written. It is
// false where nobody knows.
func allSent(nc net.Conn) (all bool) {
	if tls, ok := nc.(interface{ NetConn() net.Conn }); ok {
		nc = tls.NetConn()
	}
	raw := rawOf(nc)
	if raw == nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		left, err := unix.IoctlGetInt(int(fd), unix.TIOCOUTQ)
		all = err == nil && left == 0
	})
	return all
}
