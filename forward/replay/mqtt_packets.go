package replay

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/mqttetl/mqttetl"
)

// Packet types (MQTT 5 §2.1.2).
const (
	packetConnect    = 1
	packetConnack    = 2
	packetPublish    = 3
	packetPuback     = 4
	packetPubrec     = 5
	packetPubrel     = 6
	packetPubcomp    = 7
	packetPingreq    = 12
	packetPingresp   = 13
	packetDisconnect = 14
)

// ErrLogin: the broker does not let us in.
var ErrLogin = errors.New("login refused")

// errVersion: the broker does not speak this version of MQTT.
var errVersion = errors.New("the broker does not speak this version of MQTT")

// Protocol levels in CONNECT (MQTT 5 §3.1.2.2).
const (
	version31  = 3
	version311 = 4
	version5   = 5
)

// maxAnswer bounds what a broker may send to a client that subscribes to nothing.
const maxAnswer = 1 << 20

// readPacket reads one packet: the first byte, and what is behind the length.
func readPacket(r *bufio.Reader) (first byte, body []byte, err error) {
	if first, err = r.ReadByte(); err != nil {
		return 0, nil, err
	}
	var length uint32
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil {
			return 0, nil, err
		}
		length |= uint32(b&0x7f) << shift
		if b < 0x80 {
			break
		}
		if shift == 21 {
			return 0, nil, errors.New("malformed length of a packet")
		}
	}
	if length > maxAnswer {
		return 0, nil, fmt.Errorf("a packet of %d bytes", length)
	}
	body = make([]byte, length)
	_, err = io.ReadFull(r, body)
	return first, body, err
}

// appendConnect appends CONNECT: a clean start, no will (MQTT 5 §3.1, 3.1.1 §3.1).
// MQTT 3.1 has another name, and wants a client id (3.1 §3.1).
func appendConnect(dst []byte, version byte, clientID, user, password string) []byte {
	name, flags := "MQTT", byte(2)
	if version == version31 {
		name = "MQIsdp"
		clientID = cmp.Or(clientID, "mqttetl-"+rand.Text()[:12])
	}
	if user != "" {
		flags |= 0x80
	}
	if password != "" {
		flags |= 0x40
	}
	body := append(appendText(nil, name), version, flags, 0, byte(mqttKeepAlive.Seconds()))
	if version == version5 {
		body = append(body, 0) // no properties
	}
	body = appendText(body, clientID)
	if user != "" {
		body = appendText(body, user)
	}
	if password != "" {
		body = appendText(body, password)
	}
	dst = mqttetl.AppendVarInt(append(dst, packetConnect<<4), uint32(len(body)))
	return append(dst, body...)
}

func appendText(dst []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// connack is what the broker allows.
type connack struct {
	receiveMaximum uint16
	maxQoS         byte
	noRetain       bool
	maxPacket      uint32
	keepAlive      time.Duration // the broker's own, 0 for ours
}

// parseConnack reads CONNACK (MQTT 5 §3.2, 3.1.1 §3.2).
func parseConnack(p []byte, old bool) (c connack, err error) {
	c = connack{receiveMaximum: math.MaxUint16, maxQoS: 2, maxPacket: math.MaxUint32}
	if len(p) < 2 {
		return c, errors.New("CONNACK is cut short")
	}
	if code := p[1]; code != 0 {
		return c, refusedLogin(code, old)
	}
	if old || len(p) < 3 {
		return c, nil
	}
	length, n := mqttetl.VarInt(p[2:])
	if n <= 0 || int(length) > len(p)-2-n {
		return c, errors.New("CONNACK is cut short")
	}
	return c, c.properties(p[2+n : 2+n+int(length)])
}

// refusedLogin is the error of a return code other than 0.
func refusedLogin(code byte, old bool) error {
	text := reason(code)
	if code == 1 || code == 0x84 { // 1 is of 3.1.1, in which one that does not know MQTT 5 answers
		return fmt.Errorf("%w: return code %#x", errVersion, code)
	}
	if old {
		text = fmt.Sprintf("return code %d", code)
		if code == 4 || code == 5 {
			return fmt.Errorf("%w: %s", ErrLogin, text)
		}
	}
	switch code {
	case 0x86, 0x87, 0x8a, 0x8c:
		return fmt.Errorf("%w: %s", ErrLogin, text)
	}
	return fmt.Errorf("the broker refuses: %s", text)
}

// properties reads those of CONNACK that bind us and passes over the others
// (MQTT 5 §2.2.2.2).
func (c *connack) properties(p []byte) error {
	for len(p) > 0 {
		id, size := p[0], 0
		p = p[1:]
		switch id {
		case 0x24, 0x25, 0x28, 0x29, 0x2a: // byte
			size = 1
		case 0x13, 0x21, 0x22: // two bytes
			size = 2
		case 0x11, 0x27: // four bytes
			size = 4
		case 0x12, 0x15, 0x16, 0x1a, 0x1c, 0x1f: // text
			size = textSize(p)
		case 0x26: // pair
			if size = textSize(p); size <= len(p) {
				size += textSize(p[size:])
			}
		default:
			return fmt.Errorf("CONNACK with property %#x", id)
		}
		if size > len(p) {
			return errors.New("CONNACK is cut short")
		}
		c.take(id, p[:size])
		p = p[size:]
	}
	return nil
}

func textSize(p []byte) int {
	if len(p) < 2 {
		return 2
	}
	return 2 + int(binary.BigEndian.Uint16(p))
}

func (c *connack) take(id byte, v []byte) {
	switch id {
	case 0x13: // §3.2.2.3.14
		c.keepAlive = time.Duration(binary.BigEndian.Uint16(v)) * time.Second
	case 0x21:
		c.receiveMaximum = max(1, binary.BigEndian.Uint16(v))
	case 0x24:
		c.maxQoS = v[0]
	case 0x25:
		c.noRetain = v[0] == 0
	case 0x27:
		c.maxPacket = binary.BigEndian.Uint32(v)
	}
}

// publish is a PUBLISH packet.
type publish struct {
	topic, payload []byte
	properties     mqttetl.Properties
	id             uint16
	qos            byte
	retain         bool
}

// remaining is the packet's length behind its fixed header.
func (p *publish) remaining(old bool) int {
	n := 2 + len(p.topic) + len(p.payload)
	if p.qos > 0 {
		n += 2
	}
	if !old {
		n += len(mqttetl.AppendVarInt(nil, uint32(len(p.properties)))) + len(p.properties)
	}
	return n
}

// check says why the broker would never take the message.
func (p *publish) check(c connack) error {
	const maxRemaining = 268_435_455
	size := p.remaining(false)
	switch {
	case size > maxRemaining:
		return fmt.Errorf("a packet of %d bytes", size)
	case int64(size)+5 > int64(c.maxPacket):
		return fmt.Errorf("a packet of %d bytes, the broker takes %d", size+5, c.maxPacket)
	case p.retain && c.noRetain:
		return errors.New("retained, which the broker does not take; --no-retain plays it as any other")
	}
	return mqttetl.CheckTopic(p.topic)
}

// write writes the packet.
func (p *publish) write(w *bufio.Writer, old bool) error {
	first := byte(packetPublish<<4) | p.qos<<1
	if p.retain {
		first |= 1
	}
	var head [16]byte
	b := mqttetl.AppendVarInt(append(head[:0], first), uint32(p.remaining(old)))
	w.Write(binary.BigEndian.AppendUint16(b, uint16(len(p.topic)))) // the last Write returns the first error
	w.Write(p.topic)
	b = head[:0]
	if p.qos > 0 {
		b = binary.BigEndian.AppendUint16(b, p.id)
	}
	if !old {
		b = mqttetl.AppendVarInt(b, uint32(len(p.properties)))
	}
	w.Write(b)
	if !old {
		w.Write(p.properties)
	}
	_, err := w.Write(p.payload)
	return err
}

// publishable is p without what a client must not send (subscription
// identifier, MQTT 5 §3.3.4) and without the alias of another connection.
func publishable(p mqttetl.Properties) mqttetl.Properties {
	for v := range p.All() {
		if v.ID == mqttetl.SubscriptionIdentifier || v.ID == mqttetl.TopicAlias {
			return without(p)
		}
	}
	return p
}

func without(p mqttetl.Properties) (kept mqttetl.Properties) {
	for v := range p.All() {
		switch v.ID {
		case mqttetl.SubscriptionIdentifier, mqttetl.TopicAlias:
		default:
			kept = v.Append(kept)
		}
	}
	return kept
}

// reasons are those of MQTT 5 §2.4 that a publisher meets.
var reasons = map[byte]string{
	0x80: "unspecified error", 0x81: "malformed packet", 0x82: "protocol error", 0x83: "implementation specific error",
	0x84: "unsupported protocol version", 0x85: "client identifier not valid", 0x86: "bad user name or password", 0x87: "not authorized",
	0x88: "server unavailable", 0x89: "server busy", 0x8a: "banned", 0x8b: "server shutting down", 0x8c: "bad authentication method",
	0x8d: "keep alive timeout", 0x8e: "session taken over", 0x90: "topic name invalid", 0x93: "receive maximum exceeded",
	0x95: "packet too large", 0x96: "message rate too high", 0x97: "quota exceeded", 0x98: "administrative action",
	0x99: "payload format invalid", 0x9a: "retain not supported", 0x9b: "QoS not supported", 0x9c: "use another server",
	0x9d: "server moved", 0x9f: "connection rate exceeded",
}

func reason(code byte) string {
	if text, ok := reasons[code]; ok {
		return fmt.Sprintf("%s (%#x)", text, code)
	}
	return fmt.Sprintf("reason %#x", code)
}
