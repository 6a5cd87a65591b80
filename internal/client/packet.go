package client

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// Control packet types (MQTT 5 §2.1.2, table 2-1).
const (
	typeConnect     = wire.Connect
	typeConnack     = wire.Connack
	typePublish     = wire.Publish
	typePuback      = wire.Puback
	typePubrec      = wire.Pubrec
	typePubrel      = wire.Pubrel
	typePubcomp     = wire.Pubcomp
	typeSubscribe   = wire.Subscribe
	typeSuback      = wire.Suback
	typeUnsubscribe = wire.Unsubscribe
	typeUnsuback    = wire.Unsuback
	typePingreq     = wire.Pingreq
	typePingresp    = wire.Pingresp
	typeDisconnect  = wire.Disconnect
)

// maxRemaining is the largest remaining length (MQTT 5 §2.1.4).
const maxRemaining = 268_435_455

// Versions of MQTT, as they stand in CONNECT.
const (
	Version31  = 3
	Version311 = 4
	Version5   = 5
)

// Properties are those of MQTT 5 that a client sets.
type Properties = wire.Properties

// Message is a message to publish, or a will.
type Message struct {
	Topic      string
	Payload    []byte
	QoS        byte
	Retain     bool
	Properties Properties // MQTT 5 only
}

// Check says whether the message can be sent at all.
func (m *Message) Check() error {
	if err := mqttetl.CheckTopic([]byte(m.Topic)); err != nil {
		return err
	}
	if m.QoS > 2 {
		return fmt.Errorf("QoS %d is none of 0, 1 and 2", m.QoS)
	}
	if len(m.Payload) > maxRemaining-2-len(m.Topic)-2-4-len(m.Properties) {
		return fmt.Errorf("a payload of %d bytes: MQTT ends at 256 MiB", len(m.Payload))
	}
	return nil
}

// CheckFilter checks a topic filter, which may be one of a shared subscription
// (MQTT 5 §4.8.2).
func CheckFilter(f string) error {
	if _, err := mqttetl.ParseFilter(f); err != nil {
		return err
	}
	if group, ok := strings.CutPrefix(f, "$share/"); ok {
		if name, filter, ok := strings.Cut(group, "/"); !ok || filter == "" || mqttetl.CheckShare(name) != nil {
			return fmt.Errorf("topic filter %q is not $share/<group>/<filter> (MQTT 5 §4.8.2)", f)
		}
	}
	return nil
}

func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

func appendVarInt(dst []byte, v int) []byte { return mqttetl.AppendVarInt(dst, uint32(v)) }

// appendPacket appends a packet whose body is at hand.
func appendPacket(dst []byte, first byte, body []byte) []byte {
	return append(appendVarInt(append(dst, first), len(body)), body...)
}

func (o *Options) properties(dst []byte, p Properties) []byte {
	if o.Version != Version5 {
		return dst
	}
	return append(appendVarInt(dst, len(p)), p...)
}

// connect is the CONNECT packet (MQTT 5 §3.1, 3.1.1 §3.1, 3.1 §3.1).
func (o *Options) connect() []byte {
	var flags byte
	if o.CleanStart {
		flags |= 1 << 1
	}
	if w := o.Will; w != nil {
		flags |= 1<<2 | w.QoS<<3
		if w.Retain {
			flags |= 1 << 5
		}
	}
	if o.Password != nil {
		flags |= 1 << 6
	}
	if o.Username != "" {
		flags |= 1 << 7
	}
	protocol := "MQTT"
	if o.Version == Version31 {
		protocol = "MQIsdp"
	}
	b := append(appendString(nil, protocol), o.Version, flags)
	b = binary.BigEndian.AppendUint16(b, o.KeepAlive)
	b = o.properties(b, o.Properties)
	b = appendString(b, o.ClientID)
	if w := o.Will; w != nil {
		b = o.properties(b, w.Properties)
		b = appendString(appendString(b, w.Topic), w.Payload)
	}
	if o.Username != "" {
		b = appendString(b, o.Username)
	}
	if o.Password != nil {
		b = appendString(b, o.Password)
	}
	return appendPacket(nil, typeConnect<<4, b)
}

// publish appends a PUBLISH packet (MQTT 5 §3.3).
func (o *Options) publish(dst []byte, m *Message, id uint16) []byte {
	first := byte(typePublish<<4) | m.QoS<<1
	if m.Retain {
		first |= 1
	}
	dst = appendVarInt(append(dst, first), o.publishSize(m))
	dst = appendString(dst, m.Topic)
	if m.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, id)
	}
	return append(o.properties(dst, m.Properties), m.Payload...)
}

// publishSize is the remaining length of the packet.
func (o *Options) publishSize(m *Message) int {
	size := 2 + len(m.Topic) + len(m.Payload)
	if m.QoS > 0 {
		size += 2
	}
	if o.Version == Version5 {
		size += len(appendVarInt(nil, len(m.Properties))) + len(m.Properties)
	}
	return size
}

// appendAck appends a PUBACK, PUBREC, PUBREL or PUBCOMP that reports success.
func appendAck(dst []byte, kind byte, id uint16) []byte {
	first := kind << 4
	if kind == typePubrel {
		first |= 2
	}
	return append(dst, first, 2, byte(id>>8), byte(id))
}
