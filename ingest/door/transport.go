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
	"time"
	"unicode/utf8"
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

// listen listens. The socket that a process has left behind which is no more is replaced.
func listen(network, address string) (net.Listener, error) {
	l, err := net.Listen(network, address)
	if err == nil || network != "unix" {
		return l, err
	}
	if c, alive := net.DialTimeout(network, address, time.Second); alive == nil {
		_ = c.Close()
		return nil, err
	}
	info, stat := os.Lstat(address)
	if stat != nil || info.Mode().Type() != os.ModeSocket || os.Remove(address) != nil {
		return nil, err
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
