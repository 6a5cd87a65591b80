package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
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
	"github.com/mqttetl/mqttetl/internal/wire"
)

// A tool is a command with the options of mosquitto_pub and mosquitto_sub: what
// all of them need to reach a broker.
type tool struct {
	std  streams
	cmd  *cobra.Command
	help bool
	ask  bool // for the version of this program

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
	hostArgument          bool // an argument is the host

	id, idPrefix       string
	username, password string
	keep               bool // a session that outlives the connection
	keepalive          int
	expiry             string
	version            versionFlag
	only5              []string // options that MQTT 5 alone has
	properties         map[string]*wire.Properties
	willTopic          string
	willPayload        string
	will               client.Message
	debug, quiet       bool
}

// newTool makes a command whose options are parsed as mosquitto's are: -h with
// a value is the host, alone it asks for help; -D takes several values.
func newTool(std streams, cmd *cobra.Command, run func(context.Context) error) *tool {
	t := &tool{std: std, cmd: cmd, properties: map[string]*wire.Properties{}, only5: []string{"property", "session-expiry-interval"}}
	cmd.DisableFlagParsing = true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := t.parse(args); err != nil {
			return usageError{err, cmd}
		}
		if t.help {
			return cmd.Help()
		}
		if t.ask {
			_, err := fmt.Fprintf(t.std.out, "mqttetl %s\n", buildVersion().Version)
			return err
		}
		err := run(cmd.Context())
		if err != nil && t.quiet {
			return quietError{err}
		}
		return err
	}
	t.addFlags(cmd.Flags())
	return t
}

func (t *tool) addFlags(f *pflag.FlagSet) {
	f.SortFlags = false
	f.StringVarP(&t.host, "host", "h", "localhost", "broker's host or address, also -H; -h alone prints this help")
	f.VarP(sameAs{f, "host"}, "host-too", "H", "")
	_ = f.MarkHidden("host-too") // the name is the letter's only
	f.IntVarP(&t.port, "port", "p", 0, "broker's port (default 1883, with TLS 8883, WebSocket 80 and 443)")
	f.StringVarP(&t.url, "url", "L", "", "mqtt(s)://[user[:password]@]host[:port]/topic, or ws(s)://…/path")
	f.StringVarP(&t.username, "username", "u", "", "user name")
	f.StringVarP(&t.password, "pw", "P", "", "password")
	f.StringVarP(&t.id, "id", "i", "", "client id (default mqttetl- and random letters)")
	f.StringVarP(&t.idPrefix, "id-prefix", "I", "", "client id: this and the process id")
	t.version = client.Version311
	addVersion(f, &t.version)
	f.Lookup("mqtt-version").Usage += "; mqttv31 is the one before 3.1.1"
	f.BoolVarP(&t.keep, "disable-clean-session", "c", false, "keep the session when the connection ends; needs -i")
	f.StringVarP(&t.expiry, "session-expiry-interval", "x", "", "seconds that the session outlives the connection, -1 or ∞ for ever (MQTT 5)")
	f.IntVarP(&t.keepalive, "keepalive", "k", 60, "seconds between pings, 5 to 65535, 0 for none")
	f.StringVarP(&t.bind, "bind-address", "A", "", "local address to connect from")
	f.StringVar(&t.unix, "unix", "", "connect to this Unix socket")
	f.StringVar(&t.proxy, "proxy", "", "connect through socks5h://[user[:password]@]host[:port]")
	f.BoolVar(&t.ws, "ws", false, "MQTT over WebSocket")
	f.StringVar(&t.wsPath, "ws-path", "/mqtt", "path of the WebSocket")
	f.StringVar(&t.tls.CA, "cafile", "", "file with trusted authorities (PEM); turns TLS on")
	f.StringVar(&t.tls.CAPath, "capath", "", "directory of such files; turns TLS on")
	f.BoolVar(&t.osCerts, "tls-use-os-certs", false, "trust the system's authorities; turns TLS on")
	f.StringVar(&t.tls.Cert, "cert", "", "client certificate (PEM)")
	f.StringVar(&t.tls.Key, "key", "", "its private key (PEM)")
	f.BoolVar(&t.tls.AnyName, "insecure", false, "the broker's certificate may be for another host")
	f.StringVar(&t.alpn, "tls-alpn", "", "protocol to ask for by ALPN")
	f.StringVar(&t.tlsVersion, "tls-version", "", "only this version: tlsv1.2 or tlsv1.3")
	f.StringVar(&t.keyLog, "tls-keylog", "", "append the keys of TLS to this file, to look into a recording of the network")
	f.BoolVar(&t.noTLS, "no-tls", false, "no TLS, also on port 8883 and with a CA file")
	f.StringVar(&t.willTopic, "will-topic", "", "topic of the last will")
	f.StringVar(&t.willPayload, "will-payload", "", "its payload (default empty), also --will-message")
	f.Uint8Var(&t.will.QoS, "will-qos", 0, "its QoS")
	f.BoolVar(&t.will.Retain, "will-retain", false, "it is retained")
	f.VarP((*propertyValue)(&t.properties), "property", "D", "MQTT 5 property: -D `packet name value`, for user-property name and value;\npacket is connect, publish, subscribe, unsubscribe, disconnect or will")
	f.BoolVarP(&t.debug, "debug", "d", false, "tell every packet")
	f.BoolVar(&t.quiet, "quiet", false, "no messages about errors")
	f.VarP(alone{}, "config-file", "o", "take options from this file, one a line, as if they stood here")
	t.refused.addFlags(f)
	f.Bool("nodelay", true, "")
	_ = f.MarkHidden("nodelay") // it is there; always so here, and in scripts written for mosquitto
	f.BoolVar(&t.help, "help", false, "print this help")
	f.BoolVar(&t.ask, "version", false, "print the version of this program")
	f.SetNormalizeFunc(alias)
}

// sameAs is another name for an option, for one that has a letter already.
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
	if (*p)[words[0]] == nil {
		(*p)[words[0]] = new(wire.Properties)
	}
	return (*p)[words[0]].Set(words[0], words[1], words[2:]...)
}

func (t *tool) property(packet string) wire.Properties {
	if p := t.properties[packet]; p != nil {
		return *p
	}
	return nil
}

// changed says whether an option was given.
func (t *tool) changed(name string) bool { return t.cmd.Flags().Changed(name) }

// check finds what cannot be, once all options are there, and completes them.
func (t *tool) check() error {
	needs5 := slices.IndexFunc(t.only5, t.changed)
	if (!t.changed("mqtt-version") || t.version == client.VersionAuto) && needs5 >= 0 {
		t.version = client.Version5 // which alone has them
	}
	v5 := t.mayBe5()
	if needs5 >= 0 && !v5 {
		return fmt.Errorf("--%s needs MQTT 5: -V 5", t.only5[needs5])
	}
	for _, c := range []struct {
		bad  bool
		text string
	}{
		{t.id != "" && t.idPrefix != "", "-i and -I exclude one another"},
		{t.keep && t.id == "", "-c needs a client id (-i), by which the session is found again"},
		{!v5 && t.username == "" && t.password != "", "-P without -u needs MQTT 5"},
		{t.port < 0 || t.port > 65535, "-p must be 1 to 65535"},
		{strings.Contains(t.host, "/"), "-h " + secret.URL(t.host) + ": a URL goes with -L"},
		{strings.Count(t.host, ":") == 1, "-h " + t.host + ": the port goes with -p"},
		{t.noTLS && (t.osCerts || strings.HasPrefix(t.url, "mqtts:") || strings.HasPrefix(t.url, "wss:")), "--no-tls excludes --tls-use-os-certs, mqtts:// and wss://"},
		{t.keepalive != 0 && (t.keepalive < 5 || t.keepalive > 65535), "-k must be 0 or 5 to 65535"},
		{(t.tls.Cert == "") != (t.tls.Key == ""), "--cert and --key need one another"},
		{t.willTopic == "" && (t.changed("will-payload") || t.will.QoS != 0 || t.will.Retain), "a will needs --will-topic"},
		{t.unix != "" && (t.ws || t.url != "" || t.proxy != ""), "--unix excludes --ws, --proxy and -L"},
	} {
		if c.bad {
			return errors.New(c.text)
		}
	}
	if err := t.refused.check(); err != nil {
		return err
	}
	if err := t.checkTLS(); err != nil {
		return err
	}
	if t.noTLS {
		t.tls = dial.TLS{}
	}
	t.dialer = dial.Dialer{TLS: t.tls, Local: t.bind, Unix: t.unix}
	if t.proxy != "" {
		var err error
		if t.dialer.Proxy, err = dial.Proxy(t.proxy); err != nil {
			return fmt.Errorf("--proxy: %w", err)
		}
	}
	return t.checkSession()
}

func (t *tool) checkTLS() error {
	if t.alpn != "" {
		t.tls.ALPN = []string{t.alpn}
	}
	switch t.tlsVersion {
	case "":
	case "tlsv1.2":
		t.tls.Version = tls.VersionTLS12
	case "tlsv1.3":
		t.tls.Version = tls.VersionTLS13
	default:
		return fmt.Errorf("--tls-version %s: must be tlsv1.2 or tlsv1.3", t.tlsVersion)
	}
	if t.keyLog != "" {
		log, err := os.OpenFile(t.keyLog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("--tls-keylog: %w", err)
		}
		t.tls.KeyLog = log // until the program ends
	}
	return nil
}

// mayBe5 says whether the connection may turn out to be one of MQTT 5.
func (t *tool) mayBe5() bool {
	return t.version == client.Version5 || t.version == client.VersionAuto
}

// checkSession completes what goes into CONNECT.
func (t *tool) checkSession() error {
	if t.willTopic != "" {
		t.will.Topic, t.will.Payload = t.willTopic, []byte(t.willPayload)
		t.will.Properties = t.property(wire.ForWill)
		if err := t.will.Check(); err != nil {
			return fmt.Errorf("will: %w", err)
		}
		if len(t.will.Payload) > 65535 {
			return errors.New("will: a payload of more than 65,535 bytes")
		}
	}
	if err := t.checkExpiry(); err != nil {
		return err
	}
	switch {
	case t.idPrefix != "":
		t.id = t.idPrefix + strconv.Itoa(os.Getpid())
	case t.id == "":
		t.id = "mqttetl-" + rand.Text()[:12]
	}
	return nil
}

// forEver is the session expiry interval of a session without end (MQTT 5
// §3.1.2.11.2).
const forEver = "4294967295"

// checkExpiry completes how long the session lasts, which must not be for ever
// where nobody could find it again.
func (t *tool) checkExpiry() error {
	const name = "session-expiry-interval"
	expiry := t.expiry
	_, given := t.connectNumber(name)
	switch {
	case expiry == "∞" || expiry == "-1", expiry == "" && t.keep && t.mayBe5() && !given:
		expiry = forEver
	}
	if expiry != "" {
		if err := new(propertyValue(t.properties)).Set(strings.Join([]string{wire.ForConnect, name, expiry}, separator)); err != nil {
			return fmt.Errorf("-x %s: %w", t.expiry, err)
		}
	}
	if v, _ := t.connectNumber(name); strconv.FormatUint(uint64(v), 10) == forEver && t.id == "" {
		return errors.New("a session without end needs a client id (-i), by which it is found again; else each run leaves one at the broker")
	}
	return nil
}

// connectNumber is a property of CONNECT that was set.
func (t *tool) connectNumber(name string) (v uint32, ok bool) {
	return t.property(wire.ForConnect).Number(name)
}

// target is the URL of the broker, and the topic that -L named.
func (t *tool) target() (u *url.URL, topic string, err error) {
	if t.url == "" {
		u = &url.URL{Scheme: t.scheme(), Host: t.host}
		if t.port != 0 {
			u.Host = net.JoinHostPort(t.host, strconv.Itoa(t.port))
		} else if strings.Contains(t.host, ":") {
			u.Host = "[" + t.host + "]"
		}
		if t.ws {
			u.Path = t.wsPath
		}
		u, err = dial.URL(u.String())
		return u, "", err
	}
	if u, err = dial.URL(t.url); err != nil {
		return nil, "", err
	}
	if t.changed("host") || t.changed("port") {
		return nil, "", errors.New("-L excludes -h and -p")
	}
	if strings.HasPrefix(u.Scheme, "ws") {
		if u.Path == "" {
			u.Path = t.wsPath
		}
		return u, "", nil
	}
	if u.User != nil {
		t.username = u.User.Username()
		t.password, _ = u.User.Password()
	}
	topic = strings.TrimPrefix(u.Path, "/")
	if u.Fragment != "" || strings.HasSuffix(t.url, "#") {
		topic += "#" + u.Fragment // of a filter, not of a web page
	}
	u.Path, u.Fragment, u.RawQuery = "", "", ""
	return u, topic, nil
}

func (t *tool) scheme() string {
	secure := t.tls.CA != "" || t.tls.CAPath != "" || t.osCerts || t.tls.Cert != "" || t.port == 8883
	secure = secure && !t.noTLS
	switch {
	case t.ws && secure:
		return "wss"
	case t.ws:
		return "ws"
	case secure:
		return "mqtts"
	}
	return "mqtt"
}

// connect logs in. The connection does not end with ctx, so that the command
// can say goodbye; only the attempt does.
func (t *tool) connect(ctx context.Context, u *url.URL, o client.Options) (*client.Client, error) {
	o.Version = byte(t.version)
	o.ClientID = t.id
	o.CleanStart = !t.keep
	o.KeepAlive = uint16(t.keepalive)
	o.Properties = t.property(wire.ForConnect)
	o.Goodbye = t.property(wire.ForDisconnect)
	o.Username = t.username
	if t.password != "" || t.changed("pw") {
		o.Password = []byte(t.password)
	}
	if t.willTopic != "" {
		o.Will = &t.will
	}
	if t.debug {
		err := &locked{w: t.std.err} // who reads and who publishes both tell
		t.std.err = err
		o.Debug = func(line string) { fmt.Fprintf(err, "Client %s %s\n", t.id, visibleLine(line)) }
	}
	c, err := client.ConnectAuto(ctx, func(ctx context.Context) (net.Conn, error) { return t.dialer.Dial(ctx, u) }, o)
	if err == nil && !t.quiet {
		t.version.spoken(t.std.err, c.Version(), "")
	}
	return c, err
}

// say tells something that is no data, unless --quiet forbids it.
func (t *tool) say(format string, args ...any) {
	if !t.quiet {
		fmt.Fprintf(t.std.err, format+"\n", args...)
	}
}
