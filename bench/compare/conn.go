package compare

import (
	"context"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl/internal/dial"
)

// brokerAt is an MQTT broker and what it takes to get in.
type brokerAt struct {
	*url.URL
	tls dial.TLS
}

// natsAt is a NATS server and what it takes to get in.
type natsAt struct {
	url   string
	tls   dial.TLS
	creds string // file, or ""
}

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

// natsDialer makes the connection of nats.go and keeps hold of it: to write to it
// past nats.go, and because Close of nats.go waits for a write that may be stuck.
type natsDialer struct {
	at   natsAt
	m    *meter
	most int         // bytes of a message from the server; 0: of an acknowledgement
	pong func(n int) // told of PONGs; may be nil
	conn atomic.Pointer[natsConn]
}

func (d *natsDialer) connect(options []nats.Option) (*nats.Conn, error) {
	var raw net.Conn
	to := dial.NATS{TLS: d.at.tls, Messages: d.most}
	to.Wrap = func(c net.Conn) net.Conn { raw = c; return metered{c, d.m} }
	to.Outer = func(c net.Conn) net.Conn {
		n := &natsConn{Conn: c, raw: raw, pong: d.pong}
		d.conn.Store(n)
		return n
	}
	return to.Connect(context.Background(), d.at.url, options...)
}

// give gives what is stuck so long to end.
func (d *natsDialer) give(span time.Duration) {
	if c := d.conn.Load(); c != nil {
		c.raw.SetDeadline(time.Now().Add(span))
	}
}

// natsConn is a connection to a NATS server. Whoever writes to it writes whole
// commands only.
type natsConn struct {
	net.Conn
	raw   net.Conn // below TLS
	pong  func(n int)
	match int // how many bytes of a PONG the latest read has ended with
}

// pongText is the server's answer to PING.
const pongText = "PONG\r\n"

// Read implements net.Conn, and counts the PONGs: of a connection without
// subscriptions, on which this text is nothing else.
func (c *natsConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if c.pong == nil {
		return n, err
	}
	pongs := 0
	for _, b := range p[:n] {
		switch {
		case b == pongText[c.match]:
			c.match++
		case b == pongText[0]:
			c.match = 1
		default:
			c.match = 0
		}
		if c.match == len(pongText) {
			pongs++
			c.match = 0
		}
	}
	if pongs > 0 {
		c.pong(pongs)
	}
	return n, err
}
