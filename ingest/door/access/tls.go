package access

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// OpenTLS reads the certificate of a listener and its key, and the authorities of
// which a client must have a certificate; "" for clientCA: it needs none. changed is told of each change.
func OpenTLS(cert, key, clientCA string, changed func(error)) (*File[tls.Config], error) {
	paths := []string{cert, key}
	if clientCA != "" {
		paths = append(paths, clientCA)
	}
	return open(func() (*tls.Config, error) { return readTLS(cert, key, clientCA) }, changed, paths...)
}

func readTLS(cert, key, clientCA string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("tls.cert %s and tls.key %s: %w", cert, key, err)
	}
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if clientCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(clientCA)
	if err != nil {
		return nil, err
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tls.client_ca %s holds no PEM certificate", clientCA)
	}
	return c, nil
}
