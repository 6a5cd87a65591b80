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
