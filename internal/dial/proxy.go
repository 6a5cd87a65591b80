package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"

	"golang.org/x/net/proxy"

	"github.com/mqttetl/mqttetl/internal/secret"
)

// Proxy parses the URL of a SOCKS5 proxy, socks5h://[user[:password]@]host[:port],
// and completes it with the default port.
func Proxy(text string) (*url.URL, error) {
	u, err := secret.ParseURL(text)
	if err != nil {
		return nil, fmt.Errorf("proxy URL: %w", err)
	}
	if u.Scheme != "socks5h" || u.Hostname() == "" {
		return nil, errors.New("proxy URL: want socks5h://[user[:password]@]host[:port]")
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "1080")
	}
	return u, nil
}

// through is a DialContext by way of the proxy.
func through(u *url.URL, to *net.Dialer) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	var auth *proxy.Auth
	if u.User != nil {
		password, _ := u.User.Password()
		auth = &proxy.Auth{User: u.User.Username(), Password: password}
	}
	p, err := proxy.SOCKS5("tcp", u.Host, auth, to)
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", u.Host, err)
	}
	c, ok := p.(proxy.ContextDialer)
	if !ok {
		return nil, fmt.Errorf("proxy %s: cannot be dialled with a time limit", u.Host)
	}
	return c.DialContext, nil
}
