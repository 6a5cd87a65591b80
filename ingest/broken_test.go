package ingest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/internal/wire"
)

func TestBrokenFrames(t *testing.T) {
	publish := func(flags byte, id uint16, topic string, props []byte) []byte {
		return publishFrame(true, flags, id, topic, props, []byte("p"))
	}
	cases := map[string]struct {
		frame []byte
		code  byte
		says  string
	}{
		"remaining length too long": {[]byte{0x30, 0xff, 0xff, 0xff, 0xff, 1}, wire.CodeMalformed, "256 MiB"},
		"QoS 3":                     {publish(6, 1, "a", nil), wire.CodeMalformed, "QoS 3"},
		"packet id 0":               {publish(2, 0, "a", nil), wire.CodeMalformed, "packet id 0"},
		"topic beyond the frame":    {[]byte{0x30, 4, 0xff, 0xff, 'a', 0}, wire.CodeMalformed, "topic of 65535 bytes"},
		"no topic length":           {[]byte{0x30, 1, 0}, wire.CodeMalformed, "PUBLISH of 1 bytes"},
		"empty topic":               {publish(0, 0, "", nil), wire.CodeTopicName, "empty topic"},
		"topic alias":               {publish(0, 0, "", []byte{0x23, 0, 1}), wire.CodeTopicAlias, "topic alias"},
		"unknown property":          {publish(0, 0, "a", []byte{0x7f, 0}), wire.CodeMalformed, "unknown property 0x7f"},
		"properties beyond frame":   {[]byte{0x30, 5, 0, 1, 'a', 9, 1}, wire.CodeMalformed, "properties of 9 bytes"},
		"no property length":        {[]byte{0x30, 3, 0, 1, 'a'}, wire.CodeMalformed, "property length"},
		"reserved flags":            {[]byte{wire.Pingresp<<4 | 1, 0}, wire.CodeMalformed, "reserved flags"},
		"PUBREL flags":              {[]byte{wire.Pubrel << 4, 2, 0, 1}, wire.CodeMalformed, "reserved flags"},
		"PUBREL short":              {[]byte{wire.Pubrel<<4 | 2, 1, 0}, wire.CodeMalformed, "PUBREL of 1 bytes"},
		"type 0":                    {[]byte{0, 0}, wire.CodeMalformed, "type 0"},
		"SUBSCRIBE from a server":   {[]byte{0x82, 0}, wire.CodeMalformed, "type 8"},
		"PUBACK":                    {[]byte{wire.Puback << 4, 2, 0, 1}, wire.CodeProtocol, "never published"},
		"AUTH":                      {[]byte{wire.Auth << 4, 0}, wire.CodeProtocol, "AUTH"},
		"second CONNACK":            {[]byte{wire.Connack << 4, 3, 0, 0, 0}, wire.CodeProtocol, "second CONNACK"},
		"endless control packet":    {[]byte{wire.Suback << 4, 0xff, 0xff, 0xff, 0x7f}, wire.CodeMalformed, "type 9"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWire(t, newFakeLog(t), true, true, nil)
			w.send(t, append(publish(2, 77, "before", nil), c.frame...))
			err := w.end(t)
			var fault *wire.Error
			if !errors.As(err, &fault) || fault.Code != c.code || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("ended with %v, want 0x%02x and %q", err, c.code, c.says)
			}
			// What came before is stored and acknowledged; then the reason.
			w.expect(t, append(puback(77), wire.Disconnect<<4, 1, c.code))
			if r := w.log.all(); len(r) != 1 || string(r[0].Topic) != "before" {
				t.Fatalf("records %v", r)
			}
		})
	}
}

func TestPublishBeforeConnack(t *testing.T) {
	w := attach(t, newTestLink(t, newFakeLog(t), nil), nil, true)
	w.send(t, publishFrame(true, 0, 0, "a", nil, nil))
	if err := w.end(t); err == nil || !strings.Contains(err.Error(), "before the CONNACK") {
		t.Fatalf("ended with %v", err)
	}
}

func TestPacketIDInUse(t *testing.T) {
	log := newFakeLog(t)
	w := newWire(t, log, true, true, nil)
	w.send(t, publishFrame(true, 2, 1, "a", nil, nil))
	w.expect(t, puback(1))
	w.send(t, publishFrame(true, 2, 1, "a", nil, nil)) // acknowledged: free again
	w.expect(t, puback(1))
	if n := gaugeValue(t, w.conn.link.counters.reused); n != 0 {
		t.Fatalf("%v ids reused", n)
	}
}

// TestPacketIDReused: a broker that uses an id for several messages at once
// loses none of them, is not reconnected to for ever, and is told of once.
func TestPacketIDReused(t *testing.T) {
	for _, v5 := range []bool{true, false} {
		t.Run(fmt.Sprint("v5=", v5), func(t *testing.T) {
			lines, log := &logLines{}, newFakeLog(t)
			log.hold(true)
			w := newWire(t, log, v5, true, func(l *link) { l.logger = lines.logger() })
			for _, payload := range []string{"1", "2", "3"} {
				w.send(t, publishFrame(v5, 2, 1, "a", nil, []byte(payload)))
			}
			w.send(t, publishFrame(v5, 2|8, 1, "a", nil, []byte("4"))) // DUP proves nothing any more
			w.send(t, publishFrame(v5, 2, 2, "a", nil, []byte("5")))
			eventually(t, "messages", func() bool { return w.conn.link.counters.messages.Load() == 5 })
			log.hold(false)
			w.expect(t, puback(1, 1, 1, 1, 2))
			_ = w.conn.Close()

			// Redeliveries of different messages under one id, in this process and another.
			for range 2 {
				w = attach(t, newTestLink(t, log, func(l *link) { l.logger = lines.logger() }), log, v5)
				log.hold(true)
				w.connack(t, v5, true)
				for _, payload := range []string{"6", "7"} {
					w.send(t, publishFrame(v5, 2|8, 9, "a", nil, []byte(payload)))
				}
				eventually(t, "messages", func() bool { return w.conn.link.counters.messages.Load() == 2 })
				log.hold(false)
				w.expect(t, puback(9, 9))
				_ = w.conn.Close()
			}
			var got []string
			for _, r := range log.all() {
				got = append(got, string(r.Payload))
			}
			if want := []string{"1", "2", "3", "4", "5", "6", "7", "6", "7"}; !slices.Equal(got, want) {
				t.Errorf("records %v, want %v", got, want)
			}
			if lines.count("packet ids again") != 3 || lines.count("\n") != 3 { // once for each link
				t.Errorf("log says\n%s", lines)
			}
		})
	}
}

// TestRedeliveriesUnderOneID: what comes with DUP after a reconnect may be
// different messages under one id, also of a broker that was not seen to do so.
func TestRedeliveriesUnderOneID(t *testing.T) {
	log := newFakeLog(t)
	log.hold(true)
	w := newWire(t, log, false, true, nil)
	for _, payload := range []string{"1", "2"} {
		w.send(t, publishFrame(false, 2|8, 9, "a", nil, []byte(payload)))
	}
	eventually(t, "messages", func() bool { return w.conn.link.counters.messages.Load() == 2 })
	log.hold(false)
	w.expect(t, puback(9, 9))
}

func TestRedeliveryOnTheSameConnection311(t *testing.T) {
	log := newFakeLog(t)
	log.hold(true)
	w := newWire(t, log, false, true, nil)
	w.send(t, publishFrame(false, 2, 1, "a", nil, []byte("1")))
	w.send(t, publishFrame(false, 2|8, 1, "a", nil, []byte("1")))
	w.send(t, publishFrame(false, 2, 2, "a", nil, []byte("2")))
	eventually(t, "messages", func() bool { return w.conn.link.counters.messages.Load() == 2 })
	log.hold(false)
	w.expect(t, puback(1, 2))
	if n := len(log.all()); n != 2 {
		t.Fatalf("%d records", n)
	}
}

// TestReceiveMaximum: what a broker sends beyond the receive maximum, as
// Mosquitto 2.0 does after a reconnect, is stored and acknowledged too.
func TestReceiveMaximum(t *testing.T) {
	log, lines := newFakeLog(t), &logLines{}
	log.hold(true)
	w := newWire(t, log, true, true, func(l *link) { l.session.ReceiveMaximum, l.logger = 3, lines.logger() })
	for id := uint16(1); id <= 5; id++ {
		w.send(t, publishFrame(true, 2, id, "a", nil, nil))
	}
	eventually(t, "messages", func() bool { return w.conn.link.counters.messages.Load() == 5 })
	if lines.count("exceeds our receive maximum") != 1 {
		t.Error("nothing is said about the broker's fault")
	}
	log.hold(false)
	w.expect(t, puback(1, 2, 3, 4, 5))
	if n := len(log.all()); n != 5 {
		t.Fatalf("%d records", n)
	}
}
