package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/mqttetl/mqttetl"
)

// The packets whose properties a user can set.
const (
	ForConnect     = "connect"
	ForWill        = "will"
	ForPublish     = "publish"
	ForSubscribe   = "subscribe"
	ForUnsubscribe = "unsubscribe"
	ForDisconnect  = "disconnect"
)

var settable = []string{ForConnect, ForWill, ForPublish, ForSubscribe, ForUnsubscribe, ForDisconnect}

// kind is how the value of a property stands on the wire (MQTT 5 §2.2.2.2).
type kind byte

const (
	byteKind kind = iota
	uint16Kind
	uint32Kind
	varKind
	stringKind
	binaryKind
	pairKind
)

// Properties that the client itself looks at.
const (
	sessionExpiry     = 0x11
	assignedClientID  = 0x12
	serverKeepAlive   = 0x13
	reasonString      = 0x1f
	receiveMaximum    = 0x21
	topicAlias        = 0x23
	maximumQoS        = 0x24
	retainAvailable   = 0x25
	maximumPacketSize = 0x27
)

// A definition is one property of MQTT 5: its name in mosquitto_pub -D and the
// packets for which a client can set it.
type definition struct {
	id    byte
	name  string
	kind  kind
	where []string
}

var definitions = []definition{
	{0x01, "payload-format-indicator", byteKind, []string{ForPublish, ForWill}},
	{0x02, "message-expiry-interval", uint32Kind, []string{ForPublish, ForWill}},
	{0x03, "content-type", stringKind, []string{ForPublish, ForWill}},
	{0x08, "response-topic", stringKind, []string{ForPublish, ForWill}},
	{0x09, "correlation-data", binaryKind, []string{ForPublish, ForWill}},
	{0x0b, "subscription-identifier", varKind, []string{ForSubscribe}},
	{sessionExpiry, "session-expiry-interval", uint32Kind, []string{ForConnect, ForDisconnect}},
	{assignedClientID, "assigned-client-identifier", stringKind, nil},
	{serverKeepAlive, "server-keep-alive", uint16Kind, nil},
	{0x15, "authentication-method", stringKind, []string{ForConnect}},
	{0x16, "authentication-data", binaryKind, []string{ForConnect}},
	{0x17, "request-problem-information", byteKind, []string{ForConnect}},
	{0x18, "will-delay-interval", uint32Kind, []string{ForWill}},
	{0x19, "request-response-information", byteKind, []string{ForConnect}},
	{0x1a, "response-information", stringKind, nil},
	{0x1c, "server-reference", stringKind, nil},
	{reasonString, "reason-string", stringKind, nil},
	{receiveMaximum, "receive-maximum", uint16Kind, []string{ForConnect}},
	{0x22, "topic-alias-maximum", uint16Kind, []string{ForConnect}},
	{topicAlias, "topic-alias", uint16Kind, []string{ForPublish}},
	{maximumQoS, "maximum-qos", byteKind, nil},
	{retainAvailable, "retain-available", byteKind, nil},
	{0x26, "user-property", pairKind, settable},
	{maximumPacketSize, "maximum-packet-size", uint32Kind, []string{ForConnect}},
	{0x28, "wildcard-subscription-available", byteKind, nil},
	{0x29, "subscription-identifier-available", byteKind, nil},
	{0x2a, "shared-subscription-available", byteKind, nil},
}

// Properties are properties of MQTT 5 as they stand on the wire, without the
// length before them.
type Properties []byte

// Set appends the property called name, which must be one that a client can set
// for the packet where; values are its value, for a user property name and value.
func (p *Properties) Set(where, name string, values ...string) error {
	if !slices.Contains(settable, where) {
		return fmt.Errorf("properties of %q: there are those of %v", where, settable)
	}
	i := slices.IndexFunc(definitions, func(d definition) bool { return d.name == name && slices.Contains(d.where, where) })
	if i < 0 {
		return fmt.Errorf("%s has no property %q", where, name)
	}
	d := definitions[i]
	if d.kind != pairKind && p.has(d.id) {
		return fmt.Errorf("property %s of %s is set twice", name, where)
	}
	b, err := d.append(append([]byte(*p), d.id), values)
	if err != nil {
		return fmt.Errorf("property %s: %w", name, err)
	}
	*p = b
	return nil
}

// Values is how many values Set wants for the property called name.
func Values(name string) int {
	if name == "user-property" {
		return 2
	}
	return 1
}

func (d definition) append(dst []byte, values []string) ([]byte, error) {
	for _, v := range values {
		if len(v) > 65535 {
			return nil, errors.New("longer than 65,535 bytes")
		}
	}
	switch d.kind {
	case pairKind:
		return appendString(appendString(dst, values[0]), values[1]), nil
	case stringKind, binaryKind:
		return appendString(dst, values[0]), nil
	}
	v, err := strconv.ParseUint(values[0], 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%q is not a number", values[0])
	}
	switch {
	case d.kind == byteKind && v <= 1: // all that a client sets are flags
		return append(dst, byte(v)), nil
	case d.kind == uint16Kind && v <= 65535 && v > 0:
		return binary.BigEndian.AppendUint16(dst, uint16(v)), nil
	case d.kind == uint32Kind:
		return binary.BigEndian.AppendUint32(dst, uint32(v)), nil
	case d.kind == varKind && v > 0 && v <= maxRemaining:
		return appendVarInt(dst, int(v)), nil
	}
	return nil, fmt.Errorf("%d is out of range", v)
}

// has says whether a property is there.
func (p Properties) has(id byte) bool {
	found := false
	_ = p.each(func(i byte, _ property) { found = found || i == id })
	return found
}

// A property's value: number for the integers, text for strings.
type property struct {
	number uint32
	text   string
}

// each calls f for every property, also those that only servers send.
func (p Properties) each(f func(id byte, v property)) error {
	b := []byte(p)
	for len(b) > 0 {
		i := slices.IndexFunc(definitions, func(d definition) bool { return d.id == b[0] })
		if i < 0 {
			return fmt.Errorf("unknown property 0x%02x", b[0])
		}
		v, n := definitions[i].decode(b[1:])
		if n == 0 {
			return fmt.Errorf("property %s is cut short", definitions[i].name)
		}
		f(definitions[i].id, v)
		b = b[1+n:]
	}
	return nil
}

// decode returns the value at the front of b and its size, 0 if malformed.
func (d definition) decode(b []byte) (v property, n int) {
	size := map[kind]int{byteKind: 1, uint16Kind: 2, uint32Kind: 4}[d.kind]
	switch d.kind {
	case byteKind, uint16Kind, uint32Kind:
		if len(b) < size {
			return v, 0
		}
		for _, c := range b[:size] {
			v.number = v.number<<8 | uint32(c)
		}
		return v, size
	case varKind:
		u, n := mqttetl.VarInt(b)
		return property{number: u}, max(n, 0)
	}
	strings := 1
	if d.kind == pairKind {
		strings = 2
	}
	for range strings {
		if len(b) < n+2 || len(b) < n+2+int(binary.BigEndian.Uint16(b[n:])) {
			return v, 0
		}
		end := n + 2 + int(binary.BigEndian.Uint16(b[n:]))
		v.text, n = string(b[n+2:end]), end
	}
	return v, n
}
