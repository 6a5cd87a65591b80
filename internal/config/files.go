package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/mqttetl/mqttetl/ingest/door/access"
	"github.com/mqttetl/mqttetl/internal/dial"
)

// CheckFiles reports what is wrong with the files that c names for TLS and for
// listeners, as far as they can be read now. One that is missing or another user's is no error:
// it may be there, or readable, for the service.
func (c *Config) CheckFiles() error {
	var errs []error
	for _, s := range c.Sources {
		if err := checkFiles(&s.TLS); err != nil {
			errs = append(errs, fmt.Errorf("source %s: %w", s.Name, err))
		}
	}
	for i := range c.Listen {
		if err := c.Listen[i].checkFiles(); err != nil {
			errs = append(errs, fmt.Errorf("listener %s: %w", c.Listen[i].Name, err))
		}
	}
	if c.NATS != nil {
		if err := checkFiles(&c.NATS.TLS); err != nil {
			errs = append(errs, fmt.Errorf("nats: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (l *Listener) checkFiles() (err error) {
	if l.PasswordFile != "" {
		_, err = access.OpenPasswords(l.PasswordFile, nil)
	}
	if l.ACLFile != "" && !broken(err) {
		_, err = access.OpenACL(l.ACLFile, nil)
	}
	if l.Cert != "" && !broken(err) {
		_, err = access.OpenTLS(l.Cert, l.Key, l.ClientCA, nil)
	}
	if broken(err) {
		return err
	}
	return nil
}

// broken says that a file was read, and something is wrong with what it says.
func broken(err error) bool {
	path := (*fs.PathError)(nil)
	return err != nil && !errors.As(err, &path)
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
