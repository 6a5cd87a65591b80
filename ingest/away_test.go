package ingest

import (
	"errors"
	"testing"
)

// TestSessionLostWhileAway: a broker that forgot the session while no mqttetl
// ran is noticed by the next one.
func TestSessionLostWhileAway(t *testing.T) {
	m := startMosquitto(t, "persistence false")
	log := newFakeLog(t)
	for round, lost := range []float64{0, 0, 1} {
		lines := &logLines{}
		s := newSource(t, Config{URL: m.URL, ClientID: "c", Subscribe: []string{"t"}, QoS: 1, Logger: lines.logger()}, log)
		stop := start(t, s)
		subscribed(t, s)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if n := gaugeValue(t, s.counters.sessionLost); n != lost || lines.count("lost our session") != int(lost) {
			t.Fatalf("round %d: lost %v sessions\n%s", round, n, lines)
		}
		if round == 1 {
			if err := errors.Join(m.Kill(), m.Restart()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestDroppedWhileAway: what a broker dropped while no mqttetl ran is told by
// the next one.
func TestDroppedWhileAway(t *testing.T) {
	m := startMosquitto(t, "sys_interval 1\nmax_queued_messages 5")
	log := newFakeLog(t)
	cfg := Config{URL: m.URL, ClientID: "c", Subscribe: []string{"t"}, QoS: 1}
	s := newSource(t, cfg, log)
	stop := start(t, s)
	subscribed(t, s)
	eventually(t, "the count is noted", func() bool {
		note, _ := log.Note(noteName("dropped", m.Addr))
		return note != nil
	})
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	publishLines(t, m.Addr, "t", 1, numbered("x", 100))
	lines := &logLines{}
	cfg.Logger = lines.logger()
	s = newSource(t, cfg, log)
	start(t, s)
	eventually(t, "the drops are told", func() bool { return lines.count("has dropped messages") == 1 && lines.count("dropped=9") == 1 })
	eventually(t, "the gauge follows", func() bool { return gaugeValue(t, s.counters.dropped) >= 90 })
}
