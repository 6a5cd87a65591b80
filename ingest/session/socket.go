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
	var s socket
	var err error
	switch nc := nc.(type) {
	case *net.TCPConn:
		s.raw, err = nc.SyscallConn()
	case *net.UnixConn:
		s.raw, err = nc.SyscallConn()
	default:
		return nil
	}
	if err != nil {
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
