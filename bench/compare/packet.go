package compare

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/client"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/secret"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// dialTime bounds the making of a connection, to the end of the login.
const dialTime = 10 * time.Second

// session is a connection that is logged in. Its packets are those of every client
// of ours, its loops are its own: they are what is measured with.
type session struct {
	conn    net.Conn
	in      *wire.Input
	version byte // client.Version5 or client.Version311
	window  int  // messages that the broker takes unacknowledged
}

// login connects to a broker with MQTT 5, or 3.1.1 where the broker refuses it.
func login(ctx context.Context, broker brokerAt, id string, m *meter) (*session, error) {
	s, err := loginWith(ctx, broker, id, m, client.Version5)
	var refusal *client.Refusal
	if errors.As(err, &refusal) && refusal.Version() {
		return loginWith(ctx, broker, id, m, client.Version311)
	}
	return s, err
}

func loginWith(ctx context.Context, broker brokerAt, id string, m *meter, version byte) (*session, error) {
	d := dial.Dialer{TLS: broker.tls}
	raw, err := d.Dial(ctx, broker.URL)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	raw.SetDeadline(time.Now().Add(dialTime))
	conn := metered{raw, m}
	s := &session{conn: conn, in: wire.NewInput(64 << 10), version: version, window: 65535}
	if _, err = conn.Write(loginOf(broker.URL, id, version).Append(nil)); err == nil {
		err = s.connack()
	}
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("log in to %s: %w", secret.URL(broker.String()), err)
	}
	raw.SetDeadline(time.Time{})
	return s, nil
}

// loginOf asks for a clean session without keep-alive.
func loginOf(broker *url.URL, id string, version byte) *wire.Login {
	l := &wire.Login{Version: version, ClientID: id, Username: broker.User.Username(), CleanStart: true}
	if password, has := broker.User.Password(); has {
		l.Password = []byte(password)
	}
	return l
}

func (s *session) v5() bool { return s.version == client.Version5 }

func (s *session) connack() error {
	first, body, err := s.in.Await(s.conn)
	if err != nil {
		return fmt.Errorf("no CONNACK: %w (%w)", err, mqttetl.ErrUnavailable)
	}
	if first>>4 != wire.Connack {
		return fmt.Errorf("%s instead of CONNACK", wire.Name(first>>4))
	}
	a, err := wire.ReadConnack(body, s.v5() && len(body) > 2)
	if err != nil {
		return err
	}
	if a.Code != 0 {
		return &client.Refusal{Packet: "CONNACK", Code: a.Code, V311: !s.v5() || a.Code < 0x80}
	}
	for p := range a.Props.All() {
		if p.ID == wire.ReceiveMaximum {
			s.window = int(p.Number)
		}
	}
	return nil
}

// subscribe asks for one filter.
func (s *session) subscribe(filter string, qos byte) error {
	s.conn.SetDeadline(time.Now().Add(dialTime))
	defer s.conn.SetDeadline(time.Time{})
	if _, err := s.conn.Write(wire.AppendSubscribe(nil, s.v5(), 1, nil, wire.Filter{Topic: filter, Options: qos})); err != nil {
		return err
	}
	first, body, err := s.in.Await(s.conn)
	if err == nil && first>>4 != wire.Suback {
		err = fmt.Errorf("%s instead of SUBACK", wire.Name(first>>4))
	}
	var a wire.Answer
	if err == nil {
		a, err = wire.ReadCodes(wire.Suback, body, s.v5())
	}
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	switch granted := a.Codes[0]; {
	case granted >= 0x80:
		return &client.Refusal{Packet: "SUBACK", Code: granted, V311: s.version == client.Version311, About: "filter " + filter}
	case granted < qos:
		return fmt.Errorf("subscribe: the broker grants QoS %d only", granted)
	}
	return nil
}

// bye ends the connection in order; what it had to say has been said.
func (s *session) bye() {
	s.conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = s.conn.Write(wire.AppendEmpty(nil, wire.Disconnect)) // or it has ended by itself
	s.conn.Close()
}

// unexpected is the error that a packet means which nobody has asked for.
func (s *session) unexpected(first byte, body []byte) error {
	if first>>4 != wire.Disconnect {
		return fmt.Errorf("%s from the broker", wire.Name(first>>4))
	}
	a, err := wire.ReadDisconnect(body)
	if err != nil {
		return err
	}
	return fmt.Errorf("the broker ended the connection: %s (0x%02x)", wire.CodeText(a.Code), a.Code)
}
