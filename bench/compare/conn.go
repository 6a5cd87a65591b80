package compare

import (
	"net"
	"sync/atomic"
	"time"
)

// meter counts the bytes of connections, both directions.
type meter struct{ bytes atomic.Int64 }

// metered is a connection whose bytes are counted.
type metered struct {
	net.Conn
	m *meter
}

func (c metered) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.m.bytes.Add(int64(n))
	return n, err
}

func (c metered) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.m.bytes.Add(int64(n))
	return n, err
}

// meteredDialer makes the connection of nats.go, and keeps hold of it: Close of
// nats.go waits for a write that may be stuck.
type meteredDialer struct {
	m    *meter
	conn atomic.Pointer[metered]
}

// Dial implements nats.CustomDialer.
func (d *meteredDialer) Dial(network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: dialTime}).Dial(network, address)
	if err != nil {
		return nil, err
	}
	made := &metered{c, d.m}
	d.conn.Store(made)
	return made, nil
}

// give gives what is stuck so long to end.
func (d *meteredDialer) give(span time.Duration) {
	if c := d.conn.Load(); c != nil {
		c.SetDeadline(time.Now().Add(span))
	}
}
