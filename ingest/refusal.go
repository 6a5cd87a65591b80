package ingest

import (
	"fmt"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/reason"
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
	code   byte // reason code (MQTT 5) or return code (3.1.1 §3.2.2.3)
	reason string
}

// refusalOf decodes a packet's reason code and reason string. p begins with
// the code; an empty p means code 0 (MQTT 5 §3.14.2.1).
func refusalOf(packet string, v5 bool, p []byte) *refusal {
	r := &refusal{packet: packet, v5: v5}
	if len(p) == 0 {
		return r
	}
	r.code = p[0]
	if packet == packetConnack && r.code < 0x80 {
		r.v5 = false // a broker that does not know MQTT 5 answers in its own way
	}
	r.reason = reasonString(p[1:])
	return r
}

// reasonString returns the reason string (MQTT 5 §3.2.2.3.9) if it is the first
// of the properties in p, which begins with their length. Brokers that send one
// send it first; otherwise the code has to do.
func reasonString(p []byte) string {
	_, n := mqttetl.VarInt(p)
	if n <= 0 || len(p) < n+3 || p[n] != 0x1f {
		return ""
	}
	p = p[n+1:]
	size := int(p[0])<<8 | int(p[1])
	return string(p[2:min(len(p), 2+size)])
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("broker's %s: %s (0x%02x)", r.packet, r.meaning(), r.code)
	if r.reason != "" {
		text += ": " + r.reason
	}
	return text
}

func (r *refusal) meaning() string {
	switch {
	case !r.v5:
		return reason.Text311(r.code)
	case r.packet == packetDisconnect && r.code == 0:
		return "normal disconnection" // in a CONNACK 0 is success
	}
	return reason.Text(r.code)
}

// version says that the broker does not speak this version of MQTT.
func (r *refusal) version() bool {
	return r.packet == packetConnack && reason.Version(r.code, !r.v5)
}

// login says that the broker does not accept user, password or certificate.
func (r *refusal) login() bool { return r.packet == packetConnack && reason.Login(r.code, !r.v5) }

// takenOver says that another client has connected with the same client id.
func (r *refusal) takenOver() bool {
	return r.packet == packetDisconnect && r.code == reason.TakenOver
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
