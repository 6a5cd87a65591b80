package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/internal/dial"
)

// issue writes name.pem and name.key, a certificate and its key, into dir.
func issue(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

func TestCheckFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := issue(t, dir, "a")
	_, other := issue(t, dir, "b")
	none := filepath.Join(dir, "none")
	for _, c := range []struct {
		tls  dial.TLS
		want string // "" for well
	}{
		{dial.TLS{}, ""},
		{dial.TLS{CA: cert, Cert: cert, Key: key}, ""},
		{dial.TLS{CA: none, Cert: none, Key: key}, ""},
		{dial.TLS{Cert: cert, Key: none}, ""},
		{dial.TLS{CA: key}, "tls.ca " + key + " holds no PEM certificate"},
		{dial.TLS{Cert: cert, Key: other}, "tls.cert " + cert + " and tls.key " + other + ": "},
	} {
		for where, cfg := range map[string]Config{
			"source plant: ": {Sources: []Source{{Name: "plant", TLS: c.tls}}}, "nats: ": {NATS: &NATS{TLS: c.tls}},
		} {
			err := cfg.CheckFiles()
			if (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), where+c.want) {
				t.Errorf("%+v: %v, want %q", c.tls, err, where+c.want)
			}
		}
	}
}
