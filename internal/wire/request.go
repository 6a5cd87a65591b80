package wire

import (
	"encoding/binary"
	"slices"
)

// ReadConnect decodes what follows the fixed header of a CONNECT (MQTT 5 §3.1,
// 3.1.1 §3.1, 3.1 §3.1). Its slices point into body.
func ReadConnect(body []byte) (l Login, err error) {
	name, b, ok := cutString(body)
	if !ok || len(b) < 4 {
		return l, Malformed("a CONNECT of %d bytes", len(body))
	}
	flags := b[1]
	l.Version, l.KeepAlive, b = b[0]&^bridge, binary.BigEndian.Uint16(b[2:]), b[4:]
	known := string(name) == "MQTT" && (l.Version == Version5 || l.Version == Version311) || string(name) == "MQIsdp" && l.Version == Version31
	if !known {
		l.Version = 0
		return l, &Error{CodeVersion, "a CONNECT of a protocol that is none of MQTT 3.1, 3.1.1 and 5"}
	}
	if flags&1 != 0 {
		return l, Malformed("a CONNECT with a reserved flag")
	}
	l.CleanStart = flags&flagClean != 0
	if l.Version == Version5 {
		if l.Props, b, err = cutProperties(b, Connect); err != nil {
			return l, err
		}
	}
	if b, err = l.readPayload(b, flags); err == nil && len(b) > 0 {
		err = Malformed("a CONNECT with %d bytes after its end", len(b))
	}
	if err == nil {
		err = l.check()
	}
	return l, err
}

// bridge is what Mosquitto adds to the version when it connects as a bridge.
const bridge = 0x80

// readPayload decodes client id, will, user name and password, and returns what
// follows them (MQTT 5 §3.1.3).
func (l *Login) readPayload(b []byte, flags byte) (rest []byte, err error) {
	cut := func() (s []byte) {
		ok := false
		if s, b, ok = cutString(b); !ok && err == nil {
			err = Malformed("a CONNECT that is cut short")
		}
		return s
	}
	text := func() string {
		s := cut()
		if err == nil && !validString(s) {
			err = Malformed("a CONNECT with a string that is not UTF-8 without NUL")
		}
		return string(s)
	}
	l.ClientID = text()
	if qos := flags >> 3 & 3; flags&flagWill != 0 && err == nil {
		w := &WillMessage{QoS: qos, Retain: flags&flagRetain != 0}
		if l.Version == Version5 {
			if w.Props, b, err = cutProperties(b, Will); err != nil {
				return nil, err
			}
		}
		w.Topic, w.Payload, l.Will = text(), cut(), w
	} else if flags&(flagRetain|3<<3) != 0 {
		return nil, Malformed("a CONNECT with flags of a will and without one")
	}
	if flags>>3&3 == 3 {
		return nil, Malformed("a CONNECT whose will has QoS 3")
	}
	if flags&flagUsername != 0 {
		l.Username = text()
	}
	if flags&flagPassword != 0 {
		l.Password = cut()
	}
	return b, err
}

// ReadSubscribe decodes what follows the fixed header of a SUBSCRIBE (MQTT 5
// §3.8). What a filter may be is for others to say.
func ReadSubscribe(body []byte, v5 bool) (id uint16, p Properties, filters []Filter, err error) {
	id, p, rest, err := cutRequest(Subscribe, body, v5)
	for len(rest) > 0 && err == nil {
		topic, after, ok := cutString(rest)
		if !ok || len(after) == 0 {
			return id, p, nil, Malformed("a SUBSCRIBE that is cut short")
		}
		filters, rest = append(filters, Filter{string(topic), after[0]}), after[1:]
	}
	if err == nil && len(filters) == 0 {
		err = Violation("a SUBSCRIBE without a filter")
	}
	return id, p, filters, err
}

// ReadUnsubscribe decodes what follows the fixed header of an UNSUBSCRIBE (MQTT 5
// §3.10).
func ReadUnsubscribe(body []byte, v5 bool) (id uint16, p Properties, topics []string, err error) {
	id, p, rest, err := cutRequest(Unsubscribe, body, v5)
	for len(rest) > 0 && err == nil {
		topic, after, ok := cutString(rest)
		if !ok {
			return id, p, nil, Malformed("an UNSUBSCRIBE that is cut short")
		}
		topics, rest = append(topics, string(topic)), after
	}
	if err == nil && len(topics) == 0 {
		err = Violation("an UNSUBSCRIBE without a filter")
	}
	return id, p, topics, err
}

func cutRequest(packet byte, body []byte, v5 bool) (id uint16, p Properties, rest []byte, err error) {
	if id, err = packetID(packet, body); err != nil || !v5 {
		return id, nil, body[min(2, len(body)):], err
	}
	p, rest, err = cutProperties(body[2:], packet)
	return id, slices.Clip(p), rest, err
}
