package ingest

import (
	"fmt"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// The packets in which a broker says why it will not serve.
const (
	packetConnack    = "CONNACK"
	packetDisconnect = "DISCONNECT"
)

// A refusal is what a broker gave as the reason for ending a connection or not
// accepting it. It implements error.
type refusal struct {
	packet string
	v5     bool
	code   byte   // reason code (MQTT 5) or return code (3.1.1 §3.2.2.3)
	reason string // in the broker's own words
	server string // that it names instead of itself
}

// refusalOf decodes a packet's reason code, reason string and server reference.
// p begins with the code; an empty p means code 0 (MQTT 5 §3.14.2.1).
func refusalOf(packet string, v5 bool, p []byte) *refusal {
	r := &refusal{packet: packet, v5: v5}
	if len(p) == 0 {
		return r
	}
	r.code = p[0]
	if packet == packetConnack && r.code < 0x80 {
		r.v5 = false // a broker that does not know MQTT 5 answers in its own way
	}
	size, n := mqttetl.VarInt(p[1:])
	if n <= 0 {
		return r
	}
	props := p[1+n:]
	for v := range wire.Properties(props[:min(len(props), int(size))]).All() {
		switch v.ID {
		case wire.ReasonString:
			r.reason = string(v.Value)
		case serverReference:
			r.server = string(v.Value)
		}
	}
	return r
}

// serverReference is the property in which a broker names another one.
const serverReference = 0x1c

func (r *refusal) Error() string {
	text := fmt.Sprintf("broker's %s: %s (0x%02x)", r.packet, r.meaning(), r.code)
	if r.reason != "" {
		text += ": " + r.reason
	}
	if r.server != "" {
		text += ", use " + r.server
	}
	return text
}

func (r *refusal) meaning() string {
	switch {
	case !r.v5:
		return wire.CodeText311(r.code)
	case r.packet == packetDisconnect && r.code == 0:
		return "normal disconnection" // in a CONNACK 0 is success
	}
	return wire.CodeText(r.code)
}

// version says that the broker does not speak this version of MQTT.
func (r *refusal) version() bool {
	return r.packet == packetConnack && wire.RefusesVersion(r.code, !r.v5)
}

// login says that the broker does not accept user, password or certificate.
func (r *refusal) login() bool { return r.packet == packetConnack && wire.RefusesLogin(r.code, !r.v5) }

// takenOver says that another client has connected with the same client id.
func (r *refusal) takenOver() bool {
	return r.packet == packetDisconnect && r.code == wire.CodeTakenOver
}

// remedy is what helps against a refusal that will not pass until someone acts,
// empty for any other.
func (r *refusal) remedy() string {
	if !r.v5 {
		if r.packet == packetConnack && r.code == 2 {
			return remedies[0x85]
		}
		return ""
	}
	return remedies[r.code]
}

// remedies by the reason code of MQTT 5, in CONNACK and DISCONNECT.
var remedies = map[byte]string{
	0x85: "set another client_id: the broker does not take this one",
	0x87: "allow this user the filters of subscribe in the broker's access rules",
	0x8f: "check the filters of subscribe: the broker does not take one of them",
	0x95: "shorten the filters of subscribe, or raise the broker's limit of the packet size",
	0x97: "raise the broker's quota, of connections, sessions or queued messages",
	0x98: "ask who runs the broker: it ends the connection on purpose",
	0x9b: "set qos to what the broker takes",
	0x9c: "set url to the server that takes the place of this one",
	0x9d: "set url to the server that takes the place of this one",
	0x9e: "set share to \"\" and connections to 1: the broker has no shared subscriptions",
	0x9f: "raise the broker's limit of new connections",
	0xa2: "name the topics in subscribe without + and #: the broker has no wildcards",
}

func (c *conn) setRefusal(r *refusal) {
	c.refusalMu.Lock()
	defer c.refusalMu.Unlock()
	c.refused = r
}

func (c *conn) refusal() *refusal {
	c.refusalMu.Lock()
	defer c.refusalMu.Unlock()
	return c.refused
}
