package compare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/mqttetl/mqttetl"
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

// natsDialer makes the connection of nats.go, TLS included, and keeps hold of
// it: to write to it past nats.go, and because Close of nats.go waits for a
// write that may be stuck.
type natsDialer struct {
	at     natsAt
	m      *meter
	pong   func(n int) // told of PONGs; may be nil
	conn   atomic.Pointer[natsConn]
	failed error // of the latest Dial; to be read when nats.Connect has returned
}

// Dial implements nats.CustomDialer.
func (d *natsDialer) Dial(network, address string) (_ net.Conn, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	defer func() { d.failed = err }()
	tcp, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, mqttetl.WithHint(fmt.Errorf("%w (%w)", err, mqttetl.ErrUnavailable), "start nats-server, or name its host and port: 4222 is the usual one")
	}
	c, err := d.greet(ctx, metered{tcp, d.m})
	if err != nil {
		tcp.Close()
		return nil, err
	}
	d.conn.Store(c)
	return c, nil
}

// SkipTLSHandshake tells nats.go that Dial has made it.
func (d *natsDialer) SkipTLSHandshake() bool { return true }

// greet reads the server's INFO, which comes in plain text, and makes TLS if
// the server or the URL asks for it.
func (d *natsDialer) greet(ctx context.Context, tcp metered) (*natsConn, error) {
	deadline, _ := ctx.Deadline()
	tcp.SetDeadline(deadline)
	defer tcp.SetDeadline(time.Time{})
	info, err := readLine(tcp)
	text, ok := bytes.CutPrefix(info, []byte("INFO "))
	var server struct {
		Required  bool `json:"tls_required"`
		Available bool `json:"tls_available"`
	}
	if err == nil && (!ok || json.Unmarshal(text, &server) != nil) {
		err = errors.New("the server does not speak NATS")
	}
	if err != nil {
		return nil, fmt.Errorf("no INFO: %w (%w)", err, mqttetl.ErrUnavailable)
	}
	c := &natsConn{Conn: tcp, raw: tcp, info: info, pong: d.pong}
	u, err := url.Parse(d.at.url)
	if err != nil {
		return nil, err
	}
	asked := u.Scheme == "tls" || d.at.tls.CA != "" || d.at.tls.Cert != ""
	switch {
	case asked && !server.Required && !server.Available:
		err = errors.New("the server does not offer TLS")
	case asked || server.Required:
		c.Conn, err = d.at.tls.Client(ctx, tcp, u.Hostname())
	}
	return c, err
}

// readLine reads a line and not a byte more.
func readLine(c net.Conn) (line []byte, err error) {
	for b := make([]byte, 1); len(line) < 64<<10; {
		if _, err := c.Read(b); err != nil {
			return nil, err
		}
		if line = append(line, b[0]); b[0] == '\n' {
			return line, nil
		}
	}
	return nil, errors.New("a line without end")
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
	info  []byte   // what has been read and is to be read again
	pong  func(n int)
	match int // how many bytes of a PONG the latest read has ended with
}

// pongText is the server's answer to PING.
const pongText = "PONG\r\n"

// Read implements net.Conn, and counts the PONGs: of a connection without
// subscriptions, on which this text is nothing else.
func (c *natsConn) Read(p []byte) (int, error) {
	if len(c.info) > 0 {
		n := copy(p, c.info)
		c.info = c.info[n:]
		return n, nil
	}
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
