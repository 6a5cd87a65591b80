package ingest

import (
	"slices"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
)

func TestQoS2(t *testing.T) {
	log := newFakeLog(t)
	w := newWire(t, log, true, true, nil)
	session := w.conn.link.session.Key
	pubrel := []byte{wire.Pubrel<<4 | 2, 2, 0, 9}
	message := publishFrame(true, 4, 9, "a", nil, []byte("once"))
	again := publishFrame(true, 4|8, 9, "a", nil, []byte("once"))

	w.send(t, message)
	w.expect(t, []byte{wire.Pubrec << 4, 2, 0, 9})
	if ids := log.known(session); !slices.Equal(ids, []uint16{9}) {
		t.Fatalf("the log knows %v", ids)
	}
	w.send(t, message) // known on this connection, whatever DUP says
	w.expect(t, []byte{wire.Pubrec << 4, 2, 0, 9})
	if n := gaugeValue(t, w.conn.link.counters.reused); n != 1 {
		t.Errorf("%v ids of QoS 2 without DUP were counted", n)
	}
	_ = w.conn.Close()

	w = attach(t, w.conn.link, log, true)
	w.connack(t, true, true)
	w.send(t, again)
	w.expect(t, []byte{wire.Pubrec << 4, 2, 0, 9})
	w.send(t, pubrel)
	w.expect(t, []byte{wire.Pubcomp << 4, 2, 0, 9})
	if ids := log.known(session); len(ids) != 0 {
		t.Fatalf("the log knows %v", ids)
	}
	w.send(t, pubrel)
	w.expect(t, []byte{wire.Pubcomp << 4, 3, 0, 9, wire.CodeIDNotFound})
	if n := len(log.all()); n != 1 {
		t.Fatalf("%d records of one message", n)
	}
	w.send(t, message) // the id is free: a new message
	w.expect(t, []byte{wire.Pubrec << 4, 2, 0, 9})
	_ = w.conn.Close()

	w = attach(t, w.conn.link, log, true)
	w.connack(t, true, true)
	w.send(t, message) // an id from before without DUP: new as well
	w.expect(t, []byte{wire.Pubrec << 4, 2, 0, 9})
	if n := len(log.all()); n != 3 {
		t.Fatalf("%d records of three messages", n)
	}
}

func TestPubcompAndPubrecWaitForTheCommit(t *testing.T) {
	log := newFakeLog(t)
	w := newWire(t, log, true, true, nil)
	w.send(t, publishFrame(true, 4, 1, "a", nil, nil))
	w.expect(t, []byte{wire.Pubrec << 4, 2, 0, 1})
	log.hold(true)
	w.send(t, []byte{wire.Pubrel<<4 | 2, 2, 0, 1})
	w.send(t, publishFrame(true, 4, 2, "a", nil, nil))
	w.send(t, pingresp)
	w.nextControl(t) // everything before it has been parsed
	_ = w.broker.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := w.broker.Read(make([]byte, 4)); err == nil {
		t.Fatalf("%d bytes came before the commit", n)
	}
	log.hold(false)
	w.expect(t, []byte{wire.Pubcomp << 4, 2, 0, 1, wire.Pubrec << 4, 2, 0, 2})
}

func TestIDsOfAnOlderConnectionAreAwaited(t *testing.T) {
	log := newFakeLog(t)
	log.hold(true)
	w := newWire(t, log, true, true, nil)
	// The first QoS 2 message has the (empty) set loaded before it is taken.
	w.send(t, publishFrame(true, 4, 9, "a", nil, []byte("once")))
	eventually(t, "hand over", func() bool { _, n := log.pending(); return n == 1 })
	_ = w.conn.Close()
	second := attach(t, w.conn.link, log, true)
	second.connack(t, true, true)
	second.send(t, publishFrame(true, 4|8, 9, "a", nil, []byte("once")))
	log.hold(false)
	second.expect(t, []byte{wire.Pubrec << 4, 2, 0, 9})
	if n := len(log.all()); n != 1 {
		t.Fatalf("%d records of one message", n)
	}
}

func TestNewSessionClearsTheIDs(t *testing.T) {
	log := newFakeLog(t)
	l := newTestLink(t, log, nil)
	log.ids[l.session.Key] = []uint16{4, 5}
	lines := &logLines{}
	l.logger = lines.logger()
	w := attach(t, l, log, true)
	w.connack(t, true, false)
	eventually(t, "ids are cleared without a message", func() bool { return len(log.known(l.session.Key)) == 0 })
	w.send(t, publishFrame(true, 4|8, 4, "a", nil, nil))
	w.expect(t, []byte{wire.Pubrec << 4, 2, 0, 4})
	if n := len(log.all()); n != 1 {
		t.Fatalf("%d records", n)
	}
	if lines.count("lost our session") != 1 {
		t.Fatalf("log says %s", lines)
	}
}

func TestFirstSessionEverIsNotLost(t *testing.T) {
	log := newFakeLog(t)
	lines := &logLines{}
	w := newWire(t, log, true, false, func(l *link) { l.logger = lines.logger() })
	_ = w.conn.Close()
	if lines.count("lost") != 0 {
		t.Fatalf("log says %s", lines)
	}
	w = attach(t, w.conn.link, log, true)
	w.connack(t, true, false)
	if lines.count("lost our session") != 1 {
		t.Fatalf("log says %s", lines)
	}
}
