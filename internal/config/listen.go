package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/secret"
)

// Listener is where devices connect to us.
type Listener struct {
	Name              string        // recorded with every message
	URL               string        // mqtt://host:port, mqtts://host:port or unix:///path
	Cert, Key         string        // PEM files, with mqtts
	ClientCA          string        // PEM file of authorities of which a client must have a certificate; "" for none
	CommonName        bool          // the certificate says who a client is, not the user name
	Anonymous         bool          // clients without a user name may come in
	InsecureAnonymous bool          // also where others than this machine can connect
	PasswordFile      string        // as mosquitto_passwd writes it; "" for none
	ACLFile           string        // Mosquitto's acl_file; "": everything is allowed
	AcknowledgeDenied bool          // what may not be published is acknowledged before MQTT 5; false: the connection ends
	MaxConnections    int           // 1 or more
	MaxPacket         int64         // bytes, 32 KiB to 256 MiB
	ReceiveMaximum    int           // 1 to 65535, MQTT 5 §3.2.2.3.3
	KeepAliveMax      time.Duration // whole seconds, 1 to 65535, MQTT 5 §3.2.2.3.14
}

func defaultListener() Listener {
	return Listener{Name: "door", MaxConnections: 10_000, MaxPacket: 16 << 20, ReceiveMaximum: 100, KeepAliveMax: 10 * time.Minute}
}

// mostPacket is where MQTT ends.
const mostPacket = 256 << 20

func (d *decoder) listener(n ast.Node) Listener {
	l, identity, denied := defaultListener(), "username", "disconnect"
	seen := d.mapping(n, "the listener", []field{
		{"name", d.text(&l.Name, "name", checkName)},
		{"url", d.text(&l.URL, "url", checkListenURL)},
		{"tls", func(n ast.Node) {
			tls := d.mapping(n, "tls", []field{
				{"cert", d.text(&l.Cert, "cert", checkPath)},
				{"key", d.text(&l.Key, "key", checkPath)},
				{"client_ca", d.text(&l.ClientCA, "client_ca", checkPath)},
			})
			d.require(n, tls, "tls", "cert", "key")
		}},
		{"identity", d.choice(&identity, "identity", "username", "common_name")},
		{"anonymous", d.boolean(&l.Anonymous, "anonymous")},
		{"insecure_anonymous", d.boolean(&l.InsecureAnonymous, "insecure_anonymous")},
		{"password_file", d.text(&l.PasswordFile, "password_file", checkPath)},
		{"acl_file", d.text(&l.ACLFile, "acl_file", checkPath)},
		{"denied", d.choice(&denied, "denied", "disconnect", "acknowledge")},
		{"max_connections", d.integer(&l.MaxConnections, "max_connections", 1, 1_000_000)},
		{"max_packet", d.size(&l.MaxPacket, "max_packet", 32<<10)},
		{"receive_maximum", d.integer(&l.ReceiveMaximum, "receive_maximum", 1, 65535)},
		{"keepalive_max", d.duration(&l.KeepAliveMax, "keepalive_max", checkKeepAlive)},
	})
	d.require(n, seen, "the listener", "url")
	if l.MaxPacket > mostPacket {
		d.report(seen["max_packet"], "max_packet must be at most 256MiB, where MQTT ends, not %d bytes", l.MaxPacket)
	}
	l.CommonName = identity == "common_name"
	l.AcknowledgeDenied = denied == "acknowledge"
	d.transport(&l, seen)
	d.whoMayComeIn(&l, n, seen)
	return l
}

// transport reports keys of TLS that do not belong to the URL, or to each other.
func (d *decoder) transport(l *Listener, seen map[string]ast.Node) {
	u, err := url.Parse(l.URL)
	if err != nil || l.URL == "" {
		return
	}
	switch secure := dial.Secure(u.Scheme); {
	case secure && seen["tls"] == nil:
		d.report(seen["url"], "url: %s needs tls, with cert and key", secret.URL(l.URL))
	case !secure && seen["tls"] != nil:
		d.report(seen["tls"], "tls has no meaning for %s://; use mqtts://", u.Scheme)
	case l.CommonName && l.ClientCA == "":
		d.report(seen["identity"], "identity: common_name needs tls.client_ca, the authorities that the certificates of clients are of")
	case l.CommonName && (l.PasswordFile != "" || l.Anonymous):
		d.report(seen["identity"], "identity: common_name lets in who has a certificate; password_file and anonymous exclude it")
	}
}

// whoMayComeIn reports a listener that nobody, or everybody, can connect to.
func (d *decoder) whoMayComeIn(l *Listener, n ast.Node, seen map[string]ast.Node) {
	switch {
	case !isMapping(d.resolve(n)):
	case !l.Anonymous && l.PasswordFile == "" && seen["password_file"] == nil && !l.CommonName:
		d.report(n, "nobody can connect to listener %q: name a password_file (mosquitto_passwd writes one), or set anonymous: true", l.Name)
	case l.Anonymous && !l.InsecureAnonymous && l.URL != "" && !onLoopback(l.URL):
		d.report(seen["anonymous"], "anonymous: everybody who can reach %s could publish; listen on 127.0.0.1, name a password_file, or say insecure_anonymous: true", secret.URL(l.URL))
	}
}

// checkListenURL wants the address of this machine, with a port.
func checkListenURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return errors.New("want a URL such as mqtt://0.0.0.0:1883")
	case u.Scheme == "unix":
		if u.Host != "" || u.Path == "" || u.RawQuery != "" {
			return fmt.Errorf("%q is not unix:// and a path from the root, such as unix:///run/mqttetl/mqtt.sock", secret.URL(s))
		}
		return nil
	case ports[u.Scheme] == "":
		return fmt.Errorf("%q must begin with mqtt://, mqtts:// or unix://; WebSocket is not built yet", secret.URL(s))
	case u.User != nil:
		return errors.New("user and password do not belong in the URL; use password_file")
	case strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q must end after the port", secret.URL(s))
	case u.Hostname() == "":
		return fmt.Errorf("%q names no address; 0.0.0.0 and [::] are all of this machine", secret.URL(s))
	}
	return checkHost(u, s)
}

// ports are those of the schemes that have one.
var ports = map[string]string{"mqtt": "1883", "tcp": "1883", "mqtts": "8883", "ssl": "8883", "tls": "8883"}

// onLoopback says that only this machine can connect.
func onLoopback(rawURL string) bool {
	u, err := url.Parse(rawURL)
	if err != nil {
		return false
	}
	if u.Hostname() == "localhost" || u.Scheme == "unix" {
		return true
	}
	a, err := netip.ParseAddr(u.Hostname())
	return err == nil && a.IsLoopback()
}

// uniqueListeners reports listeners that would be taken for another source, or
// that want the same port.
func (d *decoder) uniqueListeners(c *Config, nodes []ast.Node) {
	names, addresses := map[string]bool{}, map[string]string{}
	for _, s := range c.Sources {
		names[s.Name] = true
	}
	for i, l := range c.Listen {
		if names[l.Name] {
			d.report(nodes[i], "a second source or listener named %q; name tells them apart", l.Name)
		}
		names[l.Name] = true
		u, err := url.Parse(l.URL)
		if err != nil || l.URL == "" {
			continue
		}
		address := u.Path
		if u.Scheme != "unix" {
			address = net.JoinHostPort(strings.ToLower(u.Hostname()), cmp.Or(u.Port(), ports[u.Scheme]))
		}
		if other, ok := addresses[address]; ok {
			d.report(nodes[i], "listener %q has the address %s already", other, address)
		}
		addresses[address] = l.Name
	}
}
