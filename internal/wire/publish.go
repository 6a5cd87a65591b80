package wire

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"

	"github.com/mqttetl/mqttetl"
)

// Limits are what the client has said in its CONNECT.
type Limits struct {
	V5      bool
	Aliases uint16 // Topic Alias Maximum (MQTT 5 §3.1.2.11.5)

	// Properties longer than this many bytes are not read: the Head says Skipped.
	// 0: they are read, whatever their length.
	Properties int
}

// Head is the variable header of a PUBLISH (MQTT 5 §3.3.2).
type Head struct {
	Topic []byte // empty only where there is an Alias
	Props mqttetl.Properties
	ID    uint16 // 0 with QoS 0
	Alias uint16 // 0 if there is none
	Size  int    // bytes before the payload, or before properties that are Skipped

	Skipped int // bytes of properties that exceed the limit, which stand between Size and the payload
}

// PublishHead decodes the variable header of a PUBLISH from body, which is as
// much of the packet's remaining length as has been received. A need above 0
// says that at least so many bytes of body are wanted; it never exceeds
// remaining. It refuses what cannot be read, or not be acknowledged; the rules
// for what strings and properties may hold are those of Check.
func PublishHead(first byte, remaining int, body []byte, l Limits) (h Head, need int, err error) {
	if remaining < 2 {
		return h, 0, Malformed("a PUBLISH of %d bytes", remaining)
	}
	if len(body) < 2 {
		return h, 2, nil
	}
	topic := 2 + int(binary.BigEndian.Uint16(body))
	at := topic
	if first&6 != 0 {
		at += 2
	}
	if at > remaining {
		return h, 0, Malformed("a topic of %d bytes in a PUBLISH of %d", topic-2, remaining)
	}
	if len(body) < at {
		return h, at, nil
	}
	h.Topic = body[2:topic]
	if first&6 != 0 {
		h.ID = binary.BigEndian.Uint16(body[topic:])
		if h.ID == 0 {
			return h, 0, Malformed("packet id 0 on a PUBLISH with QoS %d", first>>1&3)
		}
	}
	h.Size = at
	if l.V5 {
		if need, err = h.properties(remaining, body, l); need > 0 || err != nil {
			return h, need, err
		}
	}
	if len(h.Topic) == 0 && h.Alias == 0 {
		return h, 0, &Error{CodeTopicName, "a PUBLISH with an empty topic"}
	}
	return h, 0, nil
}

// properties decodes what follows the packet id of an MQTT 5 PUBLISH
// (MQTT 5 §3.3.2.3) and moves Size after it.
func (h *Head) properties(remaining int, body []byte, l Limits) (need int, err error) {
	have := body[h.Size:min(len(body), remaining)]
	length, n := mqttetl.VarInt(have)
	switch {
	case n < 0:
		return 0, Malformed("a property length of more than four bytes")
	case n == 0 && h.Size+len(have) == remaining:
		return 0, Malformed("a PUBLISH that ends before its property length")
	case n == 0:
		return h.Size + len(have) + 1, nil
	}
	from, end := h.Size+n, h.Size+n+int(length)
	if end > remaining {
		return 0, Malformed("properties of %d bytes in a PUBLISH of %d", length, remaining)
	}
	if l.Properties > 0 && int(length) > l.Properties {
		h.Size, h.Skipped = from, int(length)
		return 0, nil
	}
	if len(body) < end {
		return end, nil
	}
	h.Props, h.Size = mqttetl.Properties(body[from:end]), end
	if length == 0 {
		return 0, nil
	}
	if err := h.Props.Check(); err != nil {
		if precise := Properties(h.Props).Check(Publish); precise != nil {
			return 0, precise
		}
		return 0, Malformed("%v", err)
	}
	for p := range h.Props.All() {
		if p.ID == mqttetl.TopicAlias {
			return 0, h.alias(uint16(p.Number), l.Aliases)
		}
	}
	return 0, nil
}

func (h *Head) alias(alias, most uint16) error {
	switch {
	case most == 0:
		return &Error{CodeTopicAlias, "a topic alias although none was allowed (MQTT 5 §3.3.2.3.4)"}
	case alias == 0 || alias > most:
		return &Error{CodeTopicAlias, "a topic alias that is not from 1 to the maximum (MQTT 5 §3.3.2.3.4)"}
	}
	h.Alias = alias
	return nil
}

// Check says whether topic and properties hold only what they may: UTF-8 without
// NUL, no wildcards, no property twice, values in their range. Sources do not
// ask for it: a message that a broker has let through would be sent again for
// ever by a broker that they refuse to take it from.
func (h *Head) Check() error {
	ascii := true
	for _, c := range h.Topic {
		switch {
		case c == 0:
			return Malformed("a topic with NUL")
		case c == '+' || c == '#':
			return &Error{CodeTopicName, "a PUBLISH whose topic has a wildcard"}
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if !ascii && !utf8.Valid(h.Topic) {
		return Malformed("a topic that is not UTF-8")
	}
	if len(h.Props) == 0 {
		return nil
	}
	return Properties(h.Props).Check(Publish)
}

// validString is the rule of MQTT 5 §1.5.4. Control characters are allowed,
// although they should not be there.
func validString(s []byte) bool { return utf8.Valid(s) && bytes.IndexByte(s, 0) < 0 }
