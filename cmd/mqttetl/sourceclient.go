package main

import (
	"context"
	"net"
	"net/url"

	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/config"
	"github.com/mqttetl/mqttetl/internal/dial"
)

// connectSource logs in to the broker of a source, with its name and password,
// on a connection beside those that receive. u is the source's URL.
func connectSource(ctx context.Context, s *config.Source, u *url.URL, o client.Options) (*client.Client, error) {
	d := dial.Dialer{TLS: dial.TLS{
		CA: s.TLS.CA, Cert: s.TLS.Cert, Key: s.TLS.Key, ServerName: s.TLS.ServerName, Insecure: s.TLS.Insecure,
	}}
	o.Username = s.Username
	if u.User != nil && s.Username == "" {
		o.Username = u.User.Username()
		if password, ok := u.User.Password(); ok {
			o.Password = []byte(password)
		}
	}
	if s.HasPassword() {
		password, err := s.ReadPassword()
		if err != nil {
			return nil, err
		}
		o.Password = []byte(password)
	}
	return client.ConnectAuto(ctx, func(ctx context.Context) (net.Conn, error) { return d.Dial(ctx, u) }, o)
}
