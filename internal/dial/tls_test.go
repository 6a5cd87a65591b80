package dial

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
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

	"github.com/mqttetl/mqttetl"
)

// serveTLS shakes hands with a certificate for those names, which stands in ca.
func serveTLS(t *testing.T, commonName string, dns []string, ips []net.IP) (port, ca string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: commonName}, DNSNames: dns, IPAddresses: ips,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).Handshake() // the client says what is wrong
			c.Close()
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, ca
}

// The hint names what the certificate lacks, or the names that it has.
func TestCertificateForAnotherName(t *testing.T) {
	for name, c := range map[string]struct {
		commonName string
		dns        []string
		ips        []net.IP
		host       string
		hint       string
	}{
		"only a common name, the right one": {"localhost", nil, nil, "localhost", `its common name, "localhost", is not looked at (RFC 9525): issue one with subjectAltName=DNS:localhost`},
		"only a common name, an address":    {"127.0.0.1", nil, nil, "127.0.0.1", `the certificate has no subjectAltName; its common name, "127.0.0.1", is not looked at (RFC 9525): issue one with subjectAltName=IP:127.0.0.1`},
		"only a common name, another":       {"broker", nil, nil, "localhost", "issue one with subjectAltName=DNS:localhost"},
		"no name at all":                    {"", nil, nil, "localhost", "issue one with subjectAltName=DNS:localhost"},
		"other names":                       {"x", []string{"broker.test", "b.test"}, []net.IP{{127, 0, 0, 2}}, "127.0.0.1", "connect by a name that is in the certificate, broker.test, b.test, 127.0.0.2 (tls.server_name is one to expect), or issue one with subjectAltName=IP:127.0.0.1"},
		"the right name":                    {"x", []string{"localhost"}, nil, "localhost", ""},
	} {
		t.Run(name, func(t *testing.T) {
			port, ca := serveTLS(t, c.commonName, c.dns, c.ips)
			u, err := URL("mqtts://" + c.host + ":" + port)
			if err != nil {
				t.Fatal(err)
			}
			d := Dialer{TLS: TLS{CA: ca}}
			conn, err := d.Dial(t.Context(), u)
			if err == nil {
				conn.Close()
			}
			if hint := mqttetl.Hint(err); !strings.HasSuffix(hint, c.hint) || (err == nil) != (c.hint == "") {
				t.Errorf("%v, hint %q, want %q", err, hint, c.hint)
			}
		})
	}
}
