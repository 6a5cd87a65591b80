// Package dial opens the stream of bytes to an MQTT broker or a NATS server: TCP, TLS,
// WebSocket, secure WebSocket or a Unix socket. Its invariant: a stream that it
// returns can be closed at any moment without waiting for the peer, and one
// Write is one TLS record or one WebSocket message.
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/secret"
)

// Timeout bounds everything up to the first byte of MQTT.
const Timeout = 10 * time.Second

// Dialer says how to reach a broker. The zero value will do for most.
type Dialer struct {
	TLS   TLS
	Local string   // local host or address to connect from; empty: the system chooses
	Unix  string   // path of a Unix socket that takes the place of the URL's host
	Proxy *url.URL // a SOCKS5 proxy as Proxy returns it; it resolves the host's name

	wrap   func(net.Conn) net.Conn // made around TCP; nil: nothing
	noMQTT bool                    // a WebSocket for something else
}

// ports are the accepted schemes and their default ports.
var ports = map[string]string{
	"mqtt": "1883", "tcp": "1883",
	"mqtts": "8883", "ssl": "8883", "tls": "8883",
	"ws": "80", "wss": "443",
}

// URL parses the URL of a broker and completes it with the default port of its
// scheme: mqtt, mqtts, ws, wss, or an alias: tcp, ssl, tls.
func URL(text string) (*url.URL, error) {
	u, err := secret.ParseURL(text)
	if err != nil {
		return nil, fmt.Errorf("broker URL: %w", err)
	}
	port, ok := ports[u.Scheme]
	if !ok {
		return nil, fmt.Errorf("broker URL %s: the scheme is none of mqtt, mqtts, ws, wss, tcp, ssl, tls", secret.URL(u.String()))
	}
	if u.Hostname() == "" {
		return nil, fmt.Errorf("broker URL %s: no host", secret.URL(u.String()))
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), port)
	}
	if n, err := strconv.ParseUint(u.Port(), 10, 16); err != nil || n == 0 {
		return nil, fmt.Errorf("broker URL %s: port %s is not from 1 to 65535", secret.URL(u.String()), u.Port())
	}
	return u, nil
}

// NoBroker says who else may have sent a first packet that is no CONNACK, by its
// first byte.
func NoBroker(first byte) string {
	who := "this is no answer of an MQTT broker"
	switch first {
	case 'I': // INFO {…
		who += "; a NATS server begins like this"
	case 'H': // HTTP/1.1 400 …
		who += "; an HTTP server begins like this, for MQTT over WebSocket use ws://"
	case 0x15: // an alert (RFC 8446 §5.1)
		who += "; this port may want TLS, mqtts://"
	}
	return who
}

// Silence is the hint about a peer that closes the connection, or says nothing,
// instead of answering CONNECT.
func Silence(secure bool) string {
	if secure {
		return "does this port speak MQTT? And does the broker want a client certificate, tls.cert and tls.key, --cert and --key?"
	}
	return "does this port speak MQTT, and without TLS? 1883 is the usual one, 8883 with mqtts://"
}

// Secure says of a URL's scheme that the stream is encrypted.
func Secure(scheme string) bool {
	switch scheme {
	case "mqtts", "ssl", "tls", "wss":
		return true
	}
	return false
}

// WebSocket says of a URL's scheme that the stream is one.
func WebSocket(scheme string) bool { return scheme == "ws" || scheme == "wss" }

// ErrNotTLS: TLS is asked for, and the URL is one without it. Else whoever names
// an authority might believe that the broker is verified.
var ErrNotTLS = errors.New("a CA or certificate means nothing there")

// Fits says whether TLS settings and URL fit together: ErrNotTLS with a hint if
// they do not. Dial says so too.
func (t *TLS) Fits(u *url.URL) error {
	if Secure(u.Scheme) || t.CA == "" && t.CAPath == "" && t.Cert == "" {
		return nil
	}
	return mqttetl.WithHint(fmt.Errorf("%s is without TLS: %w", secret.URL(u.String()), ErrNotTLS), "with TLS the URL is mqtts:// or wss://")
}

// Dial opens the stream to u, which must be complete as URL returns it. A
// broker that cannot be reached is an error that wraps mqttetl.ErrUnavailable;
// a file that cannot be read or a certificate that is not trusted is not.
func (d *Dialer) Dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	if err := d.TLS.Fits(u); err != nil {
		return nil, err
	}
	switch {
	case WebSocket(u.Scheme):
		return d.webSocket(ctx, u)
	case Secure(u.Scheme):
		return d.tls(ctx, u.Host, d.TLS.ALPN)
	}
	return d.tcp(ctx, u.Host)
}

// unreachable is an error of the network; it keeps its own text.
type unreachable struct{ error }

func (u unreachable) Unwrap() []error { return []error{u.error, mqttetl.ErrUnavailable} }

func (d *Dialer) tcp(ctx context.Context, address string) (net.Conn, error) {
	n := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 6,
	}}
	network := "tcp"
	if d.Unix != "" {
		network, address = "unix", d.Unix
	} else if d.Local != "" {
		local, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(d.Local, "0"))
		if err != nil {
			return nil, fmt.Errorf("local address: %w", err)
		}
		n.LocalAddr = local
	}
	dial := n.DialContext
	if d.Proxy != nil {
		var err error
		if dial, err = through(d.Proxy, &n); err != nil {
			return nil, err
		}
	}
	c, err := dial(ctx, network, address)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil, mqttetl.WithHint(unreachable{err}, "start the broker, or name its host and port: 1883 is the usual one, with TLS 8883")
	}
	if err != nil {
		return nil, Network(unreachable{err})
	}
	if d.wrap != nil {
		c = d.wrap(c)
	}
	return c, nil
}

// Network adds to an error of dialling what can be done, where the error alone
// does not say it.
func Network(err error) error {
	var unknown *net.DNSError
	switch {
	case errors.As(err, &unknown) && unknown.IsNotFound:
		return mqttetl.WithHint(err, "nothing is known by the name "+unknown.Name+": check its spelling, the DNS of this machine and /etc/hosts")
	case errors.As(err, &unknown):
		return mqttetl.WithHint(err, "the DNS of this machine does not answer: check /etc/resolv.conf, or give an address")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return mqttetl.WithHint(err, "this machine has no way to that address: check the address, the network and its routes")
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return mqttetl.WithHint(err, "a firewall of this machine, or the permissions of the socket, forbid it to this user")
	}
	return err
}
