package wire

// Reason codes (MQTT 5 §2.4): those with which a client ends a connection, and
// those that change what it does next.
const (
	CodeUnspecified       = 0x80
	CodeMalformed         = 0x81
	CodeProtocol          = 0x82
	CodeImplementation    = 0x83
	CodeVersion           = 0x84
	CodeBadLogin          = 0x86
	CodeNotAuthorized     = 0x87
	CodeUnavailable       = 0x88
	CodeBusy              = 0x89
	CodeBanned            = 0x8a
	CodeShuttingDown      = 0x8b
	CodeBadAuthentication = 0x8c
	CodeTakenOver         = 0x8e
	CodeTopicName         = 0x90
	CodeIDNotFound        = 0x92
	CodeTopicAlias        = 0x94
	CodeTooLarge          = 0x95
)

// text311 are the return codes of CONNACK (MQTT 3.1.1 §3.2.2.3).
var text311 = map[byte]string{
	1: "unacceptable protocol version",
	2: "client id rejected",
	3: "server unavailable",
	4: "bad user name or password",
	5: "not authorized",
}

// text5 are the reason codes of MQTT 5 (§2.4) that a server sends.
var text5 = map[byte]string{
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

// CodeText names a reason code of MQTT 5.
func CodeText(code byte) string { return nameCode(text5, code) }

// CodeText311 names a return code of a CONNACK of MQTT 3.1.1.
func CodeText311(code byte) string { return nameCode(text311, code) }

func nameCode(names map[byte]string, code byte) string {
	if s, ok := names[code]; ok {
		return s
	}
	return "unknown reason"
}

// RefusesLogin says of the code of a CONNACK, of 3.1.1 or else of MQTT 5, that user,
// password or certificate are not accepted.
func RefusesLogin(code byte, v311 bool) bool {
	if v311 {
		return code == 4 || code == 5
	}
	switch code {
	case CodeBadLogin, CodeNotAuthorized, CodeBanned, CodeBadAuthentication:
		return true
	}
	return false
}

// RefusesVersion says of the code of a CONNACK, of 3.1.1 or else of MQTT 5, that the
// broker does not speak this version of MQTT.
func RefusesVersion(code byte, v311 bool) bool {
	return v311 && code == 1 || !v311 && code == CodeVersion
}
