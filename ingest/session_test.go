package ingest

import (
	"testing"
)

// TestBrokerThatNeverKeepsASession: what is always so is said once, not as a new
// loss at each connect, and by the next process once more.
func TestBrokerThatNeverKeepsASession(t *testing.T) {
	log := newFakeLog(t)
	for process := range 2 {
		lines := &logLines{}
		l := newTestLink(t, log, func(l *link) { l.logger = lines.logger() })
		for range 5 {
			w := attach(t, l, log, true)
			w.connack(t, true, false)
			_ = w.conn.Close()
			_ = w.end(t)
		}
		if lines.count("lost our session") != 1-process || lines.count("never said that it kept our session") != 1 {
			t.Errorf("process %d: log says\n%s", process, lines)
		}
		if n := gaugeValue(t, l.counters.sessionLost); n != float64(4+process) {
			t.Errorf("process %d: %v sessions lost", process, n)
		}
	}
}

// TestSessionLostAgain: a broker that keeps sessions and loses one is told of
// each time.
func TestSessionLostAgain(t *testing.T) {
	lines, log := &logLines{}, newFakeLog(t)
	l := newTestLink(t, log, func(l *link) { l.logger = lines.logger() })
	for _, kept := range []bool{false, true, false, true, false, false} {
		w := attach(t, l, log, false)
		w.connack(t, false, kept)
		_ = w.conn.Close()
		_ = w.end(t)
	}
	if lines.count("lost our session") != 3 || lines.count("never said") != 0 {
		t.Errorf("log says\n%s", lines)
	}
}
