package wire

import (
	"bytes"
	"encoding/binary"
	"iter"

	"github.com/mqttetl/mqttetl"
)

// Will stands beside the packet types: the properties of a will are a set of
// their own (MQTT 5 §3.1.3.2).
const Will = 0

// kind is how the value of a property stands on the wire (MQTT 5 §2.2.2.2).
type kind byte

const (
	unknown kind = iota
	byteKind
	uint16Kind
	uint32Kind
	varKind
	stringKind
	binaryKind
	pairKind
)

// The properties that a client looks at.
const (
	AssignedClientID  = 0x12
	ServerKeepAlive   = 0x13
	ReasonString      = 0x1f
	ReceiveMaximum    = 0x21
	TopicAliasMaximum = 0x22
	TopicAlias        = 0x23
	MaximumQoS        = 0x24
	RetainAvailable   = 0x25
	MaximumPacketSize = 0x27
)

const (
	subscriptionIdentifier = 0x0b
	responseTopic          = 0x08
	userProperty           = 0x26
)

// A definition is one property of MQTT 5: its name, as mosquitto_pub -D has it,
// and the packets that may carry it.
type definition struct {
	name  string
	kind  kind
	where uint16 // bits of the packet types
}

func in(types ...byte) (bits uint16) {
	for _, t := range types {
		bits |= 1 << t
	}
	return bits
}

// definitions by identifier (MQTT 5 §2.2.2.2, table 2-4).
var definitions = [...]definition{
	0x01: {"payload-format-indicator", byteKind, in(Publish, Will)},
	0x02: {"message-expiry-interval", uint32Kind, in(Publish, Will)},
	0x03: {"content-type", stringKind, in(Publish, Will)},
	0x08: {"response-topic", stringKind, in(Publish, Will)},
	0x09: {"correlation-data", binaryKind, in(Publish, Will)},
	0x0b: {"subscription-identifier", varKind, in(Publish, Subscribe)},
	0x11: {"session-expiry-interval", uint32Kind, in(Connect, Connack, Disconnect)},
	0x12: {"assigned-client-identifier", stringKind, in(Connack)},
	0x13: {"server-keep-alive", uint16Kind, in(Connack)},
	0x15: {"authentication-method", stringKind, in(Connect, Connack, Auth)},
	0x16: {"authentication-data", binaryKind, in(Connect, Connack, Auth)},
	0x17: {"request-problem-information", byteKind, in(Connect)},
	0x18: {"will-delay-interval", uint32Kind, in(Will)},
	0x19: {"request-response-information", byteKind, in(Connect)},
	0x1a: {"response-information", stringKind, in(Connack)},
	0x1c: {"server-reference", stringKind, in(Connack, Disconnect)},
	0x1f: {"reason-string", stringKind, in(Connack, Puback, Pubrec, Pubrel, Pubcomp, Suback, Unsuback, Disconnect, Auth)},
	0x21: {"receive-maximum", uint16Kind, in(Connect, Connack)},
	0x22: {"topic-alias-maximum", uint16Kind, in(Connect, Connack)},
	0x23: {"topic-alias", uint16Kind, in(Publish)},
	0x24: {"maximum-qos", byteKind, in(Connack)},
	0x25: {"retain-available", byteKind, in(Connack)},
	0x26: {"user-property", pairKind, ^in(Pingreq, Pingresp)},
	0x27: {"maximum-packet-size", uint32Kind, in(Connect, Connack)},
	0x28: {"wildcard-subscription-available", byteKind, in(Connack)},
	0x29: {"subscription-identifier-available", byteKind, in(Connack)},
	0x2a: {"shared-subscription-available", byteKind, in(Connack)},
}

func define(id byte) definition {
	if int(id) < len(definitions) {
		return definitions[id]
	}
	return definition{}
}

// Properties are properties of MQTT 5 as they stand on the wire, without the
// length before them.
type Properties []byte

// Property is one property. Number holds an integer, Value a string or binary
// data, Name and Value a user property.
type Property struct {
	ID          byte
	Number      uint32
	Name, Value []byte
}

// All yields the properties and stops at the first malformed one.
func (p Properties) All() iter.Seq[Property] {
	return func(yield func(Property) bool) {
		for len(p) > 0 {
			v, n := p.next()
			if n == 0 || !yield(v) {
				return
			}
			p = p[n:]
		}
	}
}

// Check says whether a packet of a type, or a Will, may carry p.
func (p Properties) Check(packet byte) error {
	var seen uint64
	for len(p) > 0 {
		d := define(p[0])
		if d.kind == unknown {
			return Malformed("unknown property 0x%02x on %s", p[0], names[packet])
		}
		if d.where>>packet&1 == 0 {
			return Violation("property %s on %s", d.name, names[packet])
		}
		v, n := p.next()
		if n == 0 {
			return Malformed("property %s is cut short", d.name)
		}
		if seen>>v.ID&1 != 0 && v.ID != userProperty && (v.ID != subscriptionIdentifier || packet != Publish) {
			return Violation("property %s twice", d.name)
		}
		seen |= 1 << v.ID
		if err := d.check(v); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// check says whether a value is one that the property can have.
func (d definition) check(v Property) error {
	if d.kind == stringKind && !validString(v.Value) || d.kind == pairKind && !(validString(v.Name) && validString(v.Value)) {
		return Malformed("property %s is not UTF-8 without NUL", d.name)
	}
	bad := false
	switch v.ID {
	case ReceiveMaximum, MaximumPacketSize, TopicAlias, subscriptionIdentifier:
		bad = v.Number == 0
	case responseTopic:
		if len(v.Value) == 0 || bytes.ContainsAny(v.Value, "+#") {
			return Violation("property %s is no topic", d.name)
		}
	default:
		bad = d.kind == byteKind && v.Number > 1
	}
	if bad {
		return Violation("property %s is %d", d.name, v.Number)
	}
	return nil
}

// next decodes the first property and returns its length, 0 if malformed.
func (p Properties) next() (v Property, n int) {
	v.ID = p[0]
	b := p[1:]
	size := 0
	switch define(v.ID).kind {
	case byteKind:
		size = 1
	case uint16Kind:
		size = 2
	case uint32Kind:
		size = 4
	case varKind:
		u, n := mqttetl.VarInt(b)
		if n <= 0 {
			return v, 0
		}
		v.Number = u
		return v, 1 + n
	case stringKind, binaryKind:
		var ok bool
		if v.Value, b, ok = cutString(b); !ok {
			return v, 0
		}
		return v, len(p) - len(b)
	case pairKind:
		var ok bool
		if v.Name, b, ok = cutString(b); !ok {
			return v, 0
		}
		if v.Value, b, ok = cutString(b); !ok {
			return v, 0
		}
		return v, len(p) - len(b)
	}
	if size == 0 || len(b) < size {
		return v, 0
	}
	for _, c := range b[:size] {
		v.Number = v.Number<<8 | uint32(c)
	}
	return v, 1 + size
}

// cutString cuts a string or binary data with its length from the front of b.
func cutString(b []byte) (s, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	end := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < end {
		return nil, nil, false
	}
	return b[2:end], b[end:], true
}

// cutProperties cuts properties of a packet, with their length, from the front
// of b.
func cutProperties(b []byte, packet byte) (p Properties, rest []byte, err error) {
	size, n := mqttetl.VarInt(b)
	if n <= 0 || len(b) < n+int(size) {
		return nil, nil, Malformed("%s with malformed properties", names[packet])
	}
	p = Properties(b[n : n+int(size)])
	return p, b[n+int(size):], p.Check(packet)
}
