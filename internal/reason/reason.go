// Package reason names what brokers answer. Its invariant: the words are those
// of the specifications.
package reason

// Codes that change what a client does next.
const (
	Unspecified            = 0x80
	ImplementationSpecific = 0x83

	UnsupportedVersion = 0x84
	BadLogin           = 0x86
	NotAuthorized      = 0x87
	ServerUnavailable  = 0x88
	ServerBusy         = 0x89
	Banned             = 0x8a
	ShuttingDown       = 0x8b
	BadAuthentication  = 0x8c
	TakenOver          = 0x8e
)

// v311 are the return codes of CONNACK (MQTT 3.1.1 §3.2.2.3).
var v311 = map[byte]string{
	1: "unacceptable protocol version",
	2: "client id rejected",
	3: "server unavailable",
	4: "bad user name or password",
	5: "not authorized",
}

// v5 are the reason codes of MQTT 5 (§2.4) that a server sends.
var v5 = map[byte]string{
	0x00: "success",
	0x01: "granted QoS 1",
	0x02: "granted QoS 2",
	0x04: "disconnect with will message",
	0x10: "no matching subscribers",
	0x11: "no subscription existed",
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
	0x92: "packet id not found",
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

// Text names a reason code of MQTT 5.
func Text(code byte) string { return name(v5, code) }

// Text311 names a return code of a CONNACK of MQTT 3.1.1.
func Text311(code byte) string { return name(v311, code) }

func name(names map[byte]string, code byte) string {
	if s, ok := names[code]; ok {
		return s
	}
	return "unknown reason"
}

// Login says of the code of a CONNACK, of 3.1.1 or else of MQTT 5, that user,
// password or certificate are not accepted.
func Login(code byte, v311 bool) bool {
	if v311 {
		return code == 4 || code == 5
	}
	switch code {
	case BadLogin, NotAuthorized, Banned, BadAuthentication:
		return true
	}
	return false
}

// Version says of the code of a CONNACK, of 3.1.1 or else of MQTT 5, that the
// broker does not speak this version of MQTT.
func Version(code byte, v311 bool) bool {
	return v311 && code == 1 || !v311 && code == UnsupportedVersion
}
