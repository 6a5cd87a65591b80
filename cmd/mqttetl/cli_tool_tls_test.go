package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/test/servers"
)

// TestTLSRefused: each command says what is missing where TLS, the certificates
// or the port do not fit, with the same code.
func TestTLSRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := servers.NewAuthority(dir)
	if err != nil {
		t.Fatal(err)
	}
	var files [2][2]string
	for i, name := range []string{"me", "other"} {
		if files[i][0], files[i][1], err = a.Issue(name, time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	cert, key, otherKey := files[0][0], files[0][1], files[1][1]
	m, err := servers.StartMosquitto(dir, strings.Join([]string{
		"cafile " + a.CA(), "certfile " + cert, "keyfile " + key, "require_certificate true",
	}, "\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Kill()
	n, err := servers.StartNATSProcess(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer n.Kill()
	secure, tls := "mqtts://"+m.Addr, " --ca "+a.CA()
	for _, c := range []struct {
		name, url, more string
		code            int
		want            string
	}{
		{"no certificate", secure, tls, exitUnreachable, " a client certificate"},
		{"another's key", secure, tls + " --cert " + cert + " --key " + otherKey, exitIO, filepath.Base(otherKey) + " must hold the private key"},
		{"no file", secure, tls + " --cert " + cert + " --key nowhere.key", exitIO, "open nowhere.key"},
		{"a port of TLS", "mqtt://" + m.Addr, "", exitUnreachable, "hint: does this port speak MQTT, and without TLS?"},
		{"NATS", "mqtt://" + n.Addr(), "", exitUnreachable, "hint: this is no answer of an MQTT broker; a NATS server begins like this"},
	} {
		for _, line := range []string{"pub -t a -m b -L ", "sub -t a -V 5 -L ", "test -V auto -C 1 -t a -L ", "simulate --count 1 --to ", "simulate --count 1 -V 5 --to "} {
			r := call(t, strings.Fields(line+c.url+c.more)...)
			if r.code != c.code || !strings.Contains(r.err, c.want) || strings.Contains(r.err, "unavailable)") {
				t.Errorf("%s: %s: exit %d, want %d: %swant %s", c.name, line, r.code, c.code, r.err, c.want)
			}
		}
	}
}
