package ingest

import (
	"fmt"

	"github.com/mqttetl/mqttetl"
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
	names := reasons5
	if !r.v5 {
		names = reasons311
	}
	if name, ok := names[r.code]; ok {
		return name
	}
	return "unknown reason"
}

// version says that the broker does not speak this version of MQTT.
func (r *refusal) version() bool {
	return r.packet == packetConnack && (r.v5 && r.code == 0x84 || !r.v5 && r.code == 1)
}

// login says that the broker does not accept user, password or certificate.
func (r *refusal) login() bool {
	if r.packet != packetConnack {
		return false
	}
	if r.v5 {
		return r.code == 0x86 || r.code == 0x87 || r.code == 0x8c
	}
	return r.code == 4 || r.code == 5
}

// takenOver says that another client has connected with the same client id.
func (r *refusal) takenOver() bool {
	return r.packet == packetDisconnect && r.code == reasonTakenOver
}

// reasons311 are the return codes of CONNACK (MQTT 3.1.1 §3.2.2.3).
var reasons311 = map[byte]string{
	1: "unacceptable protocol version",
	2: "client id rejected",
	3: "server unavailable",
	4: "bad user name or password",
	5: "not authorized",
}

// reasons5 are the reason codes of CONNACK, SUBACK and DISCONNECT from a server
// (MQTT 5 §2.4).
var reasons5 = map[byte]string{
	0x00: "normal disconnection",
	0x80: "unspecified error",
	0x81: "malformed packet",
	0x82: "protocol error",
	0x83: "implementation specific error",
	0x84: "unsupported protocol version",
	0x85: "client id not valid",
	0x86: "bad user name or password",
	0x87: "not authorized",
	0x88: "server unavailable",
	0x89: "server busy",
	0x8a: "banned",
	0x8b: "server shutting down",
	0x8c: "bad authentication method",
	0x8d: "keep alive timeout",
	0x8e: "session taken over",
	0x8f: "topic filter invalid",
	0x90: "topic name invalid",
	0x91: "packet id in use",
	0x93: "receive maximum exceeded",
	0x94: "topic alias invalid",
	0x95: "packet too large",
	0x96: "message rate too high",
	0x97: "quota exceeded",
	0x98: "administrative action",
	0x99: "payload format invalid",
	0x9a: "retain not supported",
	0x9b: "QoS not supported",
	0x9c: "use another server",
	0x9d: "server moved",
	0x9e: "shared subscriptions not supported",
	0x9f: "connection rate exceeded",
	0xa0: "maximum connect time",
	0xa1: "subscription identifiers not supported",
	0xa2: "wildcard subscriptions not supported",
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
