package forward

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

	"github.com/nats-io/nats-server/v2/server"
)

func TestNewRefuses(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"scheme":            func(c *Config) { c.URL = "nats://a:1,http://b" },
		"no host":           func(c *Config) { c.URL = "nats://" },
		`stream ""`:         func(c *Config) { c.Stream = "" },
		`stream "a.b"`:      func(c *Config) { c.Stream = "a.b" },
		"an empty token":    func(c *Config) { c.SubjectPrefix = "a..b" },
		"printable ASCII":   func(c *Config) { c.SubjectPrefix = "a.>" },
		"reserved":          func(c *Config) { c.SubjectPrefix = "$JS.API" },
		"longer than 128":   func(c *Config) { c.SubjectPrefix = strings.Repeat("a", 129) },
		"belong together":   func(c *Config) { c.TLS.Cert = "x.pem" },
		`log id ""`:         func(c *Config) { c.LogID = "" },
		`log id "a\r\nb"`:   func(c *Config) { c.LogID = "a\r\nb" },
		`subject prefix ""`: func(c *Config) { c.SubjectPrefix = "" },
	} {
		cfg := Config{URL: "nats://127.0.0.1:4222", Stream: "T", SubjectPrefix: "mqtt", LogID: testLogID}
		change(&cfg)
		if _, err := New(cfg, newMemLog()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New: %v, want an error with %q", err, want)
		}
	}
	if _, err := New(Config{URL: "nats://u:p@a:4222, tls://b", Stream: "T", SubjectPrefix: "site.mqtt", LogID: testLogID}, newMemLog()); err != nil {
		t.Error(err)
	}
}

func TestCovers(t *testing.T) {
	for _, c := range []struct {
		pattern, prefix string
		want            bool
	}{
		{"mqtt.>", "mqtt", true},
		{">", "mqtt", true},
		{"*.>", "mqtt", true},
		{"site.>", "site.mqtt", true},
		{"site.*.>", "site.mqtt", true},
		{"mqtt.*", "mqtt", false},
		{"mqtt.a.>", "mqtt", false},
		{"mqtt", "mqtt", false},
		{"other.>", "mqtt", false},
		{"*.*.>", "mqtt", false},
	} {
		if got := covers(c.pattern, c.prefix); got != c.want {
			t.Errorf("covers(%q, %q) = %v", c.pattern, c.prefix, got)
		}
	}
}

func TestWrongPassword(t *testing.T) {
	n := startNATS(t, func(o *server.Options) { o.Username, o.Password = "etl", "right" })
	l := newMemLog()
	l.grow(1)
	login := func(password string) string { return strings.Replace(n.URL(), "://", "://etl:"+password+"@", 1) }
	r := forward(t, login("wrong"), l)
	r.log.await(t, "Authorization Violation")
	for count(t, r.metrics.errors) < 4 {
		waitTick(t)
	}
	if c := r.log.count("level=WARN"); c != 1 {
		t.Errorf("said %d times, want once", c)
	}
	if r.log.count("wrong") > 0 {
		t.Error("the password is in the log")
	}
	r.stop(t)
	forward(t, login("right"), l)
	l.await(t, 1)
}

func TestMutualTLS(t *testing.T) {
	dir := t.TempDir()
	ca := newCertificate(t, dir, "ca", nil)
	cert := newCertificate(t, dir, "server", ca)
	newCertificate(t, dir, "client", ca)
	pool := x509.NewCertPool()
	pool.AddCert(ca.Leaf)
	n := startNATS(t, func(o *server.Options) {
		o.TLS, o.TLSTimeout = true, 5
		o.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	})
	l := newMemLog()
	l.grow(1000)
	file := func(name string) string { return filepath.Join(dir, name) }
	r := forward(t, n.URL(), l, func(c *Config) { c.TLS.CA = file("ca.pem") })
	r.log.await(t, "trying again") // no certificate of ours
	r.stop(t)
	forward(t, n.URL(), l, func(c *Config) { c.TLS = TLS{CA: file("ca.pem"), Cert: file("client.pem"), Key: file("client.key")} })
	l.await(t, 1000)
}

// newCertificate writes name.pem and name.key, signed by ca or, with nil, by itself.
func newCertificate(t *testing.T, dir, name string, ca *tls.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: ca == nil, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := tmpl, key
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey.(*ecdsa.PrivateKey)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		name + ".pem": {Type: "CERTIFICATE", Bytes: der},
		name + ".key": {Type: "EC PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
