package natsmsg

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/mqttetl/mqttetl"
	"github.com/nats-io/nats.go"
)

const testLogID = "00c0ffee00c0ffee"

var testKey = []byte("the key of a log")

// appendUser appends a user property in the encoding of the wire.
func appendUser(p mqttetl.Properties, name, value string) mqttetl.Properties {
	p = append(p, byte(mqttetl.UserProperty))
	p = append(binary.BigEndian.AppendUint16(p, uint16(len(name))), name...)
	return append(binary.BigEndian.AppendUint16(p, uint16(len(value))), value...)
}

func fieldsOf(m *Message) map[string][]string {
	h := map[string][]string{}
	for name, value := range m.Fields() {
		h[name] = append(h[name], value)
	}
	return h
}

func TestHeaders(t *testing.T) {
	rec := mqttetl.Record{Message: mqttetl.Message{Topic: []byte("a/b"), Payload: []byte("7")}}
	rec.Seq, rec.Time, rec.Flags, rec.Source = 12, 1_700_000_000_000_000_000, 2|mqttetl.FlagRetain, "pl ant%"
	p := mqttetl.Properties{
		byte(mqttetl.PayloadFormat), 1,
		byte(mqttetl.MessageExpiry), 0, 0, 1, 0,
		byte(mqttetl.ContentType), 0, 3, 'a', '\n', 'b',
		byte(mqttetl.ResponseTopic), 0, 3, ' ', '/', ' ',
		byte(mqttetl.CorrelationData), 0, 2, 0xff, 0,
		byte(mqttetl.SubscriptionIdentifier), 5,
	}
	p = appendUser(p, "k", "1")
	p = appendUser(p, "k", "2")
	p = appendUser(p, "a:b c", "")
	rec.Properties = p
	c := Encoder{Prefix: "mqtt", LogID: testLogID, Tag: NewTagger(testKey)}
	got := fieldsOf(c.EncodeAfter(&rec, Link{Stream: 41}))
	want := map[string][]string{
		HeaderMsgID:           {testLogID + "-12"},
		HeaderLastSeq:         {"41"},
		HeaderTag:             {"4a00d32743b94e70"},
		HeaderTime:            {"2023-11-14T22:13:20.000000000Z"},
		HeaderSource:          {"pl ant%25"},
		HeaderQoS:             {"2"},
		HeaderRetain:          {"1"},
		HeaderFormat:          {"1"},
		HeaderExpiry:          {"256"},
		HeaderContentType:     {"a%0Ab"},
		HeaderResponse:        {"%20/%20"},
		HeaderCorrelation:     {"/wA="},
		"Mqtt-User-k":         {"1", "2"},
		"Mqtt-User-a%3Ab%20c": {""},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("headers\n%v, want\n%v", got, want)
	}
}

// The size that the limits are checked against is the size on the wire.
func TestHeaderSize(t *testing.T) {
	rec := mqttetl.Record{Seq: 4, Source: "plant", Message: mqttetl.Message{Topic: []byte("a/b"), Payload: []byte("7")}}
	rec.Properties = appendUser(appendUser(nil, "a", " x "), "a", "")
	c := Encoder{Prefix: "mqtt", LogID: testLogID}
	m := c.EncodeAfter(&rec, Link{Record: 3})
	msg := nats.Msg{Subject: "s", Data: m.Body, Header: nats.Header(fieldsOf(m))}
	if got, want := m.Size(), msg.Size()-len("s"); got != want {
		t.Errorf("size %d, want %d", got, want)
	}
}

func TestMsgID(t *testing.T) {
	for id, want := range map[string]mqttetl.Seq{
		testLogID + "-1":                    1,
		testLogID + "-18446744073709551615": 1<<64 - 1,
		testLogID + "-01":                   1,
		testLogID + "-0":                    0,
		testLogID + "-+1":                   0,
		testLogID + "-":                     0,
		testLogID + "-18446744073709551616": 0,
		"00c0ffee00c0ffef-1":                0,
		"":                                  0,
	} {
		if got, ok := ParseMsgID(id, testLogID); got != want || ok != (want != 0) {
			t.Errorf("ParseMsgID(%q) = %d, %v, want %d", id, got, ok, want)
		}
	}
	if got := string(AppendMsgID(nil, testLogID, 42)); got != testLogID+"-42" {
		t.Error(got)
	}
}

func FuzzHeaderEscape(f *testing.F) {
	for _, s := range []string{"", " ", "a b", "\r\n", "Nats-Nats-Msg-Id", "50%", "é\xff\uFFFD", "\x7f:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		value, name := AppendEscaped(nil, s), appendEscapedName(nil, s)
		for _, b := range [][]byte{value, name} {
			back, err := UnescapeHeader(string(b))
			if err != nil || string(back) != s {
				t.Fatalf("%q is written %q, read back %q (%v)", s, b, back, err)
			}
			if bytes.Contains(b, []byte(ownName)) {
				t.Fatalf("%q is written %q", s, b)
			}
		}
		// Through nats.go and back, as a subscriber gets it.
		raw := fmt.Appendf(nil, "NATS/1.0\r\nMqtt-User-%s: %s\r\n\r\n", name, value)
		h, err := nats.DecodeHeadersMsg(raw)
		if err != nil || len(h) != 1 || len(h[HeaderUser+string(name)]) != 1 || h.Get(HeaderUser+string(name)) != string(value) {
			t.Fatalf("%q decodes to %q (%v)", raw, h, err)
		}
	})
}

// What an encoder remembers of records before is that of none but the same.
func TestEncoderRemembers(t *testing.T) {
	c := Encoder{Prefix: "mqtt", LogID: testLogID}
	random := rand.New(rand.NewPCG(1, 2))
	for seq := range mqttetl.Seq(20_000) {
		rec := mqttetl.Record{Seq: seq + 1, Time: random.Int64N(4e9), Source: []string{"a", "b", "\xff"}[random.IntN(3)], Message: mqttetl.Message{
			Topic: fmt.Appendf(nil, "t/%*d", 1+random.IntN(300), random.IntN(3000)),
			Flags: mqttetl.Flags(random.IntN(3)) | mqttetl.Flags(random.IntN(2))*mqttetl.FlagRetain,
		}}
		fresh := Encoder{Prefix: "mqtt", LogID: testLogID}
		got, want := c.EncodeAfter(&rec, Link{Record: seq}), fresh.EncodeAfter(&rec, Link{Record: seq})
		if got.Subject != want.Subject || got.Header != want.Header {
			t.Fatalf("%s %q, want %s %q", got.Subject, got.Header, want.Subject, want.Header)
		}
	}
}
