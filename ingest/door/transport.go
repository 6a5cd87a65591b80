package door

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/mqttetl/mqttetl"
)

// address is what to listen on.
func (c *Config) address() (network, address string, err error) {
	u, err := url.Parse(c.URL)
	if err != nil {
		return "", "", err
	}
	port := "1883"
	switch u.Scheme {
	case "unix":
		return "unix", u.Path, nil
	case "mqtts", "ssl", "tls":
		port = "8883"
	case "mqtt", "tcp":
	default:
		return "", "", fmt.Errorf("listen on %q: want mqtt://host:port, mqtts://host:port or unix:///path", c.URL)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	return "tcp", net.JoinHostPort(u.Hostname(), port), nil
}

// listen listens. An error says what to do.
func listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if err != nil && network == "unix" {
		l, err = replaceSocket(address, err)
	}
	if err == nil {
		return l, nil
	}
	hint := "listen[].url must be an address of this machine, or a socket in a directory that is there"
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "another process has this address, perhaps a broker or a second mqttetl; stop it or change listen[].url"
	case errors.Is(err, syscall.EACCES):
		hint = "ports below 1024 need root or CAP_NET_BIND_SERVICE; a socket needs a directory that the user of the service may write to"
	}
	return nil, mqttetl.WithHint(err, hint)
}

// replaceSocket listens in place of a process that is no more, and has left its socket.
func replaceSocket(address string, inUse error) (net.Listener, error) {
	const network = "unix"
	if c, alive := net.DialTimeout(network, address, time.Second); alive == nil {
		_ = c.Close()
		return nil, inUse
	}
	info, stat := os.Lstat(address)
	if stat != nil || info.Mode().Type() != os.ModeSocket || os.Remove(address) != nil {
		return nil, inUse
	}
	return net.Listen(network, address)
}

// A secured connection is TLS. To close it waits for nothing.
type secured struct {
	*tls.Conn
	raw net.Conn
}

func (s secured) Close() error { return s.raw.Close() }

// secure does the handshake where the listener has TLS. The deadline of nc bounds it.
func (d *Door) secure(nc net.Conn) (net.Conn, error) {
	if d.tls == nil {
		return nc, nil
	}
	c := tls.Server(nc, d.tls.Get(time.Now().UnixNano()))
	if err := c.HandshakeContext(context.Background()); err != nil {
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secured{c, nc}, nil
}

// commonName is the name of a client in its certificate.
func commonName(nc net.Conn) (string, error) {
	s, ok := nc.(secured)
	if !ok {
		return "", errors.New("a client without TLS")
	}
	var chain []*x509.Certificate
	if chain = s.ConnectionState().PeerCertificates; len(chain) == 0 {
		return "", errors.New("a client without a certificate")
	}
	name := chain[0].Subject.CommonName
	if name == "" || !utf8.ValidString(name) {
		return "", errors.New("a client whose certificate has no common name")
	}
	return name, nil
}
