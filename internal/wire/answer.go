package wire

import (
	"encoding/binary"
	"slices"
)

// An Answer is a packet with which a server answers one of a client: its packet
// id, what it says, and the properties in which it says more.
type Answer struct {
	ID      uint16 // packet id, 0 where the packet has none
	Present bool   // session present, of a CONNACK
	Code    byte   // reason code, or return code; 0 where it was left out
	Codes   []byte // those of SUBACK and UNSUBACK
	Props   Properties
}

// Reason is the reason string, empty if there is none.
func (a *Answer) Reason() string {
	for p := range a.Props.All() {
		if p.ID == ReasonString {
			return string(p.Value)
		}
	}
	return ""
}

// ReadConnack decodes what follows the fixed header of a CONNACK (MQTT 5 §3.2,
// 3.1.1 §3.2). Some servers that do not speak MQTT 5 answer in the form of
// 3.1.1, with a code below 0x80 and without properties.
func ReadConnack(body []byte, v5 bool) (a Answer, err error) {
	if len(body) < 2 || !v5 && len(body) != 2 {
		return a, Malformed("a CONNACK of %d bytes", len(body))
	}
	if body[0]&^1 != 0 {
		return a, Malformed("a CONNACK with reserved flags 0x%02x", body[0])
	}
	a.Present, a.Code = body[0]&1 != 0, body[1]
	if !v5 || a.Code > 0 && a.Code < 0x80 {
		return a, nil
	}
	if len(body) == 2 {
		return a, Malformed("a CONNACK that ends before its properties")
	}
	a.Props, _, err = cutProperties(body[2:], Connack)
	return a, err
}

// The codes of acknowledgements that are no refusals (MQTT 5 §3.4.2.1, §3.5.2.1,
// §3.6.2.1, §3.7.2.1, §3.9.3). Every code from 0x80 is a refusal: Mosquitto
// sends some that are not in the specification's lists.
var (
	publishCodes   = []byte{0, 0x10}
	releaseCodes   = []byte{0}
	subscribeCodes = []byte{0, 1, 2}
	suback311      = []byte{0, 1, 2, 0x80} // 3.1.1 §3.9.3
)

// ReadAck decodes what follows the fixed header of a PUBACK, PUBREC, PUBREL or
// PUBCOMP (MQTT 5 §3.4 to §3.7).
func ReadAck(packet byte, body []byte, v5 bool) (a Answer, err error) {
	if a.ID, err = packetID(packet, body); err != nil {
		return a, err
	}
	switch {
	case len(body) == 2:
		return a, nil
	case !v5:
		return a, Malformed("%s of %d bytes", names[packet], len(body))
	}
	codes := publishCodes
	if packet == Pubrel || packet == Pubcomp {
		codes = releaseCodes
	}
	if a.Code = body[2]; a.Code < 0x80 && !slices.Contains(codes, a.Code) {
		return a, Violation("%s with reason code 0x%02x", names[packet], a.Code)
	}
	if len(body) == 3 {
		return a, nil
	}
	var rest []byte
	if a.Props, rest, err = cutProperties(body[3:], packet); err == nil && len(rest) > 0 {
		err = Malformed("%s with %d bytes after its end", names[packet], len(rest))
	}
	return a, err
}

func packetID(packet byte, body []byte) (id uint16, err error) {
	if len(body) < 2 {
		return 0, Malformed("%s of %d bytes", names[packet], len(body))
	}
	if id = binary.BigEndian.Uint16(body); id == 0 {
		return 0, Malformed("packet id 0 on %s", names[packet])
	}
	return id, nil
}

// ReadCodes decodes what follows the fixed header of a SUBACK or UNSUBACK (MQTT
// 5 §3.9, §3.11). The codes of an UNSUBACK are as they come: nothing depends on
// them, and some servers leave them out.
func ReadCodes(packet byte, body []byte, v5 bool) (a Answer, err error) {
	if a.ID, err = packetID(packet, body); err != nil {
		return a, err
	}
	a.Codes = body[2:]
	allowed := suback311
	if v5 && (packet == Suback || len(a.Codes) > 0) {
		allowed = subscribeCodes
		if a.Props, a.Codes, err = cutProperties(a.Codes, packet); err != nil {
			return a, err
		}
	}
	switch {
	case packet == Unsuback && !v5 && len(a.Codes) > 0:
		return a, Malformed("an UNSUBACK of %d bytes", len(body))
	case packet == Unsuback:
		return a, nil
	case len(a.Codes) == 0:
		return a, Violation("a SUBACK without a reason code")
	}
	for _, c := range a.Codes {
		if !slices.Contains(allowed, c) && (c < 0x80 || !v5) {
			return a, Violation("a SUBACK with reason code 0x%02x", c)
		}
	}
	return a, nil
}

// ReadDisconnect decodes what follows the fixed header of a server's DISCONNECT
// (MQTT 5 §3.14).
func ReadDisconnect(body []byte) (a Answer, err error) {
	if len(body) == 0 {
		return a, nil
	}
	a.Code = body[0]
	if len(body) == 1 {
		return a, nil
	}
	var rest []byte
	if a.Props, rest, err = cutProperties(body[1:], Disconnect); err == nil && len(rest) > 0 {
		err = Malformed("a DISCONNECT with %d bytes after its end", len(rest))
	}
	return a, err
}
