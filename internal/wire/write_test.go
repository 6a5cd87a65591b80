package wire

import (
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	paho "github.com/eclipse/paho.golang/packets"
	mochi "github.com/mochi-mqtt/server/v2/packets"

	"github.com/mqttetl/mqttetl"
)

// Oracles: what they read of a packet of ours they write again byte for byte.
var oracles = map[string]func(p []byte, version byte) ([]byte, error){
	"mochi": func(p []byte, version byte) ([]byte, error) {
		first, size, _, _ := FixedHeader(p)
		pk := &mochi.Packet{ProtocolVersion: version}
		if err := pk.FixedHeader.Decode(first); err != nil {
			return nil, err
		}
		pk.FixedHeader.Remaining = len(p) - size
		rw := map[byte][2]any{
			Connect: {pk.ConnectDecode, pk.ConnectEncode}, Connack: {pk.ConnackDecode, pk.ConnackEncode},
			Publish: {pk.PublishDecode, pk.PublishEncode}, Puback: {pk.PubackDecode, pk.PubackEncode},
			Pubrec: {pk.PubrecDecode, pk.PubrecEncode}, Pubrel: {pk.PubrelDecode, pk.PubrelEncode}, Pubcomp: {pk.PubcompDecode, pk.PubcompEncode},
			Subscribe: {pk.SubscribeDecode, pk.SubscribeEncode}, Suback: {pk.SubackDecode, pk.SubackEncode},
			Unsubscribe: {pk.UnsubscribeDecode, pk.UnsubscribeEncode}, Unsuback: {pk.UnsubackDecode, pk.UnsubackEncode},
			Disconnect: {pk.DisconnectDecode, pk.DisconnectEncode},
		}[first>>4]
		if err := rw[0].(func([]byte) error)(p[size:]); err != nil {
			return nil, err
		}
		pk.Mods.AllowResponseInfo = true
		var out bytes.Buffer
		err := rw[1].(func(*bytes.Buffer) error)(&out)
		return out.Bytes(), err
	},
	"paho": func(p []byte, version byte) ([]byte, error) {
		if version != Version5 {
			return p, nil // which it does not know
		}
		pk, err := paho.ReadPacket(bytes.NewReader(p))
		if err != nil {
			return nil, err
		}
		var out bytes.Buffer
		_, err = pk.WriteTo(&out)
		return out.Bytes(), err
	},
}

// short is an acknowledgement without code 0 and empty properties, which
// mean the same if they are left out.
func short(p []byte) []byte {
	switch p[0] >> 4 {
	case Puback, Pubrec, Pubrel, Pubcomp:
		if len(bytes.Trim(p[4:], "\x00")) == 0 {
			return append([]byte{p[0], 2}, p[2:4]...)
		}
	}
	return p
}

// FuzzWrite: our readers read what our writers write, and so do those of others.
func FuzzWrite(f *testing.F) {
	for kind := range byte(11) {
		f.Add(kind, byte(0xff), uint16(1), "a/b", "words", []byte("payload"))
		f.Add(kind, byte(0x02), uint16(65535), "", "", []byte(nil))
		f.Add(kind, byte(0x5a), uint16(258), strings.Repeat("x", 200), "é", make([]byte, 200))
	}
	f.Fuzz(func(t *testing.T, kind, bits byte, id uint16, topic, words string, payload []byte) {
		if !validString([]byte(topic)) || !validString([]byte(words)) || len(topic) > 65535 || len(words) > 65535 || id == 0 {
			return
		}
		version := []byte{Version5, Version311}[bits>>7]
		w := written{v5: version == Version5, bits: bits, id: id, topic: topic, words: words, payload: payload}
		p, again := w.packet(kind % 11)
		first, size, remaining, err := FixedHeader(p)
		if err != nil || size+remaining != len(p) {
			t.Fatalf("% x: fixed header of %d bytes for %d: %v", p, size, remaining, err)
		}
		if again(t, first, p[size:]); t.Failed() || !w.proper(first>>4) || first>>4 == Disconnect && len(p) < 4 { // which they misread

			return
		}
		for name, other := range oracles {
			if got, err := other(p, version); err != nil || !bytes.Equal(short(got), p) {
				t.Errorf("%s makes % x (%v) of our % x", name, got, err, p)
			}
		}
	})
}

// written is a packet to write, of whatever type.
type written struct {
	v5           bool
	bits         byte
	id           uint16
	topic, words string
	payload      []byte
}

// proper says that the others need not refuse the packet for what it means.
func (w written) proper(packet byte) bool {
	valid := w.topic != "" && !strings.ContainsAny(w.topic, "+#$\u0000") && utf8.ValidString(w.topic) && w.words != ""
	for _, r := range w.topic + w.words { // mochi takes no control characters
		valid = valid && r >= 0x20 && (r < 0x7f || r > 0x9f) && r < 0xfdd0
	}
	return valid && len(w.topic) < 60000 && (packet != Connect || len(w.payload) < 60000)
}

func (w written) user() (p Properties) {
	if w.v5 && w.bits&0x20 > 0 {
		p = Properties(mqttetl.Property{ID: mqttetl.UserProperty, Name: []byte(w.topic), Value: []byte(w.words)}.Append(nil))
	}
	return p
}

// packet writes a packet of one kind and returns what checks that it reads back.
func (w written) packet(kind byte) (p []byte, again func(t *testing.T, first byte, body []byte)) {
	same := func(t *testing.T, got, want any, err error) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("read back as %+v (%v), want %+v", got, err, want)
		}
	}
	props := w.user()
	if props == nil && w.v5 {
		props = Properties{}
	}
	answer := Answer{ID: w.id, Codes: []byte{0, 1, 2}[:1+w.id%3], Props: props}
	filters := []Filter{{w.topic, w.bits & 1}, {w.words, 2}}
	switch kind {
	case 0, 1, 2, 3:
		packet := []byte{Puback, Pubrec, Pubrel, Pubcomp}[kind]
		return AppendAck(nil, packet, w.id), func(t *testing.T, first byte, body []byte) {
			a, err := ReadAck(packet, body, w.v5)
			same(t, a, Answer{ID: w.id}, err)
		}
	case 4:
		return AppendSubscribe(nil, w.v5, w.id, props, filters...), func(t *testing.T, _ byte, body []byte) {
			id, got, list, err := ReadSubscribe(body, w.v5)
			same(t, []any{id, got, list}, []any{w.id, props, filters}, err)
		}
	case 5:
		topics := []string{w.topic, w.words}
		return AppendUnsubscribe(nil, w.v5, w.id, props, topics...), func(t *testing.T, _ byte, body []byte) {
			id, got, list, err := ReadUnsubscribe(body, w.v5)
			same(t, []any{id, got, list}, []any{w.id, props, topics}, err)
		}
	case 6:
		packet := []byte{Suback, Unsuback}[w.bits&1]
		if packet == Unsuback && !w.v5 {
			answer.Codes = []byte{}
		}
		return AppendCodes(nil, packet, w.v5, answer), func(t *testing.T, _ byte, body []byte) {
			a, err := ReadCodes(packet, body, w.v5)
			same(t, a, answer, err)
		}
	case 7:
		answer = Answer{Present: w.bits&1 > 0, Props: props}
		return AppendConnack(nil, w.v5, answer), func(t *testing.T, _ byte, body []byte) {
			a, err := ReadConnack(body, w.v5)
			same(t, a, answer, err)
		}
	case 8:
		code := []byte{0, CodeShuttingDown}[w.bits&1]
		want := Answer{}
		if w.v5 && (code > 0 || len(props) > 0) {
			want.Code = code
			if len(props) > 0 {
				want.Props = props
			}
		}
		return AppendDisconnect(nil, w.v5, code, props), func(t *testing.T, _ byte, body []byte) {
			a, err := ReadDisconnect(body)
			same(t, a, want, err)
		}
	case 9:
		return w.publish()
	}
	return w.connect(same)
}

func (w written) publish() ([]byte, func(*testing.T, byte, []byte)) {
	m := Message[string]{Flags: w.bits & 0xf, Topic: w.topic, Props: w.user(), Payload: w.payload}
	if m.Flags&6 == 6 {
		m.Flags &^= 4
	}
	if m.Flags&6 > 0 {
		m.ID = w.id
	} else {
		m.Flags &^= 8
	}
	return m.Append(nil, w.v5), func(t *testing.T, first byte, body []byte) {
		h, need, err := PublishHead(first, len(body), body, Limits{V5: w.v5})
		if err != nil || need > 0 {
			if m.Topic == "" {
				return // which no reader takes without an alias
			}
			t.Fatalf("need %d, %v", need, err)
		}
		got := Message[string]{first & 0xf, string(h.Topic), h.ID, Properties(h.Props), body[h.Size:]}
		if got.Flags != m.Flags || got.Topic != m.Topic || got.ID != m.ID || !bytes.Equal(got.Props, m.Props) || !bytes.Equal(got.Payload, m.Payload) {
			t.Errorf("read back as %+v, want %+v", got, m)
		}
		if len(body) != m.Size(w.v5) {
			t.Errorf("%d bytes, Size says %d", len(body), m.Size(w.v5))
		}
	}
}

func (w written) connect(same func(*testing.T, any, any, error)) ([]byte, func(*testing.T, byte, []byte)) {
	l := Login{Version: Version311, ClientID: w.topic, CleanStart: w.bits&1 > 0 || w.topic == "", KeepAlive: w.id}
	if w.v5 {
		l.Version, l.Props = Version5, append(Properties{}, w.user()...)
	}
	if w.bits&2 > 0 && w.words != "" {
		l.Username = w.words
		l.Password = slices.Clip(append([]byte{}, w.payload[:min(len(w.payload), 65535)]...))
	}
	if w.bits&4 > 0 {
		l.Will = &WillMessage{Topic: w.topic, Payload: l.Password, QoS: w.bits >> 3 & 1, Retain: w.bits&0x10 > 0}
		if l.Will.Payload == nil {
			l.Will.Payload = []byte{}
		}
		if w.v5 {
			l.Will.Props = append(Properties{}, w.user()...)
		}
	}
	return l.Append(nil), func(t *testing.T, _ byte, body []byte) {
		got, err := ReadConnect(body)
		if l.Will != nil && mqttetl.CheckTopic([]byte(l.Will.Topic)) != nil {
			if err == nil {
				t.Errorf("a will to %q is read", l.Will.Topic)
			}
			return
		}
		same(t, got, l, err)
	}
}

// TestReadConnect: what is no CONNECT is refused with the code that the
// specification wants.
func TestReadConnect(t *testing.T) {
	for name, tt := range map[string]struct {
		body string
		code byte
	}{
		"3.1.1":                  {"\x00\x04MQTT\x04\x02\x00\x1e" + str("c"), 0},
		"3.1":                    {"\x00\x06MQIsdp\x03\x02\x00\x1e" + str("c"), 0},
		"5":                      {"\x00\x04MQTT\x05\x02\x00\x1e" + sized("\x21\x00\x01") + str(""), 0},
		"nothing":                {"", CodeMalformed},
		"no flags":               {"\x00\x04MQTT\x04", CodeMalformed},
		"version 6":              {"\x00\x04MQTT\x06\x02\x00\x1e" + str("c"), CodeVersion},
		"another protocol":       {"\x00\x04HTTP\x04\x02\x00\x1e" + str("c"), CodeVersion},
		"reserved flag":          {"\x00\x04MQTT\x04\x03\x00\x1e" + str("c"), CodeMalformed},
		"no client id":           {"\x00\x04MQTT\x04\x02\x00\x1e", CodeMalformed},
		"client id with NUL":     {"\x00\x04MQTT\x04\x02\x00\x1e" + str("a\x00"), CodeMalformed},
		"bytes after the end":    {"\x00\x04MQTT\x04\x02\x00\x1e" + str("c") + "x", CodeMalformed},
		"user name missing":      {"\x00\x04MQTT\x04\x82\x00\x1e" + str("c"), CodeMalformed},
		"QoS of no will":         {"\x00\x04MQTT\x04\x0a\x00\x1e" + str("c"), CodeMalformed},
		"will with QoS 3":        {"\x00\x04MQTT\x04\x1e\x00\x1e" + str("c") + str("t") + str("p"), CodeMalformed},
		"will cut short":         {"\x00\x04MQTT\x04\x06\x00\x1e" + str("c") + str("t"), CodeMalformed},
		"property of CONNACK":    {"\x00\x04MQTT\x05\x02\x00\x1e" + sized("\x13\x00\x01") + str("c"), CodeProtocol},
		"will property as other": {"\x00\x04MQTT\x05\x06\x00\x1e" + sized("") + str("c") + sized("\x21\x00\x01") + str("t") + str(""), CodeProtocol},
	} {
		_, err := ReadConnect([]byte(tt.body))
		code := byte(0)
		if fault, ok := err.(*Error); ok {
			code = fault.Code
		}
		if code != tt.code || (err == nil) != (code == 0) {
			t.Errorf("%s: %v, want code 0x%02x", name, err, tt.code)
		}
	}
}

// TestInput: packets come out as they went in, whatever the pieces and the buffer.
func TestInput(t *testing.T) {
	var stream []byte
	for n := range 100 {
		m := Message[string]{Flags: 2, Topic: "a", ID: uint16(n + 1), Payload: make([]byte, n*7)}
		stream = m.Append(stream, true)
	}
	for _, size := range []int{2, 16, 1 << 16} {
		in, from := NewInput(size), bytes.NewReader(stream)
		var got []byte
		for len(got) < len(stream) {
			first, body, err := in.Await(from)
			if err != nil {
				t.Fatal(err)
			}
			got = AppendPacket(got, first, body)
		}
		if !bytes.Equal(got, stream) {
			t.Errorf("a buffer of %d: %d bytes are not the %d that were sent", size, len(got), len(stream))
		}
		if len(in.buf) > max(size, 2*(700+20)) {
			t.Errorf("a buffer of %d has grown to %d", size, len(in.buf))
		}
	}
	_, _, err := NewInput(10).Await(strings.NewReader("\x30\xff\xff\xff\xff\x01"))
	if fault, ok := err.(*Error); !ok || fault.Code != CodeMalformed {
		t.Errorf("a remaining length of five bytes: %v", err)
	}
}

// TestNoAllocations on the way of a message.
func TestNoAllocations(t *testing.T) {
	m := Message[[]byte]{Flags: 2, Topic: []byte("a/b"), ID: 7, Payload: make([]byte, 100),
		Props: Properties(mqttetl.Property{ID: mqttetl.PayloadFormat, Number: 1}.Append(nil))}
	buf, ack := make([]byte, 0, 1000), AppendAck(nil, Puback, 7)
	if n := testing.AllocsPerRun(100, func() {
		p := m.Append(buf, true)
		first, size, _, _ := FixedHeader(p)
		h, _, err := PublishHead(first, len(p)-size, p[size:], Limits{V5: true})
		if err != nil || h.ID != 7 {
			t.Fatal(h, err)
		}
		if _, err := ReadAck(Puback, ack[2:], true); err != nil {
			t.Fatal(err)
		}
		_ = AppendAck(buf, Pubrel, h.ID)
	}); n > 0 {
		t.Errorf("%v allocations a message, want none", n)
	}
}
