package format

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/visible"
)

// times in JSON have microseconds.
const microseconds = "2006-01-02T15:04:05.000000Z07:00"

// AppendJSON appends m as one JSON object with the names and the order that
// mosquitto_sub uses. The payload is a string, or, with nested, the JSON value
// that it must be; its numbers are written as mosquitto_sub writes them, as
// doubles with 15 or 17 digits. Bytes that no JSON string can hold are an array
// of numbers, as in mosquitto_sub since 2.0.19. User properties are an object
// or, where a name is repeated, an array of objects, as in mosquitto_sub since 2.1.
func AppendJSON(dst []byte, m *Message, nested bool) ([]byte, error) {
	dst = append(dst, `{"tst":"`...)
	dst = m.Time.AppendFormat(dst, microseconds)
	dst = append(dst, `","topic":`...)
	dst = appendBytes(dst, m.Topic)
	retain := 0
	if m.Flags.Retain() {
		retain = 1
	}
	dst = fmt.Appendf(dst, `,"qos":%d,"retain":%d,"payloadlen":%d`, m.Flags.QoS(), retain, len(m.Payload))
	if m.Flags.QoS() > 0 {
		dst = fmt.Appendf(dst, `,"mid":%d`, m.ID)
	}
	if len(m.Properties) > 0 {
		dst = append(dst, `,"properties":`...)
		dst = appendProperties(dst, m.Properties)
	}
	dst = append(dst, `,"payload":`...)
	switch {
	case len(m.Payload) == 0:
		dst = append(dst, "null"...)
	case nested:
		var err error
		if dst, err = appendNested(dst, m.Payload); err != nil {
			return nil, fmt.Errorf("payload is not valid JSON on topic %s", visible.Append(nil, m.Topic))
		}
	default:
		dst = appendBytes(dst, m.Payload)
	}
	return append(dst, '}'), nil
}

// propertyNames are those of mosquitto_sub.
var propertyNames = map[mqttetl.PropertyID]string{
	mqttetl.PayloadFormat:          "payload-format-indicator",
	mqttetl.MessageExpiry:          "message-expiry-interval",
	mqttetl.ContentType:            "content-type",
	mqttetl.ResponseTopic:          "response-topic",
	mqttetl.CorrelationData:        "correlation-data",
	mqttetl.SubscriptionIdentifier: "subscription-identifier",
	mqttetl.TopicAlias:             "topic-alias",
	mqttetl.UserProperty:           "user-properties",
}

// appendProperties keeps the order of the wire. What is there several times
// is one member, where the first one was.
func appendProperties(dst []byte, props mqttetl.Properties) []byte {
	sep := byte('{')
	var done [256]bool
	for v := range props.All() {
		if done[v.ID] {
			continue
		}
		done[v.ID] = true
		dst = append(append(append(dst, sep, '"'), propertyNames[v.ID]...), '"', ':')
		sep = ','
		switch v.ID {
		case mqttetl.UserProperty:
			dst = appendUsers(dst, props)
		case mqttetl.SubscriptionIdentifier:
			dst = appendSubscriptions(dst, props)
		case mqttetl.ContentType, mqttetl.ResponseTopic, mqttetl.CorrelationData:
			dst = appendBytes(dst, v.Value)
		default:
			dst = strconv.AppendUint(dst, uint64(v.Number), 10)
		}
	}
	return append(dst, '}')
}

// appendSubscriptions appends one identifier as a number, several as an array.
func appendSubscriptions(dst []byte, props mqttetl.Properties) []byte {
	var all []string
	for v := range props.All() {
		if v.ID == mqttetl.SubscriptionIdentifier {
			all = append(all, strconv.FormatUint(uint64(v.Number), 10))
		}
	}
	if len(all) == 1 {
		return append(dst, all[0]...)
	}
	return append(append(append(dst, '['), strings.Join(all, ",")...), ']')
}

// appendUsers appends the user properties as an object or, where a name is
// repeated, as an array of objects.
func appendUsers(dst []byte, props mqttetl.Properties) []byte {
	open, next, end := "{", ",", "}"
	if repeatsName(props) {
		open, next, end = "[{", "},{", "}]"
	}
	for v := range props.All() {
		if v.ID != mqttetl.UserProperty {
			continue
		}
		dst = appendString(append(dst, open...), validName(v.Name))
		dst = appendBytes(append(dst, ':'), v.Value)
		open = next
	}
	return append(dst, end...)
}

// repeatsName says whether two user properties would have the same name in an
// object.
func repeatsName(props mqttetl.Properties) bool {
	var names map[string]bool
	var first []byte
	for v := range props.All() {
		switch name := validName(v.Name); {
		case v.ID != mqttetl.UserProperty:
		case first == nil:
			first = append([]byte{}, name...)
		case names == nil && !bytes.Equal(first, name):
			names = map[string]bool{string(first): true, string(name): true}
		case names == nil || names[string(name)]:
			return true
		default:
			names[string(name)] = true
		}
	}
	return false
}

// validName is a name that a JSON object can have.
func validName(name []byte) []byte { return bytes.ToValidUTF8(name, []byte("\ufffd")) }

// appendBytes appends s as a string or, if it is not valid UTF-8, as an array.
func appendBytes(dst, s []byte) []byte {
	if utf8.Valid(s) {
		return appendString(dst, s)
	}
	sep := byte('[')
	for _, b := range s {
		dst = strconv.AppendUint(append(dst, sep), uint64(b), 10)
		sep = ','
	}
	return append(dst, ']')
}

// appendString escapes what JSON demands, and no more.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	for _, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= ' ':
			dst = append(dst, c)
		case c >= '\b' && c <= '\r' && c != '\v':
			dst = append(dst, '\\', "btn.fr"[c-'\b'])
		default:
			dst = fmt.Appendf(dst, `\u%04x`, c)
		}
	}
	return append(dst, '"')
}

// A level is an object or array that is being written.
type level struct {
	object bool
	n      int // names and values so far
}

// appendNested appends the JSON value in payload without its spaces.
func appendNested(dst, payload []byte) ([]byte, error) {
	if !json.Valid(payload) {
		return nil, fmt.Errorf("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	var open []level
	for {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		closing := t == json.Delim('}') || t == json.Delim(']')
		if !closing && len(open) > 0 {
			dst = open[len(open)-1].separate(dst)
		}
		switch t := t.(type) {
		case json.Delim:
			dst = append(dst, byte(t))
			if closing {
				open = open[:len(open)-1]
			} else {
				open = append(open, level{object: t == '{'})
			}
		case string:
			dst = appendString(dst, []byte(t))
		case json.Number:
			dst = appendNumber(dst, t)
		case bool:
			dst = strconv.AppendBool(dst, t)
		case nil:
			dst = append(dst, "null"...)
		}
		if len(open) == 0 {
			return dst, nil
		}
	}
}

// separate appends what comes before the next name or value.
func (l *level) separate(dst []byte) []byte {
	l.n++
	switch {
	case l.object && l.n%2 == 0:
		return append(dst, ':')
	case l.n > 1:
		return append(dst, ',')
	}
	return dst
}

// appendNumber writes a number as C's %1.15g or, if that loses something,
// %1.17g; one beyond a double is null.
func appendNumber(dst []byte, n json.Number) []byte {
	v, err := n.Float64()
	if err != nil || math.IsInf(v, 0) {
		return append(dst, "null"...)
	}
	short := strconv.FormatFloat(v, 'g', 15, 64)
	back, _ := strconv.ParseFloat(short, 64) // it has just been formatted
	if math.Abs(back-v) > math.Max(math.Abs(back), math.Abs(v))*epsilon {
		return strconv.AppendFloat(dst, v, 'g', 17, 64)
	}
	return append(dst, short...)
}

// epsilon is C's DBL_EPSILON.
const epsilon = 0x1p-52

// indent spreads JSON over several lines.
func indent(src []byte) []byte {
	var b bytes.Buffer
	if err := json.Indent(&b, src, "", "\t"); err != nil {
		return src
	}
	return b.Bytes()
}
