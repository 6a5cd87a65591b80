package compare

import (
	"context"
	"encoding/binary"
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

// Control packet types (MQTT 5 §2.1.2).
const (
	typeConnect    = 1
	typeConnack    = 2
	typePublish    = 3
	typePuback     = 4
	typePubrec     = 5
	typePubrel     = 6
	typePubcomp    = 7
	typeSubscribe  = 8
	typeSuback     = 9
	typePingreq    = 12
	typePingresp   = 13
	typeDisconnect = 14
)

// dialTime bounds the making of a connection, to the end of the login.
const dialTime = 10 * time.Second

// input reads packets in place, as many of a read as are whole.
type input struct {
	conn       net.Conn
	buf        []byte
	start, end int
}

// fill reads once. What has been returned by packet is no longer valid.
func (in *input) fill() error {
	if in.start > 0 {
		in.end = copy(in.buf, in.buf[in.start:in.end])
		in.start = 0
	}
	if in.end == len(in.buf) {
		in.buf = append(in.buf, make([]byte, len(in.buf))...)
	}
	n, err := in.conn.Read(in.buf[in.end:])
	in.end += n
	if n > 0 {
		return nil
	}
	return err
}

// packet is the next whole packet of the buffer, ok if there is one.
func (in *input) packet() (first byte, body []byte, ok bool, err error) {
	b := in.buf[in.start:in.end]
	if len(b) < 2 {
		return 0, nil, false, nil
	}
	size, n := mqttetl.VarInt(b[1:])
	if n < 0 {
		return 0, nil, false, errors.New("malformed packet length: this is not MQTT")
	}
	if n == 0 || len(b) < 1+n+int(size) {
		return 0, nil, false, nil
	}
	in.start += 1 + n + int(size)
	return b[0], b[1+n : 1+n+int(size)], true, nil
}

// await reads until a packet has come.
func (in *input) await() (first byte, body []byte, err error) {
	for {
		first, body, ok, err := in.packet()
		if ok || err != nil {
			return first, body, err
		}
		if err := in.fill(); err != nil {
			return 0, nil, err
		}
	}
}

// appendPacket appends a packet with its length.
func appendPacket(b []byte, first byte, body []byte) []byte {
	return append(appendVarInt(append(b, first), len(body)), body...)
}

func appendVarInt(b []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendAck(b []byte, first byte, id uint16) []byte {
	return append(b, first, 2, byte(id>>8), byte(id))
}

// session is a connection that is logged in.
type session struct {
	conn    net.Conn
	in      *input
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
	s := &session{conn: conn, in: &input{conn: conn, buf: make([]byte, 64<<10)}, version: version, window: 65535}
	if _, err = conn.Write(connectPacket(broker.URL, id, version)); err == nil {
		err = s.connack()
	}
	if err != nil {
		raw.Close()
		return nil, fmt.Errorf("log in to %s: %w", secret.URL(broker.String()), err)
	}
	raw.SetDeadline(time.Time{})
	return s, nil
}

// connectPacket asks for a clean session without keep-alive.
func connectPacket(broker *url.URL, id string, version byte) []byte {
	flags := byte(1 << 1)
	password, hasPassword := broker.User.Password()
	if broker.User.Username() != "" {
		flags |= 1 << 7
	}
	if hasPassword {
		flags |= 1 << 6
	}
	body := append(appendString(nil, "MQTT"), version, flags, 0, 0)
	if version == client.Version5 {
		body = append(body, 0)
	}
	body = appendString(body, id)
	if broker.User.Username() != "" {
		body = appendString(body, broker.User.Username())
	}
	if hasPassword {
		body = appendString(body, password)
	}
	return appendPacket(nil, typeConnect<<4, body)
}

func (s *session) connack() error {
	first, body, err := s.in.await()
	if err != nil {
		return fmt.Errorf("no CONNACK: %w (%w)", err, mqttetl.ErrUnavailable)
	}
	if first>>4 != typeConnack || len(body) < 2 {
		return fmt.Errorf("packet type %d instead of CONNACK", first>>4)
	}
	old := s.version == client.Version311 || body[1] != 0 && body[1] < 0x80
	if body[1] != 0 {
		return &client.Refusal{Packet: "CONNACK", Code: body[1], V311: old}
	}
	if s.version == client.Version311 || len(body) == 2 {
		return nil
	}
	size, n := mqttetl.VarInt(body[2:])
	if n <= 0 || len(body) < 2+n+int(size) {
		return errors.New("CONNACK: malformed properties")
	}
	return s.properties(body[2+n : 2+n+int(size)])
}

// widths are those of CONNACK's properties (MQTT 5 §2.2.2.2); what is not here
// is a string or binary data.
var widths = map[byte]int{0x11: 4, 0x13: 2, 0x21: 2, 0x22: 2, 0x24: 1, 0x25: 1, 0x27: 4, 0x28: 1, 0x29: 1, 0x2a: 1}

// properties takes the Receive Maximum from CONNACK's properties.
func (s *session) properties(p []byte) error {
	const receiveMaximum, userProperty = 0x21, 0x26
	for len(p) > 0 {
		id, fields := p[0], 1
		if p = p[1:]; id == userProperty {
			fields = 2
		}
		for range fields {
			width, fixed := widths[id]
			if !fixed && len(p) >= 2 {
				width = 2 + int(binary.BigEndian.Uint16(p))
			}
			if width == 0 || width > len(p) {
				return errors.New("CONNACK: malformed properties")
			}
			if id == receiveMaximum {
				s.window = int(binary.BigEndian.Uint16(p))
			}
			p = p[width:]
		}
	}
	return nil
}

// subscribe asks for one filter.
func (s *session) subscribe(filter string, qos byte) error {
	body := []byte{0, 1}
	if s.version == client.Version5 {
		body = append(body, 0)
	}
	body = append(appendString(body, filter), qos)
	s.conn.SetDeadline(time.Now().Add(dialTime))
	defer s.conn.SetDeadline(time.Time{})
	if _, err := s.conn.Write(appendPacket(nil, typeSubscribe<<4|2, body)); err != nil {
		return err
	}
	first, answer, err := s.in.await()
	switch {
	case err != nil:
		return fmt.Errorf("subscribe: %w", err)
	case first>>4 != typeSuback || len(answer) < 3:
		return fmt.Errorf("subscribe: packet type %d instead of SUBACK", first>>4)
	}
	switch granted := answer[len(answer)-1]; {
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
	_, _ = s.conn.Write([]byte{typeDisconnect << 4, 0}) // or it has ended by itself
	s.conn.Close()
}

// told is the error that a packet means which nobody has asked for.
func (s *session) told(first byte, body []byte) error {
	if first>>4 == typeDisconnect {
		code := byte(0)
		if len(body) > 0 {
			code = body[0]
		}
		return fmt.Errorf("the broker ended the connection: %s (0x%02x)", wire.CodeText(code), code)
	}
	return fmt.Errorf("packet type %d from the broker", first>>4)
}
