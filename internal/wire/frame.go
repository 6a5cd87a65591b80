package wire

import (
	"fmt"

	"github.com/mqttetl/mqttetl"
)

// Control packet types (MQTT 5 §2.1.2, table 2-1).
const (
	Connect     = 1
	Connack     = 2
	Publish     = 3
	Puback      = 4
	Pubrec      = 5
	Pubrel      = 6
	Pubcomp     = 7
	Subscribe   = 8
	Suback      = 9
	Unsubscribe = 10
	Unsuback    = 11
	Pingreq     = 12
	Pingresp    = 13
	Disconnect  = 14
	Auth        = 15
)

// names are the names of the packet types, with their article.
var names = [16]string{
	"a packet of type 0", "a CONNECT", "a CONNACK", "a PUBLISH", "a PUBACK", "a PUBREC", "a PUBREL", "a PUBCOMP",
	"a SUBSCRIBE", "a SUBACK", "an UNSUBSCRIBE", "an UNSUBACK", "a PINGREQ", "a PINGRESP", "a DISCONNECT", "an AUTH",
}

// Name names a packet type, such as "a PUBACK".
func Name(packet byte) string { return names[packet&15] }

// MaxControl bounds the packets other than PUBLISH that a server sends, in bytes:
// they hold words for people at most.
const MaxControl = 256 << 10

// Error is what a server sent against the specification. It ends the
// connection, with its code in the DISCONNECT of an MQTT 5 connection.
type Error struct {
	Code byte
	What string
}

func (e *Error) Error() string {
	return fmt.Sprintf("broker broke the protocol (0x%02x): %s", e.Code, e.What)
}

// Malformed is the error of bytes that are no packet (MQTT 5 §4.13).
func Malformed(format string, args ...any) error {
	return &Error{CodeMalformed, fmt.Sprintf(format, args...)}
}

// Violation is the error of a packet that must not be there (MQTT 5 §4.13).
func Violation(format string, args ...any) error {
	return &Error{CodeProtocol, fmt.Sprintf(format, args...)}
}

// FixedHeader decodes the fixed header at the front of p (MQTT 5 §2.1): the
// first byte, the header's own size, and the remaining length, which cannot
// exceed 268,435,455. Size 0 means that p ends before the header does.
func FixedHeader(p []byte) (first byte, size, remaining int, err error) {
	if len(p) < 2 {
		return 0, 0, 0, nil
	}
	v, n := mqttetl.VarInt(p[1:])
	if n < 0 {
		return 0, 0, 0, Malformed("a remaining length of more than four bytes, beyond 256 MiB")
	}
	if n == 0 {
		return 0, 0, 0, nil
	}
	return p[0], 1 + n, int(v), nil
}

// CheckFirst judges the first byte of a packet: its type must be one that a
// server sends and its flags those that the type prescribes (MQTT 5 §2.1.3).
func CheckFirst(first byte, v5 bool) error {
	kind, flags := first>>4, first&15
	switch kind {
	case Publish:
		if flags&6 == 6 {
			return Malformed("a PUBLISH with QoS 3")
		}
		return nil
	case Pubrel:
		if flags != 2 {
			return Malformed("a PUBREL with reserved flags 0x%x", flags)
		}
		return nil
	case Connack, Puback, Pubrec, Pubcomp, Suback, Unsuback, Pingresp:
	case Disconnect:
		if !v5 {
			return Violation("MQTT 3.1.1 has no DISCONNECT from the server")
		}
	case Auth:
		return Violation("an AUTH although no authentication method was offered")
	default:
		return Malformed("%s (type %d), which no server sends", names[kind], kind)
	}
	if flags != 0 {
		return Malformed("%s with reserved flags 0x%x", names[kind], flags)
	}
	return nil
}
