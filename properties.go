package mqttetl

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"unicode/utf8"
)

// Properties are the properties of an MQTT 5 PUBLISH packet exactly as they
// stood on the wire, without the length before them (MQTT 5 §3.3.2.3). Empty
// for MQTT 3.1.1 and where there were none.
type Properties []byte

// PropertyID identifies a property (MQTT 5 §2.2.2.2, table 2-4).
type PropertyID byte

// The properties that a PUBLISH packet may carry.
const (
	PayloadFormat          PropertyID = 0x01 // byte, 0 or 1
	MessageExpiry          PropertyID = 0x02 // four byte integer, seconds
	ContentType            PropertyID = 0x03 // UTF-8 string
	ResponseTopic          PropertyID = 0x08 // UTF-8 string
	CorrelationData        PropertyID = 0x09 // binary data
	SubscriptionIdentifier PropertyID = 0x0B // variable byte integer, repeatable
	TopicAlias             PropertyID = 0x23 // two byte integer
	UserProperty           PropertyID = 0x26 // UTF-8 string pair, repeatable
)

// Property is one property. Which fields are set depends on ID: Number for the
// integers, Value for strings and binary data, Name and Value for a user property.
type Property struct {
	ID     PropertyID
	Number uint32
	Name   []byte
	Value  []byte
}

// ErrProperties: bytes that are not the properties of a PUBLISH packet.
var ErrProperties = errors.New("malformed PUBLISH properties")

// Check reports whether p is well formed: only properties that PUBLISH allows,
// none cut short. It does not look into strings: a broker that lets invalid
// UTF-8 through has delivered it, and refusing it would have it redelivered for ever.
func (p Properties) Check() error {
	for off := 0; off < len(p); {
		_, n := p[off:].next()
		if n == 0 {
			return fmt.Errorf("%w: identifier 0x%02x at offset %d of %d", ErrProperties, p[off], off, len(p))
		}
		off += n
	}
	return nil
}

// All yields the properties in their order on the wire and stops at the first
// malformed one. The slices point into p.
func (p Properties) All() iter.Seq[Property] {
	return func(yield func(Property) bool) {
		for off := 0; off < len(p); {
			v, n := p[off:].next()
			if n == 0 || !yield(v) {
				return
			}
			off += n
		}
	}
}

// Append appends the property in wire form.
func (v Property) Append(dst Properties) Properties {
	dst = append(dst, byte(v.ID))
	switch v.ID {
	case PayloadFormat:
		return append(dst, byte(v.Number))
	case TopicAlias:
		return binary.BigEndian.AppendUint16(dst, uint16(v.Number))
	case MessageExpiry:
		return binary.BigEndian.AppendUint32(dst, v.Number)
	case SubscriptionIdentifier:
		return AppendVarInt(dst, v.Number)
	case UserProperty:
		dst = append(binary.BigEndian.AppendUint16(dst, uint16(len(v.Name))), v.Name...)
	}
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(v.Value))), v.Value...)
}

// next decodes the first property and returns its length, 0 if malformed.
func (p Properties) next() (v Property, n int) {
	v.ID = PropertyID(p[0])
	b := p[1:]
	switch v.ID {
	case PayloadFormat:
		if len(b) < 1 {
			return v, 0
		}
		v.Number = uint32(b[0])
		return v, 2
	case TopicAlias:
		if len(b) < 2 {
			return v, 0
		}
		v.Number = uint32(binary.BigEndian.Uint16(b))
		return v, 3
	case MessageExpiry:
		if len(b) < 4 {
			return v, 0
		}
		v.Number = binary.BigEndian.Uint32(b)
		return v, 5
	case SubscriptionIdentifier:
		u, k := VarInt(b)
		if k <= 0 {
			return v, 0
		}
		v.Number = u
		return v, 1 + k
	case ContentType, ResponseTopic, CorrelationData:
		var ok bool
		if v.Value, _, ok = lenPrefixed(b); !ok {
			return v, 0
		}
		return v, 3 + len(v.Value)
	case UserProperty:
		var ok bool
		if v.Name, b, ok = lenPrefixed(b); !ok {
			return v, 0
		}
		if v.Value, _, ok = lenPrefixed(b); !ok {
			return v, 0
		}
		return v, 5 + len(v.Name) + len(v.Value)
	}
	return v, 0
}

func lenPrefixed(b []byte) (v, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n : 2+n], b[2+n:], true
}

// VarInt decodes a variable byte integer (MQTT 5 §1.5.5, 3.1.1 §2.2.3) from the
// front of b. n is its length in bytes, 0 if b ends before it does, -1 if it
// is longer than the four bytes allowed.
func VarInt(b []byte) (v uint32, n int) {
	for i := range 4 {
		if i >= len(b) {
			return 0, 0
		}
		v |= uint32(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, -1
}

// AppendJSON appends the properties as a JSON object with the names that
// mosquitto_sub's %J uses: payload-format-indicator, message-expiry-interval,
// content-type, response-topic, correlation-data (base64), topic-alias,
// subscription-identifier (an array), user-properties (an array of [name,
// value] pairs, so that order and repetition are kept). A string that is not
// valid UTF-8 is {"base64":"…"}, so that no byte is lost.
func (p Properties) AppendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	first := true
	key := func(name string) {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, '"')
		dst = append(dst, name...)
		dst = append(dst, '"', ':')
	}
	users, subs := 0, 0
	for v := range p.All() {
		switch v.ID {
		case PayloadFormat:
			key("payload-format-indicator")
			dst = strconv.AppendUint(dst, uint64(v.Number), 10)
		case MessageExpiry:
			key("message-expiry-interval")
			dst = strconv.AppendUint(dst, uint64(v.Number), 10)
		case ContentType:
			key("content-type")
			dst = AppendJSONString(dst, v.Value)
		case ResponseTopic:
			key("response-topic")
			dst = AppendJSONString(dst, v.Value)
		case CorrelationData:
			key("correlation-data")
			dst = append(dst, '"')
			dst = base64.StdEncoding.AppendEncode(dst, v.Value)
			dst = append(dst, '"')
		case TopicAlias:
			key("topic-alias")
			dst = strconv.AppendUint(dst, uint64(v.Number), 10)
		case SubscriptionIdentifier:
			subs++
		case UserProperty:
			users++
		}
	}
	if subs > 0 {
		key("subscription-identifier")
		dst = p.appendList(dst, SubscriptionIdentifier)
	}
	if users > 0 {
		key("user-properties")
		dst = p.appendList(dst, UserProperty)
	}
	return append(dst, '}')
}

// appendList appends the properties of one repeatable kind as a JSON array.
func (p Properties) appendList(dst []byte, id PropertyID) []byte {
	sep := byte('[')
	for v := range p.All() {
		if v.ID != id {
			continue
		}
		dst = append(dst, sep)
		sep = ','
		if id == SubscriptionIdentifier {
			dst = strconv.AppendUint(dst, uint64(v.Number), 10)
			continue
		}
		dst = AppendJSONString(append(dst, '['), v.Name)
		dst = AppendJSONString(append(dst, ','), v.Value)
		dst = append(dst, ']')
	}
	return append(dst, ']')
}

// AppendJSONString appends s as a JSON string (RFC 8259 §7), or, where s is not
// valid UTF-8, as an object {"base64":"…"}.
func AppendJSONString(dst, s []byte) []byte {
	if !utf8.Valid(s) {
		dst = append(dst, `{"base64":"`...)
		dst = base64.StdEncoding.AppendEncode(dst, s)
		return append(dst, '"', '}')
	}
	return AppendJSONText(dst, s)
}

// AppendJSONText is AppendJSONString for bytes that are known to be valid UTF-8.
func AppendJSONText(dst, s []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	plain := 0 // s[plain:i] stands for itself
	for i, c := range s {
		if !escaped[c] {
			continue
		}
		dst = append(dst, s[plain:i]...)
		plain = i + 1
		if c == '"' || c == '\\' {
			dst = append(dst, '\\', c)
		} else {
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[plain:]...)
	return append(dst, '"')
}

// escaped are the bytes that do not stand for themselves in a JSON string.
var escaped = func() (t [256]bool) {
	for c := range 0x20 {
		t[c] = true
	}
	t['"'], t['\\'], t[0x7f] = true, true, true
	return t
}()
