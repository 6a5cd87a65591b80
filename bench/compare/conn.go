package compare

import (
	"net"
	"sync/atomic"
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

// meteredDialer makes the connections of nats.go.
type meteredDialer struct{ m *meter }

// Dial implements nats.CustomDialer.
func (d meteredDialer) Dial(network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: dialTime}).Dial(network, address)
	if err != nil {
		return nil, err
	}
	return metered{c, d.m}, nil
}
