package forward

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/secret"
)

const (
	connectTimeout = 5 * time.Second
	// writeTimeout ends a connection that takes nothing any more.
	writeTimeout = 10 * time.Second
	pingInterval = 10 * time.Second
	// natsBuffer is what nats.go gathers before it writes without being kicked.
	natsBuffer = 64 << 10
)

// conn is one connection to NATS. It is never reconnected: after an error a
// new one is made, so that nothing waits in a buffer of the old one.
type conn struct {
	*nats.Conn
	net *dialer
}

// shared is a connection that two write to, each of them whole commands only.
// A write that fails closes it: half a command may have left.
type shared struct {
	net.Conn
	mu sync.Mutex
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	n, err := s.Conn.Write(p)
	if err != nil {
		s.Close()
	}
	return n, err
}

// SetWriteDeadline does nothing. Each write has its own deadline, which the
// other writer must not lift: nats.go does so after each of its writes.
func (s *shared) SetWriteDeadline(time.Time) error { return nil }

// connect makes a connection that ends with ctx. down is called once with the
// reason when the connection is lost or the server rejects something.
func (cfg *Config) connect(ctx context.Context, down func(error)) (*conn, error) {
	d := &dialer{ctx: ctx}
	stop := context.AfterFunc(ctx, d.abort)
	defer stop()
	nc, err := nats.Connect(cfg.URL, cfg.options(d, down)...)
	if err == nil && ctx.Err() != nil {
		nc.Close()
		err = ctx.Err()
	}
	if err != nil {
		d.abort()
		if errors.Is(err, nats.ErrNoServers) && d.failed != nil {
			err = d.failed // says which address, and why
		}
		return nil, dial.Certificate(unavailable("connect to NATS", err))
	}
	return &conn{nc, d}, nil
}

// close drops the connection at once, with all that is still unsent.
func (c *conn) close() {
	c.net.abort()
	c.Close()
}

func (cfg *Config) options(d *dialer, down func(error)) []nats.Option {
	lost := func(_ *nats.Conn, err error) {
		if err == nil {
			err = errors.New("closed by the server")
		}
		down(unavailable("connection to NATS", err))
	}
	opts := []nats.Option{
		nats.Name("mqttetl"),
		nats.NoReconnect(),
		nats.Timeout(connectTimeout),
		nats.SetCustomDialer(d),
		nats.WriteBufferSize(natsBuffer),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(lost),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) { lost(nc, err) }),
	}
	if cfg.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(cfg.CredsFile))
	}
	if cfg.TLS.CA != "" {
		opts = append(opts, nats.RootCAs(cfg.TLS.CA))
	}
	if cfg.TLS.Cert != "" {
		opts = append(opts, nats.ClientCert(cfg.TLS.Cert, cfg.TLS.Key))
	}
	return opts
}

// dialer keeps hold of the TCP connection below nats.go's, whose own Close
// waits for a write that may be stuck, and sends what is buffered.
type dialer struct {
	ctx context.Context

	failed error // of the last Dial; read once Connect has returned

	mu     sync.Mutex
	dead   bool
	conn   net.Conn
	shared *shared // over conn, what nats.go has
}

// Dial implements nats.CustomDialer.
func (d *dialer) Dial(network, address string) (net.Conn, error) {
	nd := net.Dialer{Timeout: connectTimeout}
	c, err := nd.DialContext(d.ctx, network, address)
	if d.failed = err; err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		c.Close()
		return nil, net.ErrClosed
	}
	d.conn, d.shared = c, &shared{Conn: c}
	return d.shared, nil
}

// abort closes the connection and has the kernel forget what is unsent: it
// must not arrive minutes later, when the network is back.
func (d *dialer) abort() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	if t, ok := d.conn.(*net.TCPConn); ok {
		t.SetLinger(0)
	}
	if d.conn != nil {
		d.conn.Close()
	}
}

// A publisher puts messages on the wire in the order of the calls. It may keep
// them in a buffer until flush is called. It has copied the message when publish
// returns. reply is where an answer is wanted, "" for none. After an error that
// wraps errWrite the connection is of no more use.
type publisher interface {
	publish(m *wireMessage, reply string) error
	flush() error
}

// newPublisher returns the cheapest publisher that the connection allows.
func newPublisher(c *conn) publisher {
	if p := newRaw(c); p != nil {
		return p
	}
	return newNATSPublisher(c.Conn)
}

// natsPublisher is a publisher over nats.go, which takes headers only as a map.
type natsPublisher struct {
	nc     *nats.Conn
	msg    nats.Msg
	values []string // backs the map's values
}

func newNATSPublisher(nc *nats.Conn) *natsPublisher {
	return &natsPublisher{nc: nc, msg: nats.Msg{Header: nats.Header{}}}
}

func (p *natsPublisher) publish(m *wireMessage, reply string) error {
	p.fill(m)
	p.msg.Reply = reply
	if err := p.nc.PublishMsg(&p.msg); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

// flush does nothing: nats.go writes by itself what it has gathered.
func (p *natsPublisher) flush() error { return nil }

// fill makes msg the message, until the next call.
func (p *natsPublisher) fill(m *wireMessage) {
	h := p.msg.Header
	clear(h)
	p.values = p.values[:0]
	for name, value := range m.fields() {
		if before, ok := h[name]; ok { // a user property given twice
			h[name] = append(before, value)
			continue
		}
		n := len(p.values)
		p.values = append(p.values, value)
		h[name] = p.values[n : n+1 : n+1]
	}
	p.msg.Subject, p.msg.Data = m.subject, m.body
}

// server names the server and its version for a log line, without a password.
func (c *conn) server() string {
	return secret.URL(c.ConnectedUrl()) + " " + c.ConnectedServerVersion()
}
