package forward

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
	"github.com/nats-io/nats.go"
)

// appendUser appends a user property in the encoding of the wire.
func appendUser(p mqttetl.Properties, name, value string) mqttetl.Properties {
	p = append(p, byte(mqttetl.UserProperty))
	p = append(binary.BigEndian.AppendUint16(p, uint16(len(name))), name...)
	return append(binary.BigEndian.AppendUint16(p, uint16(len(value))), value...)
}

// wantUsers fails unless the headers hold the user properties, byte for byte
// and, for one name, in their order.
func wantUsers(t *testing.T, h nats.Header, p mqttetl.Properties) {
	t.Helper()
	want := map[string][]string{}
	for v := range p.All() {
		if v.ID == mqttetl.UserProperty {
			want[string(v.Name)] = append(want[string(v.Name)], string(v.Value))
		}
	}
	got := map[string][]string{}
	for name, values := range h {
		rest, ok := strings.CutPrefix(name, HeaderUser)
		if !ok {
			continue
		}
		n, err := UnescapeHeader(rest)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			u, err := UnescapeHeader(v)
			if err != nil {
				t.Fatal(err)
			}
			got[string(n)] = append(got[string(n)], string(u))
		}
	}
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("user properties\n%.300q, want\n%.300q", fmt.Sprint(got), fmt.Sprint(want))
	}
}

func fieldsOf(m *wireMessage) map[string][]string {
	h := map[string][]string{}
	for name, value := range m.fields() {
		h[name] = append(h[name], value)
	}
	return h
}

func TestHeaders(t *testing.T) {
	rec := record(7)
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
	c := encoder{prefix: "mqtt", logID: testLogID, tag: newTagger(testKey)}
	got := fieldsOf(c.encode(&rec, link{stream: 41}))
	want := map[string][]string{
		headerMsgID:           {testLogID + "-12"},
		headerLastSeq:         {"41"},
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
	rec := record(1)
	rec.Properties = appendUser(appendUser(nil, "a", " x "), "a", "")
	c := encoder{prefix: "mqtt", logID: testLogID}
	m := c.encode(&rec, link{record: 3})
	msg := nats.Msg{Subject: "s", Data: m.body, Header: nats.Header(fieldsOf(m))}
	if got, want := m.size(), msg.Size()-len("s"); got != want {
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
		if got, ok := parseMsgID(id, testLogID); got != want || ok != (want != 0) {
			t.Errorf("parseMsgID(%q) = %d, %v, want %d", id, got, ok, want)
		}
	}
	if got := string(appendMsgID(nil, testLogID, 42)); got != testLogID+"-42" {
		t.Error(got)
	}
}

// What may exceed a limit is always taken for large: sendOne relies on it.
func TestLargeCoversExceeded(t *testing.T) {
	c := encoder{prefix: "mqtt", logID: testLogID}
	for _, l := range []limits{{1 << 20, -1, -1}, {1 << 20, 300, -1}, {1 << 20, -1, 400}, {200, -1, -1}} {
		for size := 1; size < 1<<17; size = size*3/2 + 1 {
			for _, rec := range []mqttetl.Record{
				{Message: mqttetl.Message{Payload: make([]byte, size)}},
				{Message: mqttetl.Message{Topic: bytes.Repeat([]byte{0xff}, min(size, 65535))}},
				{Message: mqttetl.Message{Properties: appendUser(nil, strings.Repeat("\x00", min(size/2, 65535)), strings.Repeat("%", min(size/2, 65535)))}},
			} {
				if why := l.exceeded(c.encode(&rec, link{record: 1<<64 - 1})); why != "" && !l.large(&rec) {
					t.Fatalf("limits %+v, size %d: %s, but not large", l, size, why)
				}
			}
		}
	}
}

func FuzzHeaderEscape(f *testing.F) {
	for _, s := range []string{"", " ", "a b", "\r\n", "Nats-Nats-Msg-Id", "50%", "é\xff\uFFFD", "\x7f:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		value, name := appendEscaped(nil, s), appendEscapedName(nil, s)
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
	c := encoder{prefix: "mqtt", logID: testLogID}
	random := rand.New(rand.NewPCG(1, 2))
	for seq := range mqttetl.Seq(20_000) {
		rec := mqttetl.Record{Seq: seq + 1, Time: random.Int64N(4e9), Source: []string{"a", "b", "\xff"}[random.IntN(3)], Message: mqttetl.Message{
			Topic: fmt.Appendf(nil, "t/%*d", 1+random.IntN(300), random.IntN(3000)),
			Flags: mqttetl.Flags(random.IntN(3)) | mqttetl.Flags(random.IntN(2))*mqttetl.FlagRetain,
		}}
		fresh := encoder{prefix: "mqtt", logID: testLogID}
		got, want := c.encode(&rec, link{record: seq}), fresh.encode(&rec, link{record: seq})
		if got.subject != want.subject || got.header != want.header {
			t.Fatalf("%s %q, want %s %q", got.subject, got.header, want.subject, want.header)
		}
	}
}
