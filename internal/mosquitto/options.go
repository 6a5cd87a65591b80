// Package mosquitto is the option language of mosquitto_pub and mosquitto_sub, with
// the names that MQTTX and Lua clients have for the same: what pub, sub and test need
// to reach a broker. -h with a value is the host, alone it asks for help; -D takes
// several values; a file holds defaults.
package mosquitto

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/secret"
	"github.com/mqttetl/mqttetl/internal/visible"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// Options are what is said on a command line.
type Options struct {
	Err io.Writer // what is no data

	// Read by Parse.
	Help, Ask    bool // for the help, and for the version of this program
	Debug, Quiet bool
	ID           string // client id
	Properties   map[string]*wire.Properties

	// Set before it.
	HostArgument bool     // an argument is the host
	Only5        []string // options that MQTT 5 alone has

	cmd     *cobra.Command
	explain func(*cobra.Command, error) error

	host, bind, unix, url string
	proxy                 string
	dialer                dial.Dialer
	refused               refusedOptions
	port                  int
	ws                    bool
	wsPath                string
	tls                   dial.TLS
	alpn, tlsVersion      string
	keyLog                string
	osCerts, noTLS        bool

	idPrefix           string
	username, password string
	keep               bool // a session that outlives the connection
	keepalive          int
	expiry             string
	version            Version
	willTopic          string
	willPayload        string
	will               client.Message
}

// New adds the options to a command, which no longer parses its arguments itself.
// explain says what is wrong with one that pflag does not take.
func New(cmd *cobra.Command, explain func(*cobra.Command, error) error) *Options {
	o := &Options{cmd: cmd, explain: explain, Properties: map[string]*wire.Properties{}, Only5: []string{"property", "session-expiry-interval"}}
	cmd.DisableFlagParsing = true
	o.addFlags(cmd.Flags())
	return o
}

func (o *Options) addFlags(f *pflag.FlagSet) {
	f.SortFlags = false
	f.StringVarP(&o.host, "host", "h", "localhost", "broker's host or address, also -H; -h alone prints this help")
	f.VarP(sameAs{f, "host"}, "host-too", "H", "")
	_ = f.MarkHidden("host-too") // the name is the letter's only
	f.IntVarP(&o.port, "port", "p", 0, "broker's port (default 1883, with TLS 8883, WebSocket 80 and 443)")
	f.StringVarP(&o.url, "url", "L", "", "mqtt(s)://[user[:password]@]host[:port]/topic, or ws(s)://…/path")
	f.StringVarP(&o.username, "username", "u", "", "user name")
	f.StringVarP(&o.password, "pw", "P", "", "password")
	f.StringVarP(&o.ID, "id", "i", "", "client id (default mqttetl- and random letters)")
	f.StringVarP(&o.idPrefix, "id-prefix", "I", "", "client id: this and the process id")
	o.version = client.Version311
	AddVersion(f, &o.version)
	f.Lookup("mqtt-version").Usage += "; mqttv31 is the one before 3.1.1"
	f.BoolVarP(&o.keep, "disable-clean-session", "c", false, "keep the session when the connection ends; needs -i")
	f.StringVarP(&o.expiry, "session-expiry-interval", "x", "", "seconds that the session outlives the connection, -1 or ∞ for ever (MQTT 5)")
	f.IntVarP(&o.keepalive, "keepalive", "k", 60, "seconds between pings, 5 to 65535, 0 for none")
	f.StringVarP(&o.bind, "bind-address", "A", "", "local address to connect from")
	f.StringVar(&o.unix, "unix", "", "connect to this Unix socket")
	f.StringVar(&o.proxy, "proxy", "", "connect through socks5h://[user[:password]@]host[:port]")
	f.BoolVar(&o.ws, "ws", false, "MQTT over WebSocket")
	f.StringVar(&o.wsPath, "ws-path", "/mqtt", "path of the WebSocket")
	f.StringVar(&o.tls.CA, "cafile", "", "file with trusted authorities (PEM); turns TLS on")
	f.StringVar(&o.tls.CAPath, "capath", "", "directory of such files; turns TLS on")
	f.BoolVar(&o.osCerts, "tls-use-os-certs", false, "trust the system's authorities; turns TLS on")
	f.StringVar(&o.tls.Cert, "cert", "", "client certificate (PEM)")
	f.StringVar(&o.tls.Key, "key", "", "its private key (PEM)")
	f.BoolVar(&o.tls.AnyName, "insecure", false, "the broker's certificate may be for another host")
	f.StringVar(&o.alpn, "tls-alpn", "", "protocol to ask for by ALPN")
	f.StringVar(&o.tlsVersion, "tls-version", "", "only this version: tlsv1.2 or tlsv1.3")
	f.StringVar(&o.keyLog, "tls-keylog", "", "append the keys of TLS to this file, to look into a recording of the network")
	f.BoolVar(&o.noTLS, "no-tls", false, "no TLS, also on port 8883 and with a CA file")
	f.StringVar(&o.willTopic, "will-topic", "", "topic of the last will")
	f.StringVar(&o.willPayload, "will-payload", "", "its payload (default empty), also --will-message")
	f.Uint8Var(&o.will.QoS, "will-qos", 0, "its QoS")
	f.BoolVar(&o.will.Retain, "will-retain", false, "it is retained")
	f.VarP((*propertyValue)(&o.Properties), "property", "D", "MQTT 5 property: -D `packet name value`, for user-property name and value;\npacket is connect, publish, subscribe, unsubscribe, disconnect or will")
	f.BoolVarP(&o.Debug, "debug", "d", false, "tell every packet")
	f.BoolVar(&o.Quiet, "quiet", false, "no messages about errors")
	f.VarP(alone{}, "config-file", "o", "take options from this file, one a line, as if they stood here")
	o.refused.addFlags(f)
	f.Bool("nodelay", true, "")
	_ = f.MarkHidden("nodelay") // it is there; always so here, and in scripts written for mosquitto
	f.BoolVar(&o.Help, "help", false, "print this help")
	f.BoolVar(&o.Ask, "version", false, "print the version of this program")
	f.SetNormalizeFunc(alias)
}

// SameAs is another name for an option, for one that has a letter already.
func SameAs(flags *pflag.FlagSet, name string) pflag.Value { return sameAs{flags, name} }

type sameAs struct {
	flags *pflag.FlagSet
	name  string
}

func (s sameAs) String() string        { return "" }
func (s sameAs) Type() string          { return "string" }
func (s sameAs) Set(text string) error { return s.flags.Set(s.name, text) }

// alias accepts the names that MQTTX and the Lua client of the Aiko platform
// (mqtt_publish.lua and its sisters) have for mosquitto's long options.
func alias(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	name = strings.ReplaceAll(name, "_", "-")
	switch name {
	case "will-message":
		name = "will-payload"
	case "topic-p", "topic2":
		name = "topic"
	case "topic-s", "topic1":
		name = "subscribe"
	case "hostname":
		name = "host"
	case "ca":
		name = "cafile"
	case "client-id":
		name = "id"
	case "password":
		name = "pw"
	case "protocol-version":
		name = "mqtt-version"
	case "alpn":
		name = "tls-alpn"
	case "path":
		name = "ws-path"
	}
	return pflag.NormalizedName(name)
}

// propertyValue collects -D; its one argument is the arguments that join put
// together.
type propertyValue map[string]*wire.Properties

func (p *propertyValue) String() string { return "" }
func (p *propertyValue) Type() string   { return "property" }

func (p *propertyValue) Set(s string) error {
	words := strings.Split(s, separator)
	if len(words) < 3 || len(words) != 2+wire.Values(words[1]) {
		return errors.New("want packet, name and value; for user-property packet, user-property, name and value")
	}
	return p.add(words[0], words[1], words[2:]...)
}

func (p *propertyValue) add(packet, name string, values ...string) error {
	if (*p)[packet] == nil {
		(*p)[packet] = new(wire.Properties)
	}
	return (*p)[packet].Set(packet, name, values...)
}

// SetProperty adds a property to those of a packet, as -D does.
func (o *Options) SetProperty(packet, name string, values ...string) error {
	return (*propertyValue)(&o.Properties).add(packet, name, values...)
}

func (o *Options) Property(packet string) wire.Properties {
	if p := o.Properties[packet]; p != nil {
		return *p
	}
	return nil
}

// changed says whether an option was given.
func (o *Options) Changed(name string) bool { return o.cmd.Flags().Changed(name) }

// check finds what cannot be, once all options are there, and completes them.
func (o *Options) check() error {
	needs5 := slices.IndexFunc(o.Only5, o.Changed)
	if (!o.Changed("mqtt-version") || o.version == client.VersionAuto) && needs5 >= 0 {
		o.version = client.Version5 // which alone has them
	}
	v5 := o.mayBe5()
	if needs5 >= 0 && !v5 {
		return fmt.Errorf("--%s needs MQTT 5: -V 5", o.Only5[needs5])
	}
	for _, c := range []struct {
		bad  bool
		text string
	}{
		{o.ID != "" && o.idPrefix != "", "-i and -I exclude one another"},
		{o.keep && o.ID == "", "-c needs a client id (-i), by which the session is found again"},
		{!v5 && o.username == "" && o.password != "", "-P without -u needs MQTT 5"},
		{o.port < 0 || o.port > 65535, "-p must be 1 to 65535"},
		{strings.Contains(o.host, "/"), "-h " + secret.URL(o.host) + ": -L takes a URL"},
		{strings.Count(o.host, ":") == 1, "-h " + o.host + ": -p takes the port"},
		{o.noTLS && (o.osCerts || strings.HasPrefix(o.url, "mqtts:") || strings.HasPrefix(o.url, "wss:")), "--no-tls excludes --tls-use-os-certs, mqtts:// and wss://"},
		{o.keepalive != 0 && (o.keepalive < 5 || o.keepalive > 65535), "-k must be 0 or 5 to 65535"},
		{(o.tls.Cert == "") != (o.tls.Key == ""), "--cert and --key need one another"},
		{o.willTopic == "" && (o.Changed("will-payload") || o.will.QoS != 0 || o.will.Retain), "a will needs --will-topic"},
		{o.unix != "" && (o.ws || o.url != "" || o.proxy != ""), "--unix excludes --ws, --proxy and -L"},
	} {
		if c.bad {
			return errors.New(c.text)
		}
	}
	if err := o.refused.check(); err != nil {
		return err
	}
	if err := o.checkTLS(); err != nil {
		return err
	}
	if o.noTLS {
		o.tls = dial.TLS{}
	}
	o.dialer = dial.Dialer{TLS: o.tls, Local: o.bind, Unix: o.unix}
	if o.proxy != "" {
		var err error
		if o.dialer.Proxy, err = dial.Proxy(o.proxy); err != nil {
			return fmt.Errorf("--proxy: %w", err)
		}
	}
	return o.checkSession()
}

func (o *Options) checkTLS() error {
	if o.alpn != "" {
		o.tls.ALPN = []string{o.alpn}
	}
	switch o.tlsVersion {
	case "":
	case "tlsv1.2":
		o.tls.Version = tls.VersionTLS12
	case "tlsv1.3":
		o.tls.Version = tls.VersionTLS13
	default:
		return fmt.Errorf("--tls-version %s: must be tlsv1.2 or tlsv1.3", o.tlsVersion)
	}
	if o.keyLog != "" {
		log, err := os.OpenFile(o.keyLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("--tls-keylog: %w", err)
		}
		o.tls.KeyLog = log // until the program ends
	}
	return nil
}

// mayBe5 says whether the connection may turn out to be one of MQTT 5.
func (o *Options) mayBe5() bool {
	return o.version == client.Version5 || o.version == client.VersionAuto
}

// checkSession completes what CONNECT has.
func (o *Options) checkSession() error {
	if o.willTopic != "" {
		o.will.Topic, o.will.Payload = o.willTopic, []byte(o.willPayload)
		o.will.Properties = o.Property(wire.ForWill)
		if err := o.will.Check(); err != nil {
			return fmt.Errorf("will: %w", err)
		}
		if len(o.will.Payload) > 65535 {
			return errors.New("will: a payload of more than 65,535 bytes")
		}
	}
	if err := o.checkExpiry(); err != nil {
		return err
	}
	switch {
	case o.idPrefix != "":
		o.ID = o.idPrefix + strconv.Itoa(os.Getpid())
	case o.ID == "":
		o.ID = "mqttetl-" + rand.Text()[:12]
	}
	return nil
}

// forEver is the session expiry interval of a session without end (MQTT 5
// §3.1.2.11.2).
const forEver = "4294967295"

// checkExpiry completes how long the session lasts, which must not be for ever
// where nobody could find it again.
func (o *Options) checkExpiry() error {
	const name = "session-expiry-interval"
	expiry := o.expiry
	_, given := o.connectNumber(name)
	switch {
	case expiry == "∞" || expiry == "-1", expiry == "" && o.keep && o.mayBe5() && !given:
		expiry = forEver
	}
	if expiry != "" {
		if err := o.SetProperty(wire.ForConnect, name, expiry); err != nil {
			return fmt.Errorf("-x %s: %w", o.expiry, err)
		}
	}
	if v, _ := o.connectNumber(name); strconv.FormatUint(uint64(v), 10) == forEver && o.ID == "" {
		return errors.New("a session without end needs a client id (-i), by which it is found again; else each run leaves one at the broker")
	}
	return nil
}

// connectNumber is a property of CONNECT that was set.
func (o *Options) connectNumber(name string) (v uint32, ok bool) {
	return o.Property(wire.ForConnect).Number(name)
}

// target is the URL of the broker, and the topic that -L named.
func (o *Options) Target() (u *url.URL, topic string, err error) {
	if o.url == "" {
		u = &url.URL{Scheme: o.scheme(), Host: o.host}
		if o.port != 0 {
			u.Host = net.JoinHostPort(o.host, strconv.Itoa(o.port))
		} else if strings.Contains(o.host, ":") {
			u.Host = "[" + o.host + "]"
		}
		if o.ws {
			u.Path = o.wsPath
		}
		u, err = dial.URL(u.String())
		return u, "", err
	}
	if u, err = dial.URL(o.url); err != nil {
		return nil, "", err
	}
	if o.Changed("host") || o.Changed("port") {
		return nil, "", errors.New("-L excludes -h and -p")
	}
	if strings.HasPrefix(u.Scheme, "ws") {
		if u.Path == "" {
			u.Path = o.wsPath
		}
		return u, "", nil
	}
	if u.User != nil {
		o.username = u.User.Username()
		o.password, _ = u.User.Password()
	}
	topic = strings.TrimPrefix(u.Path, "/")
	if u.Fragment != "" || strings.HasSuffix(o.url, "#") {
		topic += "#" + u.Fragment // of a filter, not of a web page
	}
	u.Path, u.Fragment, u.RawQuery = "", "", ""
	return u, topic, nil
}

func (o *Options) scheme() string {
	secure := o.tls.CA != "" || o.tls.CAPath != "" || o.osCerts || o.tls.Cert != "" || o.port == 8883
	secure = secure && !o.noTLS
	switch {
	case o.ws && secure:
		return "wss"
	case o.ws:
		return "ws"
	case secure:
		return "mqtts"
	}
	return "mqtt"
}

// connect logs in. The connection does not end with ctx, so that the command
// can say goodbye; only the attempt does.
func (o *Options) Connect(ctx context.Context, u *url.URL, more client.Options) (*client.Client, error) {
	more.Version = byte(o.version)
	more.ClientID = o.ID
	more.CleanStart = !o.keep
	more.KeepAlive = uint16(o.keepalive)
	more.Properties = o.Property(wire.ForConnect)
	more.Goodbye = o.Property(wire.ForDisconnect)
	more.Username = o.username
	if o.password != "" || o.Changed("pw") {
		more.Password = []byte(o.password)
	}
	if o.willTopic != "" {
		more.Will = &o.will
	}
	if o.Debug {
		more.Debug = func(line string) { fmt.Fprintf(o.Err, "Client %s %s\n", o.ID, visible.Line(line)) }
	}
	c, err := client.ConnectAuto(ctx, func(ctx context.Context) (net.Conn, error) { return o.dialer.Dial(ctx, u) }, more)
	if err == nil && !o.Quiet {
		o.version.Spoken(o.Err, c.Version(), "")
	}
	return c, err
}
