package forward

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl/internal/dial"
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
	d := newDialer(cfg.TLS)
	stop := context.AfterFunc(ctx, d.abort)
	defer stop()
	nc, err := d.Connect(ctx, cfg.URL, cfg.options(down)...)
	if err == nil && ctx.Err() != nil {
		nc.Close()
		err = ctx.Err()
	}
	if err != nil {
		d.abort()
		return nil, dial.Certificate(unavailable("connect to NATS", err))
	}
	return &conn{nc, d}, nil
}

// close drops the connection at once, with all that is still unsent.
func (c *conn) close() {
	c.net.abort()
	c.Close()
}

// ended is err or, if that says no more than that the connection is closed, why it is.
func (c *conn) ended(err error) error {
	why := c.LastError()
	if !errors.Is(err, nats.ErrConnectionClosed) || why == nil || errors.Is(why, io.EOF) || errors.Is(why, nats.ErrConnectionClosed) {
		return err
	}
	return unavailable("connection to NATS", why)
}

func (cfg *Config) options(down func(error)) []nats.Option {
	lost := func(nc *nats.Conn, err error) {
		if err == nil && !errors.Is(nc.LastError(), io.EOF) {
			err = nc.LastError() // what the connection's stream has said
		}
		if err == nil {
			err = errors.New("closed by the server")
		}
		down(unavailable("connection to NATS", err))
	}
	opts := []nats.Option{
		nats.Name("mqttetl"),
		nats.NoReconnect(),
		nats.Timeout(connectTimeout),
		nats.WriteBufferSize(natsBuffer),
		nats.PingInterval(pingInterval),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(lost),
		nats.ErrorHandler(func(nc *nats.Conn, _ *nats.Subscription, err error) { lost(nc, err) }),
	}
	if cfg.CredsFile != "" {
		opts = append(opts, nats.UserCredentials(cfg.CredsFile))
	}
	return opts
}

// dialer keeps hold of the TCP connection below nats.go's, whose own Close
// waits for a write that may be stuck, and sends what is buffered; and of the stream
// that nats.go has, to write to it past nats.go.
type dialer struct {
	dial.NATS
	mu     sync.Mutex
	dead   bool
	conn   net.Conn
	shared *shared
}

func newDialer(t TLS) *dialer {
	d := &dialer{NATS: dial.NATS{TLS: t, Timeout: connectTimeout}}
	d.Wrap, d.Outer = d.hold, d.share
	return d
}

func (d *dialer) hold(c net.Conn) net.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conn = c
	if d.dead {
		c.Close() // and whoever reads it is told
	}
	return c
}

func (d *dialer) share(c net.Conn) net.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shared = &shared{Conn: c}
	return d.shared
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

// server names the server and its version for a log line, without a password.
func (c *conn) server() string {
	return c.net.URL() + " " + c.ConnectedServerVersion()
}
