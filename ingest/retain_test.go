package ingest

import (
	"net"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// TestRetainAsPublished: the flag of a live message is the publisher's with MQTT
// 5, and 0 with 3.1.1, which cannot ask for it; a message that the broker had
// retained has it with both.
func TestRetainAsPublished(t *testing.T) {
	for version, live := range map[string]bool{Version5: true, Version311: false} {
		t.Run(version, func(t *testing.T) {
			m := startMosquitto(t, "")
			publishLines(t, m.Addr, "a/old", 1, []string{"old"}, "-r")
			log := newFakeLog(t)
			s := newSource(t, Config{URL: m.URL, Version: version, ClientID: "c", Subscribe: []string{"a/#"}, QoS: 1}, log)
			start(t, s)
			subscribed(t, s)
			eventually(t, "the retained message", func() bool { return len(log.all()) == 1 })
			publishLines(t, m.Addr, "a/new", 1, []string{"live, retained"}, "-r")
			publishLines(t, m.Addr, "a/new", 1, []string{"live"})
			eventually(t, "the live ones", func() bool { return len(log.all()) == 3 })
			for i, want := range []bool{true, live, false} {
				r := log.all()[i]
				if r.Flags.Retain() != want || r.Flags&mqttetl.FlagDup != 0 {
					t.Errorf("%q has flags %d, want RETAIN %v", r.Payload, r.Flags, want)
				}
			}
		})
	}
}

// TestBrokerWithoutRetainAsPublished: one that closes the connection at the
// option, or refuses it, is asked without it, and that is said.
func TestBrokerWithoutRetainAsPublished(t *testing.T) {
	for _, closes := range []bool{true, false} {
		lines, log := &logLines{}, newFakeLog(t)
		s := newSource(t, Config{URL: "mqtt://" + little{v5: true, strict: true, closes: closes}.start(t), ClientID: "c",
			Subscribe: []string{"t"}, Logger: lines.logger()}, log)
		start(t, s)
		subscribed(t, s)
		if lines.count("retain as published") != 1 {
			t.Errorf("closes %v: log says\n%s", closes, lines)
		}
	}
}

// TestRetainAsPublishedAfterTrouble: a broker that ended two connections for
// another reason, or refused the filter for a while, is asked again.
func TestRetainAsPublishedAfterTrouble(t *testing.T) {
	lines, log := &logLines{}, newFakeLog(t)
	b := &picky{with: func(c net.Conn, _ byte, n int) bool {
		if n <= 2 {
			_, _ = c.Write([]byte{wire.Connack << 4, 3, 0, 0, 0})
			_, _ = c.Read(make([]byte, 1024)) // SUBSCRIBE
		}
		return n > 2
	}}
	s := newSource(t, Config{URL: "mqtt://" + b.start(t), ClientID: "c", Subscribe: []string{"t", "u"}, Logger: lines.logger()}, log)
	start(t, s)
	subscribed(t, s)
	if l := s.links[0]; l.asPublished.ask() {
		t.Error("the third connection asked for retain as published: the test shows nothing")
	}
	_ = s.links[0].current().Conn.Close()
	eventually(t, "the next connection", func() bool { return len(b.levels()) > 3 && s.Stats().Subscribed })
	a := &s.links[0].asPublished
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.granted || lines.count("retain as published") != 1 {
		t.Errorf("granted %v, log says\n%s", a.granted, lines)
	}
}

// TestRetainAsPublishedAfterRefusedFilter: a code that is about the filter says
// nothing about the option; without one the second connection settles it.
func TestRetainAsPublishedAfterRefusedFilter(t *testing.T) {
	var a asPublished
	for range 5 {
		if !a.ask() || a.answer(true, 0x87) {
			t.Fatal("a refused filter is taken for a refused option")
		}
	}
	for connection, asks := range []string{"yes yes no no", "yes no no", "no"} {
		a.begin()
		for i, want := range strings.Fields(asks) {
			asked, code := a.ask(), byte(0)
			if asked {
				code = 0x80
			}
			told := a.answer(asked, code)
			if asked != (want == "yes") || told != (connection == 0 && i == 2) {
				t.Fatalf("connection %d, subscription %d: asked %v, told %v", connection, i, asked, told)
			}
		}
	}
}
