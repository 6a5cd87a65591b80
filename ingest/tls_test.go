package ingest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority is a CA whose certificates live in files of dir.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.issue(t, "ca", nil)
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// issue writes name.pem and name.key, signed by the authority or by itself.
func (a *authority) issue(t *testing.T, name string, usage []x509.ExtKeyUsage) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: usage, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"broker.test"},
		IsCA: a.cert == nil, BasicConstraintsValid: true,
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a.write(t, name+".pem", "CERTIFICATE", der)
	a.write(t, name+".key", "PRIVATE KEY", keyDER)
	c, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(a.file(name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	a.issue(t, "broker", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth})
	m := startMosquitto(t, strings.Join([]string{
		"cafile " + a.file("ca.pem"), "certfile " + a.file("broker.pem"), "keyfile " + a.file("broker.key"),
		"require_certificate true",
	}, "\n"))
	log, lines := newFakeLog(t), &logLines{}
	cfg := Config{URL: "mqtts://" + m.Addr, ClientID: "c", Subscribe: []string{"#"}, QoS: 1, Logger: lines.logger(),
		TLS: TLS{CA: a.file("ca.pem"), Cert: a.file("client.pem"), Key: a.file("client.key"), ServerName: "broker.test"}}
	s := newSource(t, cfg, log)
	start(t, s)
	eventually(t, "the missing file is told", func() bool { return lines.count("client.pem: no such file") == 1 })
	a.issue(t, "client", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) // files are read at every connect
	subscribed(t, s)
	publishLines(t, m.Addr, "t", 1, []string{"secret"}, "--cafile", a.file("ca.pem"),
		"--cert", a.file("client.pem"), "--key", a.file("client.key"))
	wantPayloads(t, log, []string{"secret"})
	eventually(t, "ack", func() bool { return s.Stats().Acknowledged == 1 })

	cfg.TLS.CA, cfg.ClientID = "", "d"
	other := newSource(t, cfg, newFakeLog(t))
	start(t, other)
	eventually(t, "an unknown authority is refused", func() bool { return lines.count("unknown authority") == 1 })
	if lines.count("tls.ca must name the file") != 1 {
		t.Errorf("no hint:\n%s", lines)
	}
	cfg.TLS.Insecure, cfg.ClientID = true, "e"
	third := newSource(t, cfg, newFakeLog(t))
	start(t, third)
	subscribed(t, third)
}
