package ingest

import (
	"encoding/binary"
	"fmt"

	"github.com/mqttetl/mqttetl"
)

// Control packet types (MQTT 5 §2.1.2, table 2-1).
const (
	typeConnack    = 2
	typePublish    = 3
	typePuback     = 4
	typePubrec     = 5
	typePubrel     = 6
	typePubcomp    = 7
	typeSuback     = 9
	typeUnsuback   = 11
	typePingreq    = 12
	typePingresp   = 13
	typeDisconnect = 14
	typeAuth       = 15
)

// Reason codes with which this client ends a connection (MQTT 5 §3.14.2.1).
const (
	reasonMalformed       = 0x81
	reasonProtocolError   = 0x82
	reasonTopicAlias      = 0x94
	reasonPacketNotFound  = 0x92 // of a PUBCOMP (MQTT 5 §3.7.2.1)
	reasonTopicNameBroken = 0x90
)

// maxControlFrame bounds the frames that are passed to the control plane whole.
const maxControlFrame = 256 << 10

// A protocolError is what a broker sent against the specification. It ends the
// connection, with its code in the DISCONNECT of an MQTT 5 connection.
type protocolError struct {
	code byte
	what string
}

func (e *protocolError) Error() string {
	return fmt.Sprintf("broker broke the protocol (0x%02x): %s", e.code, e.what)
}

func malformed(format string, args ...any) error {
	return &protocolError{reasonMalformed, fmt.Sprintf(format, args...)}
}

func violation(format string, args ...any) error {
	return &protocolError{reasonProtocolError, fmt.Sprintf(format, args...)}
}

// fixedHeader decodes the fixed header at the front of p (MQTT 5 §2.1): the
// first byte, the header's own size, and the remaining length, which cannot
// exceed 268,435,455. Size 0 means that p ends before the header does.
func fixedHeader(p []byte) (first byte, size, remaining int, err error) {
	if len(p) < 2 {
		return 0, 0, 0, nil
	}
	v, n := mqttetl.VarInt(p[1:])
	if n < 0 {
		return 0, 0, 0, malformed("a remaining length of more than four bytes, beyond 256 MiB")
	}
	if n == 0 {
		return 0, 0, 0, nil
	}
	return p[0], 1 + n, int(v), nil
}

// checkFirst judges the first byte of a frame from a broker: its type must be
// one that a server sends and its flags those that the type prescribes
// (MQTT 5 §2.1.3).
func checkFirst(first byte, v5 bool) error {
	kind, flags := first>>4, first&15
	switch kind {
	case typePublish:
		if flags&6 == 6 {
			return malformed("a PUBLISH with QoS 3")
		}
		return nil
	case typePubrel:
		if flags != 2 {
			return malformed("a PUBREL with reserved flags 0x%x", flags)
		}
		return nil
	case typePuback, typePubrec, typePubcomp:
		return violation("a packet of type %d acknowledges what was never published", kind)
	case typeConnack, typeSuback, typeUnsuback, typePingresp:
	case typeDisconnect:
		if !v5 {
			return violation("MQTT 3.1.1 has no DISCONNECT from the server")
		}
	case typeAuth:
		return violation("an AUTH although no authentication method was offered")
	default:
		return malformed("a packet of type %d, which no server sends", kind)
	}
	if flags != 0 {
		return malformed("a packet of type %d with reserved flags 0x%x", kind, flags)
	}
	return nil
}

// head is the variable header of a PUBLISH (MQTT 5 §3.3.2).
type head struct {
	topic []byte
	props mqttetl.Properties
	id    uint16 // 0 with QoS 0
	size  int    // bytes before the payload
}

// publishHead decodes the variable header of a PUBLISH from body, which is as
// much of the frame's remaining length as has been received. A need above 0
// says that at least so many bytes of body are wanted; it never exceeds remaining.
func publishHead(first byte, remaining int, body []byte, v5 bool) (h head, need int, err error) {
	if remaining < 2 {
		return h, 0, malformed("a PUBLISH of %d bytes", remaining)
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
		return h, 0, malformed("a topic of %d bytes in a PUBLISH of %d", topic-2, remaining)
	}
	if len(body) < at {
		return h, at, nil
	}
	h.topic = body[2:topic]
	if first&6 != 0 {
		h.id = binary.BigEndian.Uint16(body[topic:])
		if h.id == 0 {
			return h, 0, malformed("packet id 0 on a PUBLISH with QoS %d", first>>1&3)
		}
	}
	h.size = at
	if v5 {
		if need, err = h.properties(remaining, body); need > 0 || err != nil {
			return h, need, err
		}
	}
	if len(h.topic) == 0 {
		return h, 0, &protocolError{reasonTopicNameBroken, "a PUBLISH with an empty topic"}
	}
	return h, 0, nil
}

// properties decodes what follows the packet id of an MQTT 5 PUBLISH
// (MQTT 5 §3.3.2.3) and moves size behind it.
func (h *head) properties(remaining int, body []byte) (need int, err error) {
	have := body[h.size:min(len(body), remaining)]
	length, n := mqttetl.VarInt(have)
	switch {
	case n < 0:
		return 0, malformed("a property length of more than four bytes")
	case n == 0 && h.size+len(have) == remaining:
		return 0, malformed("a PUBLISH that ends before its property length")
	case n == 0:
		return h.size + len(have) + 1, nil
	}
	from, end := h.size+n, h.size+n+int(length)
	if end > remaining {
		return 0, malformed("properties of %d bytes in a PUBLISH of %d", length, remaining)
	}
	if len(body) < end {
		return end, nil
	}
	h.props, h.size = mqttetl.Properties(body[from:end]), end
	if length == 0 {
		return 0, nil
	}
	if err := h.props.Check(); err != nil {
		return 0, malformed("%v", err)
	}
	for p := range h.props.All() {
		if p.ID == mqttetl.TopicAlias {
			return 0, &protocolError{reasonTopicAlias, "a topic alias although none was allowed (MQTT 5 §3.3.2.3.4)"}
		}
	}
	return 0, nil
}
