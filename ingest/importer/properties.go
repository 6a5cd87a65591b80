package importer

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/mqttetl/mqttetl"
)

// propertyNames are those of this program by the letters that all programs have
// in common: MQTT.js and MQTTX write userProperties, Paho UserProperty.
var propertyNames = map[string]string{
	"payloadformatindicator": "payload-format-indicator", "messageexpiryinterval": "message-expiry-interval", "contenttype": "content-type",
	"responsetopic": "response-topic", "correlationdata": "correlation-data", "subscriptionidentifier": "subscription-identifier",
	"topicalias": "topic-alias", "userproperties": "user-properties", "userproperty": "user-properties",
}

// ofProperties are the letters of mosquitto_sub -F that print properties.
const ofProperties = "ACDEFPRS"

// appendLetter appends the property, or with P the user properties, that a letter
// has printed; nothing for a property that the message did not have.
func appendLetter(dst mqttetl.Properties, letter byte, value []byte) (mqttetl.Properties, error) {
	if letter == 'P' {
		return appendUsers(dst, value)
	}
	v := mqttetl.Property{Value: value}
	limit := uint64(0) // of numbers
	switch letter {
	case 'A':
		v.ID, limit = mqttetl.TopicAlias, math.MaxUint16
	case 'C':
		v.ID = mqttetl.ContentType
	case 'D':
		v.ID = mqttetl.CorrelationData
	case 'E':
		v.ID, limit = mqttetl.MessageExpiry, math.MaxUint32
	case 'F':
		v.ID, limit = mqttetl.PayloadFormat, 1
	case 'R':
		v.ID = mqttetl.ResponseTopic
	case 'S':
		v.ID, limit = mqttetl.SubscriptionIdentifier, mqttetl.MaxVarInt
	}
	if len(value) == 0 {
		return dst, nil
	}
	if len(value) > math.MaxUint16 {
		return dst, fmt.Errorf("%%%c has %d bytes, MQTT has %d", letter, len(value), math.MaxUint16)
	}
	if limit > 0 {
		n, err := strconv.ParseUint(string(value), 10, 32)
		if err != nil || n > limit {
			return dst, fmt.Errorf("%%%c: %q is no number up to %d", letter, value, limit)
		}
		v.Number = uint32(n)
	}
	return v.Append(dst), nil
}

// appendUsers appends the user properties of "name:value name:value". A word
// without a colon belongs to the value before it.
func appendUsers(dst mqttetl.Properties, text []byte) (mqttetl.Properties, error) {
	for len(text) > 0 {
		name, rest, found := bytes.Cut(text, []byte(":"))
		if !found {
			return dst, fmt.Errorf("%%P: %q is no name:value", text)
		}
		value := rest
		text = nil
		if next := bytes.IndexByte(rest, ':'); next >= 0 {
			if blank := bytes.LastIndexByte(rest[:next], ' '); blank >= 0 {
				value, text = rest[:blank], rest[blank+1:]
			}
		}
		if len(name) > math.MaxUint16 || len(value) > math.MaxUint16 {
			return dst, fmt.Errorf("%%P: a name or value of more than %d bytes", math.MaxUint16)
		}
		dst = mqttetl.Property{ID: mqttetl.UserProperty, Name: name, Value: value}.Append(dst)
	}
	return dst, nil
}

// parseProperties reads the properties of a message, as this program and
// mosquitto_sub write them, or as others do.
func parseProperties(v []byte) (mqttetl.Properties, error) {
	props, err := mqttetl.ParsePropertiesJSON(v)
	if err == nil {
		return props, nil
	}
	if ours, ok := ourProperties(v); ok {
		return mqttetl.ParsePropertiesJSON(ours)
	}
	return nil, err
}

// ourProperties writes properties of other programs with our names, without those
// that are null.
func ourProperties(v []byte) (ours []byte, ok bool) {
	ours = append(ours, '{')
	s := scanner{p: v}
	err := s.object(func(name []byte) error {
		own, known := propertyNames[strings.ToLower(strings.ReplaceAll(string(name), "-", ""))]
		if !known {
			return s.errorf("unknown property %q", name)
		}
		value, err := s.value()
		switch {
		case err != nil || string(value) == "null":
			return err
		case own == "user-properties" && value[0] == '{':
			value, err = userPairs(value)
		case own == "correlation-data" && value[0] == '{':
			value, err = bufferAsText(value)
		case string(value) == "true":
			value = []byte("1")
		case string(value) == "false":
			value = []byte("0")
		}
		if len(ours) > 1 {
			ours = append(ours, ',')
		}
		ours = append(append(append(append(ours, '"'), own...), `":`...), value...)
		return err
	})
	return append(ours, '}'), err == nil && s.end() == nil
}

// userPairs makes [["name","value"],…] of {"name":"value"}, in which an array has
// the values of a name that is there several times.
func userPairs(v []byte) (pairs []byte, err error) {
	pairs = append(pairs, '[')
	s := scanner{p: v}
	err = s.object(func(name []byte) error {
		add := func() error {
			value, err := s.text()
			if len(pairs) > 1 {
				pairs = append(pairs, ',')
			}
			pairs = mqttetl.AppendJSONString(append(pairs, '['), name)
			pairs = append(mqttetl.AppendJSONString(append(pairs, ','), value), ']')
			return err
		}
		if s.peek() != '[' {
			return add()
		}
		for s.i++; s.peek() != ']'; {
			if err := add(); err != nil {
				return err
			}
			if s.peek() == ',' {
				s.i++
			}
		}
		s.i++
		return nil
	})
	return append(pairs, ']'), err
}

// bufferAsText writes a Buffer of Node.js as what correlation data may be here.
func bufferAsText(v []byte) ([]byte, error) {
	b, err := decodeBuffer(v)
	if err != nil {
		return nil, err
	}
	return mqttetl.AppendJSONString(nil, base64.StdEncoding.AppendEncode(nil, b)), nil
}
