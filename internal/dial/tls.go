package dial

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/mqttetl/mqttetl"
)

// TLS says how the broker is verified and the client identified. Files are PEM
// and are read at every Dial, so that certificates can be renewed meanwhile.
type TLS struct {
	CA         string    // file with the accepted authorities; empty: the system's
	CAPath     string    // directory of such files, in addition to CA
	Cert, Key  string    // files of the client certificate, both or none
	ServerName string    // expected name and SNI, if it is not the URL's host
	ALPN       []string  // protocols to offer; a WebSocket offers http/1.1
	Version    uint16    // the only accepted version of TLS; 0: 1.2 and later
	AnyName    bool      // the certificate may be for another host
	Insecure   bool      // any certificate is accepted
	KeyLog     io.Writer // gets the session keys, as SSLKEYLOGFILE does; nil: nobody
}

// stream is a connection whose Close drops the TCP connection at once: that of
// a TLS connection may wait for a peer that does not read.
type stream struct {
	net.Conn
	tcp net.Conn
}

func (s stream) Close() error { return s.tcp.Close() }

// Read adds what can be done where the peer ends TLS with an alert. With TLS 1.3
// it looks at our certificate when the handshake is over for us (RFC 8446 §4.6.2).
func (s stream) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err != nil {
		err = Certificate(err)
	}
	return n, err
}

// Alert says that err is an alert by which the peer ended TLS.
func Alert(err error) bool {
	var network *net.OpError
	return errors.As(err, &network) && network.Op == "remote error"
}

func (d *Dialer) tls(ctx context.Context, address string, alpn []string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	t := d.TLS
	t.ALPN = alpn
	conf, err := t.config(host)
	if err != nil {
		return nil, err
	}
	tcp, err := d.tcp(ctx, address)
	if err != nil {
		return nil, err
	}
	return client(ctx, tcp, address, conf)
}

// Client makes TLS with host over an open connection, which it closes where
// that fails.
func (t *TLS) Client(ctx context.Context, tcp net.Conn, host string) (net.Conn, error) {
	conf, err := t.config(host)
	if err != nil {
		_ = tcp.Close()
		return nil, err
	}
	return client(ctx, tcp, host, conf)
}

func client(ctx context.Context, tcp net.Conn, peer string, conf *tls.Config) (net.Conn, error) {
	t := tls.Client(tcp, conf)
	if err := t.HandshakeContext(ctx); err != nil {
		_ = tcp.Close()
		return nil, explain(fmt.Errorf("TLS with %s: %w", peer, err))
	}
	return stream{t, tcp}, nil
}

// explain adds what can be done about a failed handshake.
func explain(err error) error {
	var plain tls.RecordHeaderError
	var network *net.OpError
	switch {
	case errors.Is(err, io.EOF), errors.As(err, &network) && !Alert(err):
		return mqttetl.WithHint(unreachable{err}, "does this port speak TLS? 8883 is the usual one; without TLS it is mqtt://")
	case errors.As(err, &plain):
		return mqttetl.WithHint(err, "does this port speak TLS? 8883 is the usual one; without TLS it is mqtt://")
	}
	return Certificate(err)
}

// Certificate adds to an error about a server's certificate, or the server's about
// ours, what can be done.
func Certificate(err error) error {
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return mqttetl.WithHint(err, "renew the server's certificate, or set this machine's clock")
	case errors.As(err, &unknown):
		return mqttetl.WithHint(err, "the CA file (tls.ca, --ca, --cafile) must hold the authority that signed the server's certificate")
	case errors.As(err, &name):
		return mqttetl.WithHint(err, hintName(name))
	case Alert(err) && aboutClient.MatchString(err.Error()):
		return mqttetl.WithHint(err, "the server wants a client certificate from an authority that it trusts: tls.cert and tls.key, --cert and --key")
	}
	return err
}

// aboutClient matches the alerts of a server that does not accept who we are
// (RFC 8446 §6.2). One of TLS 1.2 may say of a missing certificate only that the
// handshake failed.
var aboutClient = regexp.MustCompile("certificate|access denied|handshake failure")

// hintName is about a certificate that is for another name.
func hintName(e x509.HostnameError) string {
	san := "DNS:" + e.Host
	if net.ParseIP(e.Host) != nil {
		san = "IP:" + e.Host
	}
	c, issue := e.Certificate, "issue one with subjectAltName="+san
	var names []string
	names = append(names, c.DNSNames...)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) > 0 {
		return "connect by a name that is in the certificate, " + strings.Join(names, ", ") + " (tls.server_name is one to expect), or " + issue
	}
	return fmt.Sprintf("the certificate has no subjectAltName; its common name, %q, is not looked at (RFC 9525): %s", c.Subject.CommonName, issue)
}

// config reads the files and returns the client's TLS configuration.
func (t *TLS) config(host string) (*tls.Config, error) {
	conf := &tls.Config{
		ServerName: host, MinVersion: tls.VersionTLS12, NextProtos: t.ALPN,
		InsecureSkipVerify: t.Insecure || t.AnyName, KeyLogWriter: t.KeyLog,
	}
	if t.ServerName != "" {
		conf.ServerName = t.ServerName
	}
	if t.Version != 0 {
		conf.MinVersion, conf.MaxVersion = t.Version, t.Version
	}
	var err error
	if conf.RootCAs, err = t.authorities(); err != nil {
		return nil, err
	}
	if t.AnyName && !t.Insecure {
		conf.VerifyConnection = func(s tls.ConnectionState) error { return verifyChain(s, conf.RootCAs) }
	}
	if t.Cert != "" {
		cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
		if err != nil {
			return nil, badPair(t.Cert, t.Key, err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	return conf, nil
}

// authorities are the accepted ones; nil means the system's.
func (t *TLS) authorities() (*x509.CertPool, error) {
	if t.CA == "" && t.CAPath == "" {
		return nil, nil
	}
	var files []string
	if t.CA != "" {
		files = append(files, t.CA)
	}
	pool := x509.NewCertPool()
	found := 0
	if t.CAPath != "" {
		entries, err := os.ReadDir(t.CAPath)
		if err != nil {
			return nil, fmt.Errorf("read CA directory: %w", err)
		}
		for _, e := range entries {
			if !e.IsDir() {
				files = append(files, filepath.Join(t.CAPath, e.Name()))
			}
		}
	}
	for _, f := range files {
		pem, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read CA: %w", err)
		}
		if pool.AppendCertsFromPEM(pem) {
			found++
		} else if f == t.CA {
			return nil, noCertificate(t.CA)
		}
	}
	if found == 0 {
		return nil, noCertificate(t.CAPath)
	}
	return pool, nil
}

// CheckCA reads a file of authorities and holds it to be one.
func CheckCA(path string) error {
	pem, err := os.ReadFile(path)
	if err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		err = noCertificate(path)
	}
	return err
}

func noCertificate(path string) error {
	return mqttetl.WithHint(&fs.PathError{Op: "read CA", Path: path, Err: errors.New("no certificate in it")}, "it must be PEM")
}

// badPair is the error of a client certificate that cannot be used. One of a file
// that cannot be read names that file.
func badPair(cert, key string, err error) error {
	if errors.As(err, new(*fs.PathError)) {
		return fmt.Errorf("read client certificate: %w", err)
	}
	return mqttetl.WithHint(&fs.PathError{Op: "read client certificate", Path: cert, Err: err},
		key+" must hold the private key of this certificate, both as PEM and without a passphrase")
}

// verifyChain verifies everything about the broker's certificate but its name.
func verifyChain(s tls.ConnectionState, roots *x509.CertPool) error {
	o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		o.Intermediates.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(o)
	return err
}
