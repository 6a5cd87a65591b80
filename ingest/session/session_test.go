package session

import (
	"errors"
	"net"
	"slices"
	"testing"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// TestDevice drives a session over a pipe, as a device that has connected to us
// would: no broker, nobody who dials, no control plane but the packets that
// are none of the session's.
func TestDevice(t *testing.T) {
	for _, v5 := range []bool{true, false} {
		log := &memory{}
		s, n := newSession(log, nil)
		connect := func(kept bool) *line {
			ours, device := net.Pipe()
			w := attach(t, s, ours, device, v5, kept)
			w.log, w.counts = log, n
			return w
		}
		pubrel := []byte{wire.Pubrel<<4 | 2, 2, 0, 9}
		pubrec, pubcomp := []byte{wire.Pubrec << 4, 2, 0, 9}, []byte{wire.Pubcomp << 4, 2, 0, 9}

		w := connect(false)
		w.send(t, publishFrame(v5, 0, 0, "a", nil, []byte("0")))
		w.send(t, publishFrame(v5, 2, 7, "a", nil, []byte("1")))
		w.expect(t, puback(7))
		w.send(t, []byte{wire.Pingreq << 4, 0}) // the owner answers it
		if got := <-w.control.packets; got[0] != wire.Pingreq<<4 {
			t.Fatalf("the control plane got % x, want the PINGREQ", got)
		}
		go func() { _ = w.conn.Send([]byte{wire.Pingresp << 4, 0}) }() // a pipe takes nothing before it is read
		w.expect(t, []byte{wire.Pingresp << 4, 0})

		log.hold(true) // no PUBREC before the commit
		w.send(t, publishFrame(v5, 4, 9, "a", nil, []byte("2")))
		eventually(t, "it is handed over", func() bool { return log.pending() == 1 })
		if got := n.acks.Load(); got != 1 {
			t.Errorf("%d acknowledgements before the commit, want 1", got)
		}
		_ = w.sender.Close() // before the device has the PUBREC
		eventually(t, "the end is seen", func() bool { return w.conn.ending.Load() })
		log.hold(false)
		if err := w.end(t); err != ErrClosed {
			t.Errorf("ended with %v, want %v", err, ErrClosed)
		}

		w = connect(true) // the same message again is known, and ends with its PUBREL
		w.send(t, publishFrame(v5, 4|8, 9, "a", nil, []byte("2")))
		w.expect(t, pubrec)
		w.send(t, pubrel)
		w.expect(t, pubcomp)
		w.send(t, publishFrame(v5, 4, 9, "a", nil, []byte("3")))
		w.expect(t, pubrec)
		w.conn.Fail(net.ErrClosed)

		w = connect(false) // a clean start: the id means a new message
		w.send(t, publishFrame(v5, 4|8, 9, "a", nil, []byte("4")))
		w.expect(t, pubrec)
		w.send(t, pubrel)
		w.expect(t, pubcomp)

		var got []string
		for _, r := range log.all() {
			got = append(got, string(r.Payload))
		}
		if want := []string{"0", "1", "2", "3", "4"}; !slices.Equal(got, want) {
			t.Errorf("v5=%v: records %v, want %v", v5, got, want)
		}
		eventually(t, "everything is stored", s.Stored)
	}
}

// door is a Judge that lets nobody publish on one topic.
type door struct {
	everything
	closed string
}

func (d door) Plain(topic []byte) bool { return string(topic) != d.closed }

func (d door) Judge(_ byte, _ int, h *wire.Head) (code byte, err error) {
	if string(h.Topic) == d.closed {
		return wire.CodeNotAuthorized, nil
	}
	return 0, nil
}

func (d door) Held() {}

// TestJudge: what may not be published is not stored, and its sender is told in its
// turn where its version can say so.
func TestJudge(t *testing.T) {
	for _, v5 := range []bool{true, false} {
		log := &memory{}
		s, _ := newSession(log, nil)
		ours, device := tcpPair(t)
		w := attachTo(t, s, ours, device, v5, true, func(c everything) Control { return door{c, "closed"} })
		w.send(t, publishFrame(v5, 2, 1, "open", nil, []byte("1")))
		w.send(t, publishFrame(v5, 2, 2, "closed", nil, nil))
		w.send(t, publishFrame(v5, 4, 3, "closed", nil, nil))
		w.send(t, publishFrame(v5, 0, 0, "closed", nil, nil))
		w.send(t, publishFrame(v5, 2, 4, "closed", nil, make([]byte, 2*longFrame)))
		w.send(t, publishFrame(v5, 2, 5, "open", nil, []byte("2")))
		refused := func(kind byte, id uint16) []byte {
			if v5 {
				return []byte{kind << 4, 3, 0, byte(id), wire.CodeNotAuthorized}
			}
			return wire.AppendAck(nil, kind, id)
		}
		w.expect(t, slices.Concat(puback(1), refused(wire.Puback, 2), refused(wire.Pubrec, 3), refused(wire.Puback, 4), puback(5)))
		if r := log.all(); len(r) != 2 || string(r[0].Payload) != "1" || string(r[1].Payload) != "2" {
			t.Errorf("v5=%v: %d records, want those that are allowed", v5, len(r))
		}
		if ids, _ := log.PacketIDs(""); v5 && len(ids) > 0 {
			t.Errorf("the log knows the ids %v of refused messages", ids)
		}
		w.send(t, []byte{wire.Pubrel<<4 | 2, 2, 0, 3})
		if v5 {
			w.expect(t, []byte{wire.Pubcomp << 4, 3, 0, 3, wire.CodeIDNotFound})
		} else {
			w.expect(t, []byte{wire.Pubcomp << 4, 2, 0, 3})
		}
	}
}

// TestRefusedWhenSentAgain: a message of QoS 2 that was stored, and is refused when it
// comes again, leaves its id to the sender, who may use it for another message.
func TestRefusedWhenSentAgain(t *testing.T) {
	log := &memory{}
	s, _ := newSession(log, nil)
	ours, device := tcpPair(t)
	w := attachTo(t, s, ours, device, true, true, func(c everything) Control { return door{c, "closed"} })
	w.send(t, publishFrame(true, 4, 3, "open", nil, []byte("1")))
	w.send(t, publishFrame(true, 4|8, 3, "closed", nil, []byte("1")))
	w.send(t, publishFrame(true, 4|8, 3, "open", nil, []byte("2")))
	w.expect(t, []byte{wire.Pubrec << 4, 2, 0, 3, wire.Pubrec << 4, 3, 0, 3, wire.CodeNotAuthorized, wire.Pubrec << 4, 2, 0, 3})
	if r := log.all(); len(r) != 2 {
		t.Errorf("%d records, want 2", len(r))
	}
}

// TestDeviceThatBreaksTheProtocol is told why in MQTT 5.
func TestDeviceThatBreaksTheProtocol(t *testing.T) {
	w := newLine(t, &memory{}, true, nil)
	w.send(t, append(publishFrame(true, 2, 7, "a", nil, nil), wire.Publish<<4, 2, 0, 0))
	w.expect(t, append(puback(7), wire.Disconnect<<4, 1, wire.CodeMalformed))
	var fault *wire.Error
	if err := w.end(t); !errors.As(err, &fault) {
		t.Errorf("ended with %v", err)
	}
}

// TestQuiesceSaysGoodbye: what the goodbye is, is the owner's.
func TestQuiesceSaysGoodbye(t *testing.T) {
	const shuttingDown = 0x8b
	w := newLine(t, &memory{}, true, nil)
	heard := make(chan [2]bool, 1)
	go func() {
		committed, heardIt := w.conn.Quiesce(patience, patience, []byte{wire.Disconnect << 4, 1, shuttingDown})
		heard <- [2]bool{committed, heardIt}
	}()
	w.expect(t, []byte{wire.Disconnect << 4, 1, shuttingDown})
	_ = w.sender.Close()
	if got := <-heard; !got[0] || !got[1] {
		t.Errorf("committed and heard: %v, want both", got)
	}
}
