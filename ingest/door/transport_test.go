package door

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/ingest/door/access"
	"github.com/mqttetl/mqttetl/internal/wire"
	"github.com/mqttetl/mqttetl/test/servers"
)

// TestTLS: a client with a certificate comes in under its common name, one without
// does not, and a renewed certificate is in force without a restart.
func TestTLS(t *testing.T) {
	a, err := servers.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	issue := func(name string) (cert, key string) {
		if cert, key, err = a.Issue(name, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	cert, key := issue("broker")
	mine, mineKey := issue("device")
	log := newFakeLog()
	acl := file(t, "acl", "user device\ntopic write ok\nuser device.test\ntopic write ok\n")
	d := open(t, log, Config{URL: "mqtts://127.0.0.1:0", Cert: cert, Key: key, ClientCA: a.CA(), CommonName: true, ACLFile: acl})
	pem, err := os.ReadFile(a.CA())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(mine, mineKey)
	if err != nil {
		t.Fatal(err)
	}
	serial := func(certificates ...tls.Certificate) (r raw, number string) {
		nc, err := tls.Dial("tcp", d.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "broker.test", Certificates: certificates})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		return raw{nc, t}, nc.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	r, first := serial(pair)
	r.send(login(v311, "a"), message(2, "ok", 1, false, "x"))
	if got := r.read(8); got != "2002000040020001" {
		t.Errorf("a client with a certificate gets %s", got)
	}
	if got := log.texts(); !slices.Equal(got, []string{"ok=x"}) {
		t.Errorf("records %q", got)
	}
	without, _ := serial()
	_, _ = without.Write(login(v311, "b"))
	_ = without.SetReadDeadline(time.Now().Add(patience))
	if n, err := without.Read(make([]byte, 4)); err == nil {
		t.Errorf("a client without a certificate gets %d bytes", n)
	}
	issue("broker")
	await(t, "the renewed certificate", func() bool {
		again, now := serial(pair)
		_ = again.Close()
		return now != first
	})
	r.send([]byte{0xc0, 0})
	if got := r.read(2); got != "d000" {
		t.Errorf("then PINGREQ gets %s", got)
	}
}

// TestUnix: a Unix socket, also where a process that was killed has left one.
func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mqtt.sock")
	left, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	left.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = left.Close()
	log := newFakeLog()
	open(t, log, Config{URL: "unix://" + path})
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	r := raw{nc, t}
	r.send(login(wire.Version311, "a"), message(2, "t", 1, false, "x"))
	if got := r.read(8); got != "2002000040020001" {
		t.Errorf("the client gets %s", got)
	}
	if _, err := Open(Config{Name: "b", URL: "unix://" + path, Anonymous: true}, log); err == nil {
		t.Error("a socket at which somebody listens is taken away")
	}
	other := file(t, "file", "")
	if _, err := Open(Config{Name: "b", URL: "unix://" + other, Anonymous: true}, log); err == nil {
		t.Error("a file that is no socket is taken away")
	}
}

// TestBrokenFiles: a listener does not start with a file that cannot be used.
func TestBrokenFiles(t *testing.T) {
	broken := file(t, "users", "ann:secret\n")
	for _, cfg := range []Config{
		{PasswordFile: broken}, {ACLFile: broken, Anonymous: true}, {PasswordFile: broken + "x"},
		{URL: "mqtts://127.0.0.1:0", Cert: broken, Key: broken, Anonymous: true}, {}, {URL: "ws://127.0.0.1:0", Anonymous: true},
	} {
		cfg.Name = "door"
		if cfg.URL == "" {
			cfg.URL = "mqtt://127.0.0.1:0"
		}
		if d, err := Open(cfg, newFakeLog()); err == nil {
			t.Errorf("%+v starts", cfg)
			_ = d.Close()
		}
	}
	if _, err := access.OpenTLS(broken, broken, "", nil); err == nil {
		t.Error("a broken certificate is taken")
	}
}
