package main

import (
	"context"
	"log/slog"
	"net"
	"net/url"

	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/config"
)

// connectSource logs in to the broker of a source, with its name and password,
// on a connection beside those that receive. u is the source's URL.
func connectSource(ctx context.Context, s *config.Source, u *url.URL, o client.Options) (_ *client.Client, err error) {
	c := ingestConfig(*s, slog.New(slog.DiscardHandler), nil)
	var password string
	if o.Username, password, err = c.Login(u); err != nil {
		return nil, err
	}
	if password != "" {
		o.Password = []byte(password)
	}
	d := c.Dialer()
	return client.ConnectAuto(ctx, func(ctx context.Context) (net.Conn, error) { return d.Dial(ctx, u) }, o)
}
