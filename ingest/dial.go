package ingest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/mqttetl/mqttetl"
)

const dialTimeout = 10 * time.Second

// stream is a connection whose Close drops the TCP connection at once: that of
// a TLS connection may wait for a peer that does not read.
type stream struct {
	net.Conn
	tcp net.Conn
}

func (s stream) Close() error { return s.tcp.Close() }

// dial opens the byte stream to the broker: TCP, TLS or WebSocket.
func (c *Config) dial(ctx context.Context, u *url.URL) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	switch u.Scheme {
	case "ws", "wss":
		return c.dialWebSocket(ctx, u)
	case "mqtts", "ssl", "tls":
		return c.dialTLS(ctx, u.Host)
	}
	return dialTCP(ctx, u.Host)
}

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 6,
	}}
	return d.DialContext(ctx, "tcp", address)
}

func (c *Config) dialTLS(ctx context.Context, address string) (net.Conn, error) {
	conf, err := c.TLS.config(address)
	if err != nil {
		return nil, err
	}
	tcp, err := dialTCP(ctx, address)
	if err != nil {
		return nil, err
	}
	t := tls.Client(tcp, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = tcp.Close()
		return nil, explain(fmt.Errorf("TLS with %s: %w", address, err))
	}
	return stream{t, tcp}, nil
}

// explain adds what can be done about a failed handshake.
func explain(err error) error {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	var plain tls.RecordHeaderError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return mqttetl.WithHint(err, "renew the broker's certificate, or set this machine's clock")
	case errors.As(err, &unknown):
		return mqttetl.WithHint(err, "tls.ca must name the file of the authority that signed the broker's certificate")
	case errors.As(err, &name):
		return mqttetl.WithHint(err, "set tls.server_name to a name that stands in the broker's certificate, or use it in url")
	case errors.As(err, &plain), errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return mqttetl.WithHint(err, "does this port speak TLS? 8883 is the usual one; without TLS it is mqtt://")
	}
	return err
}

// config reads the files and returns the client's TLS configuration.
func (t TLS) config(address string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{ServerName: host, InsecureSkipVerify: t.Insecure, MinVersion: tls.VersionTLS12}
	if t.ServerName != "" {
		conf.ServerName = t.ServerName
	}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, fmt.Errorf("read CA: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, mqttetl.WithHint(errors.New("read CA "+t.CA+": no certificate in it"), "the file must be PEM")
		}
	}
	if t.Cert != "" {
		cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}
