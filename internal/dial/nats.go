package dial

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/secret"
)

// NATS dials servers of NATS for nats.go. Whether TLS or WebSocket is below, nats.go reads
// a plain stream, and only what is within bounds: nats.go itself allocates what a
// message's size claims, and keeps a line however long it is. A NATS is used for one
// connection at a time.
type NATS struct {
	TLS     TLS
	Wrap    func(net.Conn) net.Conn // made around TCP; nil: nothing
	Outer   func(net.Conn) net.Conn // made around what nats.go gets; nil: nothing
	Timeout time.Duration           // of a Dial; 0: as for brokers
	// Messages is how many bytes a message may have that is not awaited (Expect), MaxAck at
	// least: the server's max_payload is the limit of those of a subscription.
	Messages int

	asked   awaited
	ctx     context.Context
	servers map[string]*url.URL // by host and port
	mu      sync.Mutex
	tcp     net.Conn
	failed  error    // of the latest Dial
	present *url.URL // of the latest Dial
}

// natsPorts are the schemes and their default ports.
var natsPorts = map[string]string{"nats": "4222", "tls": "4222", "ws": "80", "wss": "443"}

// Connect is nats.Connect to one of the servers of a comma list, and to no other: if
// a server names further ones, these do not get our login. ctx ends dialling.
func (d *NATS) Connect(ctx context.Context, list string, options ...nats.Option) (*nats.Conn, error) {
	d.ctx, d.servers = ctx, map[string]*url.URL{}
	var plain []string
	for text := range strings.SplitSeq(list, ",") {
		u, err := secret.ParseURL(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("NATS URL: %w", err)
		}
		port, ok := natsPorts[u.Scheme]
		if !ok {
			return nil, fmt.Errorf("NATS URL %s: the scheme must be nats, tls, ws or wss", secret.URL(text))
		}
		if u.Port() == "" {
			u.Host = net.JoinHostPort(u.Hostname(), port)
		}
		d.servers[u.Host] = u
		plain = append(plain, (&url.URL{Scheme: "nats", User: u.User, Host: u.Host}).String())
	}
	defer context.AfterFunc(ctx, d.drop)()
	options = append(options, nats.SetCustomDialer(d), nats.IgnoreDiscoveredServers(), nats.SkipHostLookup())
	nc, err := nats.Connect(strings.Join(plain, ","), options...)
	d.mu.Lock()
	defer d.mu.Unlock()
	if errors.Is(err, nats.ErrNoServers) && d.failed != nil {
		err = d.failed // says which address, and why
	}
	return nc, err
}

// hold keeps the TCP connection, so that drop can close it.
func (d *NATS) hold(c net.Conn) net.Conn {
	d.mu.Lock()
	d.tcp = c
	d.mu.Unlock()
	if d.Wrap != nil {
		return d.Wrap(c)
	}
	return c
}

// drop closes the TCP connection, which ends whoever waits for the server.
func (d *NATS) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tcp != nil {
		_ = d.tcp.Close()
	}
}

// URL is that of the server that was dialled last, without a password.
func (d *NATS) URL() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.present == nil {
		return ""
	}
	return secret.URL(d.present.String())
}

// Expect has the server send up to n bytes in messages that are larger than Messages, until
// done is called. If ctx, that of the question, has ended by then, the answer may still come
// late, and is expected for a while longer. A connection on which more comes ends before
// nats.go has allocated it.
func (d *NATS) Expect(ctx context.Context, n int) (done func()) {
	answered := d.asked.expect(n)
	return func() {
		if ctx.Err() == nil {
			answered()
			return
		}
		time.AfterFunc(lateAnswer, answered)
	}
}

// SkipTLSHandshake tells nats.go that Dial has made it.
func (d *NATS) SkipTLSHandshake() bool { return true }

// Dial implements nats.CustomDialer.
func (d *NATS) Dial(_, address string) (net.Conn, error) {
	u, ok := d.servers[address]
	if !ok {
		return nil, fmt.Errorf("server %s is not one of the URL", address)
	}
	ctx, cancel := context.WithTimeout(d.ctx, cmp.Or(d.Timeout, Timeout))
	defer cancel()
	c, err := d.open(ctx, u)
	if err == nil && d.Outer != nil {
		c = d.Outer(c)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed, d.present = err, u
	return c, err
}

func (d *NATS) open(ctx context.Context, u *url.URL) (net.Conn, error) {
	to := Dialer{TLS: d.TLS, wrap: d.hold, noMQTT: true}
	if WebSocket(u.Scheme) {
		c, err := to.webSocket(ctx, u)
		if err != nil {
			return nil, natsHint(err, "does this port speak NATS through WebSocket, at this path? Without it the URL is nats://, with TLS wss://")
		}
		return newGuard(c, d.Messages, &d.asked), nil
	}
	c, err := to.tcp(ctx, u.Host)
	if err != nil {
		return nil, natsHint(err, "start nats-server, or name its host and port: 4222 is the usual one")
	}
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline) // for a server that accepts and does not answer
	defer func() { _ = c.SetDeadline(time.Time{}) }()
	g, err := d.greet(ctx, c, u)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return g, nil
}

// natsHint adds a hint to the error of a server that cannot be reached. Other errors
// have a hint of their own.
func natsHint(err error, hint string) error {
	if errors.Is(err, mqttetl.ErrUnavailable) {
		return mqttetl.WithHint(err, hint)
	}
	return err
}

// greet reads the server's INFO, which comes in plain text, and makes TLS if the
// server or the URL asks for it.
func (d *NATS) greet(ctx context.Context, c net.Conn, u *url.URL) (*guard, error) {
	line, err := readLine(c)
	if err != nil {
		return nil, unreachable{fmt.Errorf("the server at %s says no INFO: %w", u.Host, err)}
	}
	var info struct {
		Required  bool `json:"tls_required"`
		Available bool `json:"tls_available"`
	}
	text, ok := bytes.CutPrefix(line, []byte("INFO "))
	if !ok || json.Unmarshal(text, &info) != nil {
		return nil, unreachable{fmt.Errorf("the server at %s does not speak NATS: %.40q", u.Host, line)}
	}
	asked := u.Scheme == "tls" || d.TLS.CA != "" || d.TLS.Cert != ""
	if asked && !info.Required && !info.Available {
		return nil, nats.ErrSecureConnWanted
	}
	if asked || info.Required {
		if c, err = d.TLS.Client(ctx, c, u.Hostname()); err != nil {
			return nil, err
		}
	}
	g := newGuard(c, d.Messages, &d.asked)
	g.first = line
	return g, nil
}

// readLine reads a line and not a byte more: TLS may follow.
func readLine(c net.Conn) (line []byte, err error) {
	for b := make([]byte, 1); len(line) < maxLine; {
		if _, err := c.Read(b); err != nil {
			return nil, err
		}
		if line = append(line, b[0]); b[0] == '\n' {
			return line, nil
		}
	}
	return nil, errLine
}
