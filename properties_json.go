package mqttetl

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
)

// ParsePropertiesJSON is the inverse of Properties.AppendJSON: it returns the
// wire form of properties that were written as a JSON object, in the order of
// the object. What it returns is written by AppendJSON as it was read.
//
// It also reads what mosquitto_sub's %J writes: user-properties as an object
// {name: value} or as an array of such objects, one subscription-identifier
// without an array, bytes that are not UTF-8 as an array of numbers, and
// correlation-data that is not base64. Unknown names and values that the wire form cannot hold are
// errors that wrap ErrProperties.
func ParsePropertiesJSON(p []byte) (Properties, error) {
	d := json.NewDecoder(bytes.NewReader(p))
	d.UseNumber()
	w := propertyWriter{d: d, out: Properties{}}
	err := w.object(w.property)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			err = errors.New("more than one value")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProperties, err)
	}
	return w.out, nil
}

// propertyWriter reads JSON tokens and writes properties in wire form.
type propertyWriter struct {
	d   *json.Decoder
	out Properties
}

// open takes the token that must come next.
func (w *propertyWriter) open(want json.Delim) error {
	t, err := w.d.Token()
	if err != nil {
		return err
	}
	if t != want {
		return fmt.Errorf("%v where %v is expected", t, want)
	}
	return nil
}

// object reads an object and calls member after each name.
func (w *propertyWriter) object(member func(name string) error) error {
	if err := w.open('{'); err != nil {
		return err
	}
	return w.members(member)
}

// members reads the rest of an object whose brace has been taken.
func (w *propertyWriter) members(member func(name string) error) error {
	for w.d.More() {
		t, err := w.d.Token()
		if err != nil {
			return err
		}
		if err := member(t.(string)); err != nil { // the decoder lets only strings be names
			return err
		}
	}
	return w.open('}')
}

func (w *propertyWriter) property(name string) error {
	switch name {
	case "payload-format-indicator":
		return w.number(PayloadFormat, name, math.MaxUint8, func(n uint64) { w.out = append(w.out, byte(n)) })
	case "message-expiry-interval":
		return w.number(MessageExpiry, name, math.MaxUint32, func(n uint64) { w.out = binary.BigEndian.AppendUint32(w.out, uint32(n)) })
	case "topic-alias":
		return w.number(TopicAlias, name, math.MaxUint16, func(n uint64) { w.out = binary.BigEndian.AppendUint16(w.out, uint16(n)) })
	case "subscription-identifier":
		return w.subscriptions(name)
	case "content-type":
		w.out = append(w.out, byte(ContentType))
		return w.text(name)
	case "response-topic":
		w.out = append(w.out, byte(ResponseTopic))
		return w.text(name)
	case "correlation-data":
		w.out = append(w.out, byte(CorrelationData))
		return w.binary(name)
	case "user-properties":
		return w.users()
	}
	return fmt.Errorf("unknown property %q", name)
}

// subscriptions reads one number or an array of numbers.
func (w *propertyWriter) subscriptions(name string) error {
	var value json.RawMessage
	if err := w.d.Decode(&value); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var all []uint64
	if value[0] != '[' {
		value = append(append(json.RawMessage{'['}, value...), ']')
	}
	if err := json.Unmarshal(value, &all); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, n := range all {
		if n > MaxVarInt {
			return fmt.Errorf("%s: %d exceeds %d", name, n, MaxVarInt)
		}
		w.out = AppendVarInt(append(w.out, byte(SubscriptionIdentifier)), uint32(n))
	}
	return nil
}

// number reads an integer up to limit and has put write it after the identifier.
func (w *propertyWriter) number(id PropertyID, name string, limit uint64, put func(uint64)) error {
	var n uint64
	if err := w.d.Decode(&n); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if n > limit {
		return fmt.Errorf("%s: %d exceeds %d", name, n, limit)
	}
	w.out = append(w.out, byte(id))
	put(n)
	return nil
}

// text reads what AppendJSONString has written.
func (w *propertyWriter) text(name string) error {
	t, err := w.d.Token()
	if err != nil {
		return err
	}
	return w.value(name, t)
}

// value writes a string, or an object {"base64": "…"} or an array of bytes,
// whose bracket was taken.
func (w *propertyWriter) value(name string, t json.Token) error {
	switch v := t.(type) {
	case string:
		return w.put(name, []byte(v))
	case json.Delim:
		var raw []byte
		if v == '[' {
			for w.d.More() {
				var b uint8
				if err := w.d.Decode(&b); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				raw = append(raw, b)
			}
			if err := w.open(']'); err != nil {
				return err
			}
			return w.put(name, raw)
		}
		if v != '{' {
			break
		}
		if err := w.members(func(key string) error {
			if key != "base64" {
				return fmt.Errorf("%s: an object with %q", name, key)
			}
			return w.d.Decode(&raw)
		}); err != nil {
			return err
		}
		return w.put(name, raw)
	}
	return fmt.Errorf("%s: %v where a string is expected", name, t)
}

func (w *propertyWriter) binary(name string) error {
	t, err := w.d.Token()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s, ok := t.(string)
	if !ok {
		return w.value(name, t)
	}
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		raw = []byte(s)
	}
	return w.put(name, raw)
}

// put writes bytes with their length before them (MQTT 5 §1.5.4, §1.5.6).
func (w *propertyWriter) put(name string, b []byte) error {
	if len(b) > math.MaxUint16 {
		return fmt.Errorf("%s: %d bytes exceed %d", name, len(b), math.MaxUint16)
	}
	w.out = binary.BigEndian.AppendUint16(w.out, uint16(len(b)))
	w.out = append(w.out, b...)
	return nil
}

// users reads an array of [name, value] pairs, or one of mosquitto's forms.
func (w *propertyWriter) users() error {
	t, err := w.d.Token()
	if err != nil {
		return err
	}
	switch t {
	case json.Delim('{'):
		return w.members(w.userMember)
	case json.Delim('['):
	default:
		return fmt.Errorf("user-properties: %v where an array is expected", t)
	}
	for w.d.More() {
		t, err := w.d.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'):
			err = w.members(w.userMember)
		case json.Delim('['):
			err = w.userPair()
		default:
			err = fmt.Errorf("user-properties: %v where a pair is expected", t)
		}
		if err != nil {
			return err
		}
	}
	return w.open(']')
}

func (w *propertyWriter) userMember(name string) error {
	w.out = append(w.out, byte(UserProperty))
	if err := w.put("user property", []byte(name)); err != nil {
		return err
	}
	return w.text("user property")
}

// userPair reads the rest of [name, value].
func (w *propertyWriter) userPair() error {
	w.out = append(w.out, byte(UserProperty))
	for range 2 {
		if err := w.text("user property"); err != nil {
			return err
		}
	}
	return w.open(']')
}

// MaxVarInt is the largest variable byte integer (MQTT 5 §1.5.5).
const MaxVarInt = 268_435_455

// AppendVarInt appends n, at most 268,435,455, as a variable byte integer (MQTT
// 5 §1.5.5); VarInt is the inverse.
func AppendVarInt(dst []byte, n uint32) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}
