package ingest

import (
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/test/servers"
)

// issue makes a certificate of a new or given authority that ends in d.
func issue(t *testing.T, a *servers.Authority, name string, d time.Duration) (cert, key string) {
	t.Helper()
	cert, key, err := a.Issue(name, time.Now().Add(d))
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func newAuthority(t *testing.T) *servers.Authority {
	t.Helper()
	a, err := servers.NewAuthority(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	cert, key := issue(t, a, "broker", time.Hour)
	m := startMosquitto(t, strings.Join([]string{
		"cafile " + a.CA(), "certfile " + cert, "keyfile " + key, "require_certificate true",
	}, "\n"))
	log, lines := newFakeLog(t), &logLines{}
	mine, mineKey := strings.Replace(cert, "broker.pem", "client.pem", 1), strings.Replace(key, "broker.key", "client.key", 1)
	cfg := Config{URL: "mqtts://" + m.Addr, ClientID: "c", Subscribe: []string{"#"}, QoS: 1, Logger: lines.logger(),
		TLS: TLS{CA: a.CA(), Cert: mine, Key: mineKey, ServerName: "broker.test"}}
	s := newSource(t, cfg, log)
	start(t, s)
	eventually(t, "the missing file is told", func() bool { return lines.count("client.pem: no such file") == 1 })
	issue(t, a, "client", time.Hour) // files are read at every connect
	subscribed(t, s)
	publishLines(t, m.Addr, "t", 1, []string{"secret"}, "--cafile", a.CA(), "--cert", mine, "--key", mineKey)
	wantPayloads(t, log, []string{"secret"})
	eventually(t, "ack", func() bool { return s.Stats().Acknowledged == 1 })

	cfg.TLS.CA, cfg.TLS.Insecure, cfg.ClientID = "", true, "e"
	insecure := newSource(t, cfg, newFakeLog(t))
	start(t, insecure)
	subscribed(t, insecure)
}

// A broker that wants a certificate of ours says so, with TLS 1.3 after the
// handshake, or resets the connection. The remedy is told.
func TestCertificateIsMissing(t *testing.T) {
	a := newAuthority(t)
	cert, key := issue(t, a, "broker", time.Hour)
	for _, version := range []string{"tlsv1.3", "tlsv1.2"} {
		m := startMosquitto(t, "cafile "+a.CA()+"\ncertfile "+cert+"\nkeyfile "+key+"\nrequire_certificate true\ntls_version "+version)
		lines := &logLines{}
		s := newSource(t, Config{URL: "mqtts://" + m.Addr, ClientID: "c", Subscribe: []string{"#"}, Logger: lines.logger(),
			TLS: TLS{CA: a.CA(), ServerName: "broker.test"}}, newFakeLog(t))
		start(t, s)
		eventually(t, "the remedy", func() bool { return lines.count(" a client certificate") > 0 })
	}
}
