package wire

import (
	"encoding/binary"

	"github.com/mqttetl/mqttetl"
)

// Protocol levels, as they stand in CONNECT (MQTT 5 §3.1.2.2).
const (
	Version31  = 3
	Version311 = 4
	Version5   = 5
)

// MaxRemaining is the largest remaining length (MQTT 5 §2.1.4).
const MaxRemaining = 268_435_455

// AppendPacket appends a packet whose body is at hand.
func AppendPacket(dst []byte, first byte, body []byte) []byte {
	return append(mqttetl.AppendVarInt(append(dst, first), uint32(len(body))), body...)
}

// AppendString appends a string, or binary data, with its length (MQTT 5 §1.5.4).
func AppendString[T string | []byte](dst []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

// append appends p with its length, to a packet of a version that has properties.
func (p Properties) append(dst []byte, v5 bool) []byte {
	if !v5 {
		return dst
	}
	return append(mqttetl.AppendVarInt(dst, uint32(len(p))), p...)
}

// size is how many bytes append appends.
func (p Properties) size(v5 bool) int {
	if !v5 {
		return 0
	}
	return varIntSize(len(p)) + len(p)
}

func varIntSize(n int) (size int) {
	for size = 1; n >= 0x80; size++ {
		n >>= 7
	}
	return size
}

// A Login is what CONNECT says (MQTT 5 §3.1, 3.1.1 §3.1, 3.1 §3.1).
type Login struct {
	Version    byte // Version5, Version311 or Version31
	ClientID   string
	Username   string // "": none
	Password   []byte // nil: none
	CleanStart bool   // clean session, with 3.1.1
	KeepAlive  uint16 // seconds
	Props      Properties
	Will       *WillMessage
}

// A WillMessage is what the server publishes when the connection is lost.
type WillMessage struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	Props   Properties
}

// Flags of CONNECT (MQTT 5 §3.1.2.3).
const (
	flagClean    = 1 << 1
	flagWill     = 1 << 2
	flagRetain   = 1 << 5
	flagPassword = 1 << 6
	flagUsername = 1 << 7
)

func (l *Login) flags() (f byte) {
	set := func(flag byte, is bool) {
		if is {
			f |= flag
		}
	}
	set(flagClean, l.CleanStart)
	set(flagPassword, l.Password != nil)
	set(flagUsername, l.Username != "")
	if w := l.Will; w != nil {
		set(flagWill|w.QoS<<3, true)
		set(flagRetain, w.Retain)
	}
	return f
}

// Append appends the CONNECT packet.
func (l *Login) Append(dst []byte) []byte {
	protocol, v5 := "MQTT", l.Version == Version5
	if l.Version == Version31 {
		protocol = "MQIsdp"
	}
	b := append(AppendString(nil, protocol), l.Version, l.flags())
	b = binary.BigEndian.AppendUint16(b, l.KeepAlive)
	b = l.Props.append(b, v5)
	b = AppendString(b, l.ClientID)
	if w := l.Will; w != nil {
		b = w.Props.append(b, v5)
		b = AppendString(AppendString(b, w.Topic), w.Payload)
	}
	if l.Username != "" {
		b = AppendString(b, l.Username)
	}
	if l.Password != nil {
		b = AppendString(b, l.Password)
	}
	return AppendPacket(dst, Connect<<4, b)
}

// A Message is what PUBLISH says (MQTT 5 §3.3).
type Message[T string | []byte] struct {
	Flags   byte // of the first byte: RETAIN, QoS, DUP
	Topic   T
	ID      uint16 // with QoS 1 and 2
	Props   Properties
	Payload []byte
}

// Size is the remaining length of the packet.
func (m *Message[T]) Size(v5 bool) int {
	size := 2 + len(m.Topic) + m.Props.size(v5) + len(m.Payload)
	if m.Flags&6 > 0 {
		size += 2
	}
	return size
}

// Total is the size of the whole packet.
func (m *Message[T]) Total(v5 bool) int {
	n := m.Size(v5)
	return 1 + varIntSize(n) + n
}

// Append appends the PUBLISH packet.
func (m *Message[T]) Append(dst []byte, v5 bool) []byte {
	dst = mqttetl.AppendVarInt(append(dst, Publish<<4|m.Flags), uint32(m.Size(v5)))
	dst = AppendString(dst, m.Topic)
	if m.Flags&6 > 0 {
		dst = binary.BigEndian.AppendUint16(dst, m.ID)
	}
	return append(m.Props.append(dst, v5), m.Payload...)
}

// AppendAck appends the short form of a PUBACK, PUBREC, PUBREL or PUBCOMP, which
// means success in MQTT 5 (§3.4.2.1) and is the only form in 3.1.1.
func AppendAck(dst []byte, packet byte, id uint16) []byte {
	first := packet << 4
	if packet == Pubrel {
		first |= 2
	}
	return append(dst, first, 2, byte(id>>8), byte(id))
}

// AppendEmpty appends a packet without a body: PINGREQ, PINGRESP, or a DISCONNECT
// that says nothing.
func AppendEmpty(dst []byte, packet byte) []byte { return append(dst, packet<<4, 0) }

// A Filter is one subscription of a SUBSCRIBE (MQTT 5 §3.8.3).
type Filter struct {
	Topic   string
	Options byte // QoS; in MQTT 5 also no local, retain as published and retain handling
}

// Subscription options (MQTT 5 §3.8.3.1).
const (
	NoLocal             = 1 << 2
	RetainAsPublished   = 1 << 3
	RetainHandlingShift = 4
)

// AppendSubscribe appends a SUBSCRIBE.
func AppendSubscribe(dst []byte, v5 bool, id uint16, p Properties, filters ...Filter) []byte {
	b := p.append(binary.BigEndian.AppendUint16(nil, id), v5)
	for _, f := range filters {
		b = append(AppendString(b, f.Topic), f.Options)
	}
	return AppendPacket(dst, Subscribe<<4|2, b)
}

// AppendUnsubscribe appends an UNSUBSCRIBE (MQTT 5 §3.10).
func AppendUnsubscribe(dst []byte, v5 bool, id uint16, p Properties, topics ...string) []byte {
	b := p.append(binary.BigEndian.AppendUint16(nil, id), v5)
	for _, topic := range topics {
		b = AppendString(b, topic)
	}
	return AppendPacket(dst, Unsubscribe<<4|2, b)
}

// AppendDisconnect appends a DISCONNECT (MQTT 5 §3.14), which says nothing in 3.1.1.
func AppendDisconnect(dst []byte, v5 bool, code byte, p Properties) []byte {
	switch {
	case v5 && len(p) > 0:
		return AppendPacket(dst, Disconnect<<4, p.append([]byte{code}, v5))
	case v5 && code != 0:
		return append(dst, Disconnect<<4, 1, code)
	}
	return AppendEmpty(dst, Disconnect)
}

// AppendConnack appends a CONNACK (MQTT 5 §3.2).
func AppendConnack(dst []byte, v5 bool, a Answer) []byte {
	b := []byte{0, a.Code}
	if a.Present {
		b[0] = 1
	}
	return AppendPacket(dst, Connack<<4, a.Props.append(b, v5))
}

// AppendCodes appends a SUBACK or UNSUBACK (MQTT 5 §3.9, §3.11).
func AppendCodes(dst []byte, packet byte, v5 bool, a Answer) []byte {
	b := a.Props.append(binary.BigEndian.AppendUint16(nil, a.ID), v5)
	if v5 || packet == Suback {
		b = append(b, a.Codes...)
	}
	return AppendPacket(dst, packet<<4, b)
}
