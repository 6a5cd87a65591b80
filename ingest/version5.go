package ingest

import (
	"context"
	"math"
	"net"
	"net/url"
	"time"

	"github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// connectTime is how long a control plane waits for the answer to CONNECT, which
// the conn bounds itself (patience).
const connectTime = 2 * time.Minute

// version5 is MQTT 5 by autopaho.
type version5 struct{}

// run keeps l connected (see plane).
func (version5) run(ctx context.Context, l *link) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	change := false
	cm, err := autopaho.NewConnection(ctx, autopaho.ClientConfig{
		ServerUrls:            []*url.URL{l.url},
		KeepAlive:             l.cfg.keepAliveSeconds(),
		SessionExpiryInterval: math.MaxUint32, // never
		ConnectTimeout:        connectTime,
		ReconnectBackoff:      func(int) time.Duration { return l.delay() },
		ConnectPacketBuilder:  func(p *paho.Connect, _ *url.URL) (*paho.Connect, error) { return l.connect5(p) },
		AttemptConnection: func(ctx context.Context, _ autopaho.ClientConfig, _ *url.URL) (net.Conn, error) {
			return l.dial5(ctx)
		},
		OnConnectionUp: func(cm *autopaho.ConnectionManager, _ *paho.Connack) {
			l.asPublished.begin()
			l.up(ctx, func(ctx context.Context, filter string, qos byte, retained RetainHandling) (byte, string, error) {
				return l.subscribe5(ctx, cm, filter, qos, retained)
			})
		},
		OnConnectionDown: func() bool { l.down(); return true },
		OnConnectError: func(err error) {
			err = l.notAccepted(err)
			if l.changeFrom5(err) {
				change = true
				cancel()
				return
			}
			l.failed(l.tried(err, true))
		},
		ClientConfig: paho.ClientConfig{
			ClientID:      l.clientID,
			PacketTimeout: l.pace.suback,
			AuthHandler:   noAuth{},
		},
	})
	if err != nil {
		return err // no URL; cannot happen
	}
	<-cm.Done()
	if change {
		return errVersion
	}
	return nil
}

// dial5 returns a nil interface with an error, which autopaho relies on.
func (l *link) dial5(ctx context.Context) (net.Conn, error) {
	c, err := l.dial(ctx, true)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// connect5 completes the CONNECT packet. There is no maximum packet size in it,
// because a broker silently deletes what exceeds it (session/large.go), and no topic alias
// maximum, because the data plane keeps topics as they are.
func (l *link) connect5(p *paho.Connect) (*paho.Connect, error) {
	user, password, err := l.cfg.Login(l.url)
	if err != nil {
		return nil, err
	}
	p.Username, p.UsernameFlag = user, user != ""
	p.Password, p.PasswordFlag = []byte(password), password != ""
	p.Properties.ReceiveMaximum = &l.cfg.ReceiveMaximum
	p.Properties.RequestProblemInfo = true
	return p, nil
}

// subscribe5 asks for retain as published too: without it the broker clears
// RETAIN of live messages (MQTT 5 §3.8.3.1).
func (l *link) subscribe5(ctx context.Context, cm *autopaho.ConnectionManager, filter string, qos byte, r RetainHandling) (byte, string, error) {
	asPublished := l.asPublished.ask()
	a, err := cm.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{
		Topic: filter, QoS: qos, RetainHandling: r.option(), RetainAsPublished: asPublished,
	}}})
	code := byte(wire.CodeUnspecified)
	if a != nil && len(a.Reasons) == 1 {
		code = a.Reasons[0]
	}
	if l.asPublished.answer(asPublished, code) {
		l.logger.Warn("the broker refuses subscriptions with retain as published: RETAIN of live messages is recorded as 0")
	}
	if a == nil {
		return 0, "", err
	}
	if len(a.Reasons) != 1 {
		return 0, "", wire.Malformed("a SUBACK with %d codes for one filter", len(a.Reasons))
	}
	words := ""
	if a.Properties != nil {
		words = a.Properties.ReasonString
	}
	return code, words, nil
}

// noAuth stands in for enhanced authentication, which is never offered: a
// broker that claims it must not crash the client.
type noAuth struct{}

// Authenticate answers an AUTH packet, which the conn lets none through of.
func (noAuth) Authenticate(*paho.Auth) *paho.Auth { return &paho.Auth{} }

// Authenticated is called when the broker says that it was successful.
func (noAuth) Authenticated() {}

// keepAliveSeconds rounds up to whole seconds.
func (c *Config) keepAliveSeconds() uint16 {
	return uint16((c.KeepAlive + time.Second - 1) / time.Second)
}

// Login returns user name and password: from the settings, or else the URL.
func (c *Config) Login(u *url.URL) (user, password string, err error) {
	user = c.Username
	if user == "" && u.User != nil {
		user = u.User.Username()
		password, _ = u.User.Password()
	}
	if c.Password != nil {
		password, err = c.Password()
	}
	return user, password, err
}
