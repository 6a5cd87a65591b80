package ingest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/ingest/session"
	"github.com/mqttetl/mqttetl/internal/wire"
)

func TestAcksFollowTheCommitInOrder(t *testing.T) {
	for _, v5 := range []bool{true, false} {
		t.Run(fmt.Sprint("v5=", v5), func(t *testing.T) {
			log := newFakeLog(t)
			log.hold(true)
			w := newWire(t, log, v5, true, nil)
			for id := uint16(1); id <= 100; id++ {
				w.send(t, publishFrame(v5, 2, id, "a/b", nil, fmt.Appendf(nil, "%d", id)))
			}
			eventually(t, "messages reach the log", func() bool { return w.conn.link.counters.messages.Load() == 100 })
			_ = w.broker.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			if n, err := w.broker.Read(make([]byte, 4)); err == nil {
				t.Fatalf("%d bytes came back before the commit", n)
			}
			log.hold(false)
			var want []byte
			for id := uint16(1); id <= 100; id++ {
				want = append(want, puback(id)...)
			}
			w.expect(t, want)
			for i, r := range log.all() {
				if string(r.Payload) != fmt.Sprint(i+1) || r.Source != "s" || r.Flags.QoS() != 1 || r.Time == 0 {
					t.Fatalf("record %d is %+v", i, r)
				}
			}
			eventually(t, "acks are counted", func() bool { return w.conn.link.counters.acks.Load() == 100 })
		})
	}
}

func TestFailedCommitSendsNoAck(t *testing.T) {
	log := newFakeLog(t)
	broken := errors.New("disk on fire")
	log.failWith(broken)
	var cause error
	w := newWire(t, log, true, true, func(l *link) { l.stop = func(err error) { cause = err } })
	w.send(t, publishFrame(true, 2, 1, "a", nil, nil))
	if err := w.end(t); !errors.Is(err, broken) {
		t.Fatalf("connection ended with %v", err)
	}
	if n, _ := w.broker.Read(make([]byte, 8)); n != 0 {
		t.Fatalf("%d bytes were sent", n)
	}
	if !errors.Is(cause, broken) {
		t.Fatalf("the link was stopped with %v", cause)
	}
}

func TestAcksGoOnlyToTheConnectionThatDelivered(t *testing.T) {
	log := newFakeLog(t)
	log.hold(true)
	w := newWire(t, log, true, true, nil)
	w.send(t, publishFrame(true, 2, 7, "a", nil, nil))
	eventually(t, "hand over", func() bool { _, n := log.pending(); return n == 1 })
	_ = w.conn.Close()
	second := attach(t, w.conn.link, log, true)
	second.connack(t, true, true)
	log.hold(false)
	second.send(t, publishFrame(true, 2, 9, "b", nil, nil))
	second.expect(t, puback(9))
	if n := len(log.all()); n != 2 {
		t.Fatalf("%d records", n)
	}
}

// everyShape are messages whose bytes must come through whatever they are.
func everyShape() map[string]mqttetl.Message {
	users := make([]byte, 0, 20000)
	for i := range 1000 {
		users = append(users, byte(mqttetl.UserProperty))
		for _, s := range []string{fmt.Sprint("name", i), strings.Repeat("v", i%50)} {
			users = binary.BigEndian.AppendUint16(users, uint16(len(s)))
			users = append(users, s...)
		}
	}
	huge := make([]byte, 0, 1<<20)
	for range 10 { // beyond the usual read buffer
		huge = append(huge, byte(mqttetl.UserProperty), 0, 1, 'n', 0xff, 0xff)
		huge = append(huge, bytes.Repeat([]byte{'x'}, 0xffff)...)
	}
	return map[string]mqttetl.Message{
		"plain":             {Topic: []byte("a/b"), Payload: []byte("23.5")},
		"empty payload":     {Topic: []byte("a")},
		"empty level":       {Topic: []byte("/a//b/"), Payload: []byte("x")},
		"NUL":               {Topic: []byte("a"), Payload: []byte{0, 1, 0}},
		"not UTF-8":         {Topic: []byte("a"), Payload: []byte{0xc3, 0x28}},
		"64 KiB topic":      {Topic: bytes.Repeat([]byte("t"), 65535), Payload: []byte("x")},
		"5 MiB payload":     {Topic: []byte("big"), Payload: bytes.Repeat([]byte("0123456789abcdef"), 5<<16)},
		"user properties":   {Topic: []byte("a"), Properties: users, Payload: []byte("x")},
		"huge header":       {Topic: bytes.Repeat([]byte("t"), 65535), Properties: huge, Payload: bytes.Repeat([]byte("p"), 100<<10)},
		"just a long frame": {Topic: []byte("a"), Payload: bytes.Repeat([]byte("p"), session.MinPacket)},
	}
}

func TestMessagesByteForByte(t *testing.T) {
	for name, m := range everyShape() {
		for qos := range byte(3) {
			t.Run(fmt.Sprintf("%s/qos%d", name, qos), func(t *testing.T) {
				w := newWire(t, newFakeLog(t), true, true, nil)
				w.send(t, publishFrame(true, qos<<1|1, 5, string(m.Topic), m.Properties, m.Payload))
				w.send(t, publishFrame(true, 2, 6, "behind", nil, nil))
				eventually(t, "records", func() bool { return len(w.log.all()) == 2 })
				got := w.log.all()[0]
				if !bytes.Equal(got.Topic, m.Topic) || !bytes.Equal(got.Payload, m.Payload) || !bytes.Equal(got.Properties, m.Properties) {
					t.Fatalf("topic %d, properties %d, payload %d bytes are not what was sent", len(got.Topic), len(got.Properties), len(got.Payload))
				}
				if want := mqttetl.Flags(qos) | mqttetl.FlagRetain; got.Flags != want {
					t.Fatalf("flags %d, want %d", got.Flags, want)
				}
				if string(w.log.all()[1].Topic) != "behind" {
					t.Fatal("the message behind was lost")
				}
			})
		}
	}
}

func TestFramesByteByByte(t *testing.T) {
	w := newWire(t, newFakeLog(t), true, true, nil)
	var stream []byte
	for id := uint16(1); id <= 20; id++ {
		stream = append(stream, publishFrame(true, 2, id, "topic", []byte{byte(mqttetl.PayloadFormat), 1}, []byte("payload"))...)
	}
	stream = append(stream, wire.Pingresp<<4, 0)
	for i := range stream {
		w.send(t, stream[i:i+1])
	}
	if got := w.nextControl(t); !bytes.Equal(got, pingresp) {
		t.Fatalf("control plane got % x", got)
	}
	eventually(t, "records", func() bool { return len(w.log.all()) == 20 })
}

// TestPausedLog holds the commits: memory stays bounded, the keepalive lives,
// and everything arrives when the log goes on.
func TestPausedLog(t *testing.T) {
	log := newFakeLog(t)
	log.hold(true)
	w := newWire(t, log, true, true, func(l *link) { l.session.ReceiveMaximum = 65535 })
	const messages = 300
	payload := bytes.Repeat([]byte("x"), 100<<10)
	sent := make(chan error, 1)
	go func() {
		for id := uint16(1); id <= messages; id++ {
			if _, err := w.broker.Write(publishFrame(true, 2, id, "a", nil, payload)); err != nil {
				sent <- err
				return
			}
		}
		_, err := w.broker.Write(pingresp)
		sent <- err
	}()
	eventually(t, "the window fills", func() bool { n, _ := log.pending(); return n >= window/2 })
	for range 2 { // one answer each, though the broker's is stuck
		w.ping(t)
		if got := w.nextControl(t); !bytes.Equal(got, pingresp) {
			t.Fatalf("control plane got % x", got)
		}
	}
	if n, _ := log.pending(); n > 2*window {
		t.Fatalf("%d bytes are waiting for the log", n)
	}
	log.hold(false)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	eventually(t, "all records", func() bool { return len(log.all()) == messages })
	w.send(t, pingresp) // swallowed as well: two were answered early
	w.ping(t)
	suback := []byte{wire.Suback << 4, 4, 0, 1, 0, 0}
	w.send(t, append(bytes.Clone(pingresp), suback...))
	for _, want := range [][]byte{pingresp, suback} {
		if got := w.nextControl(t); !bytes.Equal(got, want) {
			t.Fatalf("control plane got % x, want % x", got, want)
		}
	}
	eventually(t, "window empties", w.conn.link.session.Stored)
}

// ping sends a PINGREQ as the control plane does: in two Writes.
func (w *line) ping(t testing.TB) {
	t.Helper()
	w.conn.Lock()
	_, err := w.conn.Write([]byte{wire.Pingreq << 4})
	_, err2 := w.conn.Write([]byte{0})
	w.conn.Unlock()
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
}

func TestPingDuringALongMessage(t *testing.T) {
	w := newWire(t, newFakeLog(t), true, true, nil)
	frame := publishFrame(true, 2, 1, "a", nil, make([]byte, 1<<20))
	w.send(t, frame[:len(frame)/2])
	w.ping(t)
	w.expect(t, []byte{wire.Pingreq << 4, 0})
	w.send(t, frame[len(frame)/2:len(frame)-1])
	if got := w.nextControl(t); !bytes.Equal(got, pingresp) {
		t.Fatalf("control plane got % x", got)
	}
	w.send(t, frame[len(frame)-1:])
	w.expect(t, puback(1))
}

func TestControlPacketsStayWhole(t *testing.T) {
	log := newFakeLog(t)
	log.hold(true)
	w := newWire(t, log, true, true, nil)
	w.send(t, publishFrame(true, 2, 1, "a", nil, nil))
	eventually(t, "hand over", func() bool { _, n := log.pending(); return n == 1 })
	w.conn.Lock()
	_, _ = w.conn.Write([]byte{0x82, 2})
	log.hold(false)
	w.expect(t, puback(1)) // it does not wait for the packet's end
	_, _ = w.conn.Write([]byte{0, 1})
	w.conn.Unlock()
	w.expect(t, []byte{0x82, 2, 0, 1})
}

func TestDeathWithinALongMessage(t *testing.T) {
	log := newFakeLog(t)
	w := newWire(t, log, true, true, nil)
	frame := publishFrame(true, 2, 1, "a", nil, make([]byte, 1<<20))
	w.send(t, append(publishFrame(true, 2, 2, "whole", nil, nil), frame[:len(frame)-1]...))
	w.expect(t, puback(2))
	_ = w.broker.Close()
	if err := w.end(t); !errors.Is(err, errClosedByBroker) {
		t.Fatalf("ended with %v", err)
	}
	if r := log.all(); len(r) != 1 || string(r[0].Topic) != "whole" {
		t.Fatalf("%d records", len(r))
	}
}

func TestCloseUnblocksReadAndWrite(t *testing.T) {
	w := newWire(t, newFakeLog(t), true, true, nil)
	writes := make(chan struct{})
	go func() {
		defer close(writes)
		for w.conn.Err() == nil { // nobody reads: the socket fills and Unlock blocks
			w.conn.Lock()
			_, _ = w.conn.Write(make([]byte, 1<<20))
			w.conn.Unlock()
		}
	}()
	_ = w.conn.Close()
	_ = w.end(t)
	select {
	case <-writes:
	case <-time.After(patience):
		t.Fatal("Write is still blocked")
	}
}

func TestDroppedTopicIsWatchedAndNotStored(t *testing.T) {
	for _, wanted := range []bool{false, true} {
		log := newFakeLog(t)
		w := newWire(t, log, true, true, func(l *link) { l.dropped.wanted = wanted })
		w.send(t, publishFrame(true, 0, 0, droppedTopic, nil, []byte("17")))
		w.send(t, publishFrame(true, 2, 1, "a", nil, nil))
		w.expect(t, puback(1))
		if got := gaugeValue(t, w.conn.link.dropped.gauge); got != 17 {
			t.Fatalf("gauge is %v", got)
		}
		if n := len(log.all()); (n == 2) != wanted {
			t.Fatalf("%d records with wanted=%v", n, wanted)
		}
	}
}

func TestSessionTakenOver(t *testing.T) {
	w := newWire(t, newFakeLog(t), true, true, nil)
	w.send(t, []byte{wire.Disconnect << 4, 9, wire.CodeTakenOver, 7, 0x1f, 0, 4, 'b', 'y', 'e', '!'})
	w.nextControl(t)
	_ = w.broker.Close()
	err := w.end(t)
	if err.Error() != "broker's DISCONNECT: session taken over (0x8e): bye!" {
		t.Fatalf("ended with %v", err)
	}
	if _, message, hint, slowly := judge(err); !slowly || !strings.Contains(message, "took over") || !strings.Contains(hint, "own client_id") {
		t.Fatalf("told as %q, hint %q, slowly %v", message, hint, slowly)
	}
}
