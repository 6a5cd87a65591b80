package servers

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// claims are the ports that FreeAddr has given away, held until this process ends.
var claims struct {
	sync.Mutex
	held []net.Listener
}

// FreeAddr is a host:port on 127.0.0.1 at which nobody listens. The port is one
// that by default connections do not leave from (ip(7), ip_local_port_range), and
// no other call gives it to anyone, in this process or another, while this process
// lives: a server may be stopped and started again there.
func FreeAddr() (string, error) {
	var err error
	for range 100 {
		var addr string
		if addr, err = claimAddr(12000 + rand.IntN(20000)); err == nil {
			return addr, nil
		}
	}
	return "", fmt.Errorf("find a free port: %w", err)
}

// claimAddr claims the port by an abstract socket (unix(7)), which ends with the process.
func claimAddr(port int) (string, error) {
	claim, err := net.Listen("unix", fmt.Sprintf("@mqttetl-port-%d", port))
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		claim.Close()
		return "", err
	}
	defer l.Close()
	claims.Lock()
	defer claims.Unlock()
	claims.held = append(claims.held, claim)
	return l.Addr().String(), nil
}
