package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"github.com/mqttetl/mqttetl/internal/dial"
)

// CheckFiles reports what is wrong with the files that c names for TLS, as far
// as they can be read now. One that is missing or another user's is no error:
// it may be there, or readable, for the service.
func (c *Config) CheckFiles() error {
	var errs []error
	for _, s := range c.Sources {
		if err := checkFiles(&s.TLS); err != nil {
			errs = append(errs, fmt.Errorf("source %s: %w", s.Name, err))
		}
	}
	if c.NATS != nil {
		if err := checkFiles(&c.NATS.TLS); err != nil {
			errs = append(errs, fmt.Errorf("nats: %w", err))
		}
	}
	return errors.Join(errs...)
}

func checkFiles(t *dial.TLS) error {
	if pem, err := os.ReadFile(t.CA); err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return fmt.Errorf("tls.ca %s holds no PEM certificate", t.CA)
	}
	cert, err := os.ReadFile(t.Cert)
	if err != nil {
		return nil
	}
	key, err := os.ReadFile(t.Key)
	if err != nil {
		return nil
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return fmt.Errorf("tls.cert %s and tls.key %s: %w", t.Cert, t.Key, err)
	}
	return nil
}
