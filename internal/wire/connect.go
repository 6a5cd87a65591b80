package wire

import (
	"encoding/binary"

	"github.com/mqttetl/mqttetl"
)

// Reason codes with which a server alone refuses or ends a connection (MQTT 5 §2.4).
const (
	CodeClientID  = 0x85
	CodeKeepAlive = 0x8d
	CodeQuota     = 0x97
)

const (
	withWill       = 0x04 // reason code of a DISCONNECT
	NoSubscription = 0x11 // code of an UNSUBACK (MQTT 5 §3.11.3)
)

// Properties that a server looks at.
const (
	sessionExpiry        = 0x11
	authenticationMethod = 0x15
	authenticationData   = 0x16
	willDelay            = 0x18
	serverReference      = 0x1c

	WildcardAvailable    = 0x28
	IdentifiersAvailable = 0x29
	SharedAvailable      = 0x2a
)

// SessionExpiry is how many seconds the session outlives the connection.
func (l *Login) SessionExpiry() uint32 {
	if l.Version == Version5 {
		return l.Props.number(sessionExpiry)
	}
	if l.CleanStart {
		return 0
	}
	return NeverExpires
}

// AsksAuthentication says that the client wants more than a password.
func (l *Login) AsksAuthentication() bool { return l.Props.has(authenticationMethod) }

// check is what MQTT asks of a CONNECT as a whole.
func (l *Login) check() error {
	switch {
	case l.Password != nil && l.Username == "" && l.Version != Version5:
		return Malformed("a CONNECT with a password and no user name")
	case l.Props.has(authenticationData) && !l.AsksAuthentication():
		return Violation("a CONNECT with authentication data and no method")
	case l.Will != nil && mqttetl.CheckTopic([]byte(l.Will.Topic)) != nil:
		return &Error{CodeTopicName, "a will topic that is no topic"}
	}
	return nil
}

// NeverExpires is the session expiry interval of a session that stays.
const NeverExpires = 1<<32 - 1

// Delay is how many seconds the will waits.
func (w *WillMessage) Delay() uint32 { return w.Props.number(willDelay) }

// Message is the will's properties as those of a PUBLISH.
func (w *WillMessage) Message() (p mqttetl.Properties) {
	for rest := w.Props; len(rest) > 0; {
		v, n := rest.next()
		if v.ID != willDelay {
			p = append(p, rest[:n]...)
		}
		rest = rest[n:]
	}
	return p
}

func (p Properties) number(id byte) uint32 {
	for v := range p.All() {
		if v.ID == id {
			return v.Number
		}
	}
	return 0
}

// codes311 are the return codes of CONNACK before MQTT 5 (3.1.1 §3.2.2.3).
var codes311 = map[byte]byte{CodeVersion: 1, CodeClientID: 2, CodeUnavailable: 3, CodeBusy: 3, CodeQuota: 3, CodeBadLogin: 5, CodeNotAuthorized: 5}

// AppendRefusal appends a CONNACK that refuses. Before MQTT 5 some refusals have no
// code: then nothing is appended, and the connection is to be closed.
func AppendRefusal(dst []byte, version, code byte) []byte {
	if version != Version5 {
		if code = codes311[code]; code == 0 {
			return dst
		}
	}
	return AppendConnack(dst, version == Version5, Answer{Code: code})
}

// AppendNumber appends a property that is an integer.
func (p Properties) AppendNumber(id byte, v uint32) Properties {
	switch define(id).kind {
	case byteKind:
		return append(p, id, byte(v))
	case uint16Kind:
		return binary.BigEndian.AppendUint16(append(p, id), uint16(v))
	case uint32Kind:
		return binary.BigEndian.AppendUint32(append(p, id), v)
	}
	return mqttetl.AppendVarInt(append(p, id), v)
}

// AppendText appends a property that is a string.
func (p Properties) AppendText(id byte, s string) Properties { return AppendString(append(p, id), s) }

// CheckFirstOfClient judges the first byte of a packet: its type must be one that
// a client sends after CONNECT, and its flags those that the type prescribes.
// MQTT 3.1 has DUP on PUBREL, SUBSCRIBE and UNSUBSCRIBE, too.
func CheckFirstOfClient(first byte, version byte) error {
	kind, flags, want := first>>4, first&15, byte(0)
	switch kind {
	case Publish:
		if flags&6 == 6 {
			return Malformed("a PUBLISH with QoS 3")
		}
		if flags&6 == 0 && flags&8 != 0 {
			return Malformed("a PUBLISH of QoS 0 with DUP")
		}
		return nil
	case Pubrel, Subscribe, Unsubscribe:
		want = 2
		if version == Version31 {
			flags &^= 8
		}
	case Puback, Pubrec, Pubcomp, Pingreq, Disconnect:
	case Connect:
		return Violation("a second CONNECT")
	case Auth:
		if version != Version5 {
			return Malformed("an AUTH before MQTT 5")
		}
		return Violation("an AUTH although no authentication method was agreed on")
	default:
		return Malformed("%s, which no client sends", names[kind])
	}
	if flags != want {
		return Malformed("%s with reserved flags 0x%x", names[kind], flags)
	}
	return nil
}

// ReadDeparture decodes what follows the fixed header of a client's DISCONNECT
// (MQTT 5 §3.14): whether the will is to be sent, and the session expiry interval if
// it is another than before.
func ReadDeparture(body []byte, v5 bool) (will bool, expiry uint32, changed bool, err error) {
	if !v5 {
		if len(body) > 0 {
			return false, 0, false, Malformed("a DISCONNECT of %d bytes", len(body))
		}
		return false, 0, false, nil
	}
	a, err := ReadDisconnect(body)
	if err != nil {
		return false, 0, false, err
	}
	switch {
	case a.Code != 0 && a.Code != withWill && a.Code < CodeUnspecified:
		return false, 0, false, Violation("a DISCONNECT with reason code 0x%02x", a.Code)
	case a.Props.has(serverReference):
		return false, 0, false, Violation("a DISCONNECT of a client with a server reference")
	}
	return a.Code != 0, a.Props.number(sessionExpiry), a.Props.has(sessionExpiry), nil
}

// CheckOfClient is Check for what a client may say.
func (h *Head) CheckOfClient() error {
	if err := h.Check(); err != nil {
		return err
	}
	if Properties(h.Props).has(subscriptionIdentifier) {
		return Violation("property %s on a PUBLISH of a client", define(subscriptionIdentifier).name)
	}
	return nil
}
