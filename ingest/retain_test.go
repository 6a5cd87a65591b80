package ingest

import (
	"testing"

	"github.com/mqttetl/mqttetl"
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
