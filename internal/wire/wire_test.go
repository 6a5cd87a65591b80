package wire

import (
	"errors"
	"strings"
	"testing"
)

// str is a string as it stands on the wire.
func str(s string) string { return string(AppendString(nil, s)) }

// sized is properties with their length before them.
func sized(p string) string { return string(rune(len(p))) + p }

// read reads a packet as a client does that has asked for MQTT 5 or not, and
// allowed 10 aliases.
func read(first byte, body string, v5 bool) error {
	err := CheckFirst(first, v5)
	if err != nil {
		return err
	}
	b := []byte(body)
	switch kind := first >> 4; kind {
	case Connack:
		_, err = ReadConnack(b, v5)
	case Publish:
		var h Head
		if h, _, err = PublishHead(first, len(b), b, Limits{V5: v5, Aliases: 10}); err == nil {
			err = h.Check()
		}
	case Suback, Unsuback:
		_, err = ReadCodes(kind, b, v5)
	case Disconnect:
		_, err = ReadDisconnect(b)
	default:
		_, err = ReadAck(kind, b, v5)
	}
	return err
}

// TestPackets: what a server sends is taken, or refused with the code that the
// specification wants in DISCONNECT.
func TestPackets(t *testing.T) {
	const id = "\x04\xd2"
	publish := func(props string) string { return str("a/b") + id + sized(props) + "payload" }
	for _, c := range []struct {
		name  string
		v5    bool
		first byte
		body  string
		code  byte // 0: good
	}{
		{"CONNACK", false, 0x20, "\x00\x00", 0},
		{"CONNACK, session", false, 0x20, "\x01\x00", 0},
		{"CONNACK, reserved flags", false, 0x20, "\x02\x00", CodeMalformed},
		{"CONNACK, flags of the header", false, 0x21, "\x00\x00", CodeMalformed},
		{"CONNACK, long", false, 0x20, "\x00\x00\x00", CodeMalformed},
		{"CONNACK, short", false, 0x20, "\x00", CodeMalformed},
		{"CONNACK 5", true, 0x20, "\x00\x00\x00", 0},
		{"CONNACK 5 without properties", true, 0x20, "\x00\x00", CodeMalformed},
		{"CONNACK 5, refused as 3.1.1", true, 0x20, "\x00\x01", 0},
		{"CONNACK 5, receive maximum", true, 0x20, "\x00\x00" + sized("\x21\x00\x01"), 0},
		{"CONNACK 5, receive maximum 0", true, 0x20, "\x00\x00" + sized("\x21\x00\x00"), CodeProtocol},
		{"CONNACK 5, receive maximum twice", true, 0x20, "\x00\x00" + sized("\x21\x00\x01\x21\x00\x01"), CodeProtocol},
		{"CONNACK 5, maximum QoS 2", true, 0x20, "\x00\x00" + sized("\x24\x02"), CodeProtocol},
		{"CONNACK 5, retain available 2", true, 0x20, "\x00\x00" + sized("\x25\x02"), CodeProtocol},
		{"CONNACK 5, packet size 0", true, 0x20, "\x00\x00" + sized("\x27\x00\x00\x00\x00"), CodeProtocol},
		{"CONNACK 5, alias maximum 0", true, 0x20, "\x00\x00" + sized("\x22\x00\x00"), 0},
		{"CONNACK 5, cut property", true, 0x20, "\x00\x00" + sized("\x21\x00"), CodeMalformed},
		{"CONNACK 5, property of PUBLISH", true, 0x20, "\x00\x00" + sized("\x01\x00"), CodeProtocol},
		{"CONNACK 5, unknown property", true, 0x20, "\x00\x00" + sized("\x04\x00"), CodeMalformed},
		{"CONNACK 5, property 0", true, 0x20, "\x00\x00" + sized("\x00\x00"), CodeMalformed},
		{"CONNACK 5, long identifier", true, 0x20, "\x00\x00" + sized("\x80\x80\x01\x00"), CodeMalformed},
		{"CONNACK 5, user properties", true, 0x20, "\x00\x00" + sized("\x26"+str("a")+str("b")+"\x26"+str("a")+str("")), 0},
		{"CONNACK 5, half a user property", true, 0x20, "\x00\x00" + sized("\x26"+str("a")), CodeMalformed},
		{"CONNACK 5, reason with NUL", true, 0x20, "\x00\x00" + sized("\x1f"+str("a\x00")), CodeMalformed},
		{"CONNACK 5, reason not UTF-8", true, 0x20, "\x00\x00" + sized("\x1f"+str("\xff")), CodeMalformed},
		{"PUBLISH", false, 0x30, str("a/b") + "payload", 0},
		{"PUBLISH, retained, empty", false, 0x31, str("a/b"), 0},
		{"PUBLISH, QoS 2 again", false, 0x3c, str("a/b") + id, 0},
		{"PUBLISH, QoS 3", false, 0x36, str("a/b") + id, CodeMalformed},
		{"PUBLISH, packet id 0", false, 0x32, str("a/b") + "\x00\x00", CodeMalformed},
		{"PUBLISH, no packet id", false, 0x32, str("a/b"), CodeMalformed},
		{"PUBLISH, no topic", false, 0x30, str("") + "payload", CodeTopicName},
		{"PUBLISH, cut topic", false, 0x30, "\x00\x09a/b", CodeMalformed},
		{"PUBLISH, topic with +", false, 0x30, str("+/b"), CodeTopicName},
		{"PUBLISH, topic with #", true, 0x30, str("a#") + "\x00", CodeTopicName},
		{"PUBLISH, topic with NUL", false, 0x30, str("a\x00b"), CodeMalformed},
		{"PUBLISH, topic not UTF-8", true, 0x30, str("a\xed\xa0\x80") + "\x00", CodeMalformed},
		{"PUBLISH, topic beyond the BMP", false, 0x30, str("A\U0002A6D4"), 0},
		{"PUBLISH, topic with a tab", false, 0x30, str("a\tb"), 0},
		{"PUBLISH 5", true, 0x32, publish(""), 0},
		{"PUBLISH 5 without properties", true, 0x32, str("a/b") + id, CodeMalformed},
		{"PUBLISH 5, all properties", true, 0x32, publish("\x01\x01\x02\x00\x00\x00\x00\x03" + str("") + "\x08" + str("r") + "\x09" + str("") + "\x0b\x01\x0b\x02\x26" + str("") + str("")), 0},
		{"PUBLISH 5, payload format 2", true, 0x32, publish("\x01\x02"), CodeProtocol},
		{"PUBLISH 5, content type twice", true, 0x32, publish("\x03" + str("a") + "\x03" + str("a")), CodeProtocol},
		{"PUBLISH 5, subscription identifier 0", true, 0x32, publish("\x0b\x00"), CodeProtocol},
		{"PUBLISH 5, endless identifier", true, 0x32, publish("\x0b\x80\x80\x80\x80\x01"), CodeMalformed},
		{"PUBLISH 5, response topic with #", true, 0x32, publish("\x08" + str("#")), CodeProtocol},
		{"PUBLISH 5, empty response topic", true, 0x32, publish("\x08" + str("")), CodeProtocol},
		{"PUBLISH 5, property of CONNACK", true, 0x32, publish("\x21\x00\x01"), CodeProtocol},
		{"PUBLISH 5, cut property", true, 0x32, publish("\x02\x00"), CodeMalformed},
		{"PUBLISH 5, alias", true, 0x30, str("") + sized("\x23\x00\x0a"), 0},
		{"PUBLISH 5, alias 0", true, 0x30, str("a") + sized("\x23\x00\x00"), CodeTopicAlias},
		{"PUBLISH 5, alias over the maximum", true, 0x30, str("a") + sized("\x23\x00\x0b"), CodeTopicAlias},
		{"PUBACK", false, 0x40, id, 0},
		{"PUBACK, long", false, 0x40, id + "\x00", CodeMalformed},
		{"PUBACK, short", false, 0x40, "\x04", CodeMalformed},
		{"PUBACK, packet id 0", false, 0x40, "\x00\x00", CodeMalformed},
		{"PUBACK, flags", false, 0x42, id, CodeMalformed},
		{"PUBACK 5, code", true, 0x40, id + "\x87", 0},
		{"PUBACK 5, code and reason", true, 0x40, id + "\x87" + sized("\x1f"+str("no")), 0},
		{"PUBACK 5, refusal of another packet", true, 0x40, id + "\x95", 0},
		{"PUBACK 5, unknown code", true, 0x40, id + "\x11", CodeProtocol},
		{"PUBACK 5, bytes after the end", true, 0x40, id + "\x00\x00\x00", CodeMalformed},
		{"PUBACK 5, property of PUBLISH", true, 0x40, id + "\x00" + sized("\x23\x00\x01"), CodeProtocol},
		{"PUBREL", false, 0x62, id, 0},
		{"PUBREL, flags", false, 0x60, id, CodeMalformed},
		{"PUBREL 5, not found", true, 0x62, id + "\x92", 0},
		{"PUBCOMP 5, code of PUBACK", true, 0x70, id + "\x10", CodeProtocol},
		{"SUBACK", false, 0x90, id + "\x00\x01\x02\x80", 0},
		{"SUBACK, code of MQTT 5", false, 0x90, id + "\x87", CodeProtocol},
		{"SUBACK, no code", false, 0x90, id, CodeProtocol},
		{"SUBACK 5", true, 0x90, id + "\x00\x02\x87", 0},
		{"SUBACK 5, no code", true, 0x90, id + "\x00", CodeProtocol},
		{"SUBACK 5, no properties", true, 0x90, id, CodeMalformed},
		{"SUBACK 5, unknown code", true, 0x90, id + "\x00\x03", CodeProtocol},
		{"UNSUBACK", false, 0xb0, id, 0},
		{"UNSUBACK, long", false, 0xb0, id + "\x00", CodeMalformed},
		{"UNSUBACK 5", true, 0xb0, id + "\x00\x11", 0},
		{"UNSUBACK 5, without codes", true, 0xb0, id, 0},
		{"UNSUBACK 5, packet id 0", true, 0xb0, "\x00\x00\x00\x00", CodeMalformed},
		{"DISCONNECT", false, 0xe0, "", CodeProtocol},
		{"DISCONNECT 5", true, 0xe0, "\x8e" + sized("\x1f"+str("other")), 0},
		{"DISCONNECT 5, session expiry twice", true, 0xe0, "\x00" + sized("\x11\x00\x00\x00\x01\x11\x00\x00\x00\x01"), CodeProtocol},
		{"DISCONNECT 5, bytes after the end", true, 0xe0, "\x00\x00\x00", CodeMalformed},
		{"PINGRESP, flags", true, 0xd1, "", CodeMalformed},
		{"PINGREQ", true, 0xc0, "", CodeMalformed},
		{"CONNECT", false, 0x10, "", CodeMalformed},
		{"AUTH", true, 0xf0, "", CodeProtocol},
		{"type 0", false, 0x00, "", CodeMalformed},
	} {
		err := read(c.first, c.body, c.v5)
		var fault *Error
		if errors.As(err, &fault); c.code == 0 && err != nil || c.code != 0 && (fault == nil || fault.Code != c.code) {
			t.Errorf("%s: %v, want 0x%02x", c.name, err, c.code)
		}
	}
}

// TestSet: a value is a range, and every name is the packet's.
func TestSet(t *testing.T) {
	for line, want := range map[string]string{
		"connect receive-maximum 1":                            "",
		"connect receive-maximum 0":                            "0 is out of range, it must be 1 to 65535",
		"connect receive-maximum -1":                           "-1 is out of range",
		"connect receive-maximum 65536":                        "65536 is out of range",
		"connect receive-maximum many":                         `"many" is not a number`,
		"connect topic-alias-maximum 0":                        "",
		"connect session-expiry-interval 4294967295":           "",
		"connect session-expiry-interval 4294967296":           "out of range, it must be 0 to 4294967295",
		"connect session-expiry-interval 99999999999999999999": "out of range",
		"connect request-problem-information 2":                "it must be 0 to 1",
		"subscribe subscription-identifier 0":                  "it must be 1 to 268435455",
		"publish subscription-identifier 1":                    "publish has no property",
		"publish response-topic a/#":                           "response-topic is no topic",
		"publish content-type \xff":                            "not UTF-8",
		"publish correlation-data \xff":                        "",
		"disconnect reason-string bye":                         "",
		"disconnect server-reference x":                        "disconnect has no property",
		"will will-delay-interval 5":                           "",
		"puback reason-string x":                               "a packet is one of connect, disconnect, publish, subscribe, unsubscribe, will",
	} {
		var p Properties
		words := strings.Fields(line)
		err := p.Set(words[0], words[1], words[2])
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", line, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "strconv") {
			t.Errorf("%s: %v", line, err)
		}
		if err == nil {
			if err := p.Check(settable[words[0]]); err != nil {
				t.Errorf("%s is set and refused: %v", line, err)
			}
		}
	}
}

// FuzzRead: whatever comes, it is read or refused, and what PublishHead takes
// stays within the bytes it was given.
func FuzzRead(f *testing.F) {
	f.Add(byte(0x32), "\x00\x01a\x00\x01\x02\x01\x01x", true)
	f.Add(byte(0x20), "\x00\x00\x03\x21\x00\x01", true)
	f.Add(byte(0x90), "\x00\x01\x00\x80", true)
	f.Add(byte(0xe0), "\x8e\x06\x1f\x00\x03out", true)
	f.Fuzz(func(t *testing.T, first byte, body string, v5 bool) {
		err := read(first, body, v5)
		if err != nil && !errors.As(err, new(*Error)) {
			t.Fatal(err)
		}
		if first>>4 != Publish {
			return
		}
		b := []byte(body)
		for have := 0; have <= len(b); {
			h, need, err := PublishHead(first, len(b), b[:have], Limits{V5: v5})
			if err != nil || need == 0 {
				if err == nil && (h.Size > have || len(h.Topic)+len(h.Props) > h.Size) {
					t.Fatalf("%+v of %d bytes", h, have)
				}
				return
			}
			if need <= have || need > len(b) {
				t.Fatalf("%d bytes wanted, there are %d of %d", need, have, len(b))
			}
			have = need
		}
	})
}
