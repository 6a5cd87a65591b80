package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// TestFrames: over several laps every packet is whole, ids and numbers count
// on, and topics take turns.
func TestFrames(t *testing.T) {
	for _, size := range payloads {
		for _, version := range []byte{4, 5} {
			t.Run(fmt.Sprintf("%d bytes, version %d", size, version), func(t *testing.T) {
				f := newFrames(size, version)
				var buf strings.Builder
				total := 2*f.n + f.n/2
				for left := total; left > 0; {
					packets, n := f.next(left, 1<<20)
					buf.Write(packets)
					left -= n
				}
				in := newInput(strings.NewReader(buf.String()), 1<<16)
				for i := range total {
					first, body, err := in.await()
					if err != nil {
						t.Fatal(err)
					}
					checkPublish(t, first, body, i, size, version)
				}
			})
		}
	}
}

func checkPublish(t *testing.T, first byte, body []byte, i, size int, version byte) {
	t.Helper()
	if first != wire.Publish<<4|2 {
		t.Fatalf("packet %d begins with %#x", i, first)
	}
	n := int(binary.BigEndian.Uint16(body))
	if got := string(body[2 : 2+n]); got != topic(i%topics) {
		t.Fatalf("packet %d has topic %q", i, got)
	}
	if id := int(binary.BigEndian.Uint16(body[2+n:])); id != i%65535+1 {
		t.Fatalf("packet %d has id %d", i, id)
	}
	rest := body[2+n+2:]
	if version == 5 {
		rest = rest[1:]
	}
	if c, err := counter(rest); err != nil || int(c) != i || len(rest) != size {
		t.Fatalf("packet %d has number %d (%v) in a payload of %d bytes", i, c, err, len(rest))
	}
}

// pair is both ends of a connection.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{a, b} {
		c.SetDeadline(time.Now().Add(time.Minute))
		t.Cleanup(func() { c.Close() })
	}
	return a, b
}

// TestDelivery: the server and the subscriber that stores nothing understand
// each other, within the window, as fast as it goes and in open loop.
func TestDelivery(t *testing.T) {
	const n = 7003
	for _, window := range []int{1, 20, 10000} {
		for _, rate := range []int{0, 50000} {
			t.Run(fmt.Sprintf("window %d, rate %d", window, rate), func(t *testing.T) {
				server, client := pair(t)
				d := newDelivery(server, newInput(server, 4096), newFrames(128, 5), n, window)
				d.bundle = max(window/4, 1)
				read := make(chan error, 1)
				go func() { read <- drop(client, newInput(client, 4096), n) }()
				result, err := run(d, rate)
				if err != nil {
					t.Fatal(err)
				}
				if err := <-read; err != nil {
					t.Fatal(err)
				}
				if d.acked != n || result.End <= result.Start {
					t.Errorf("%d of %d acknowledged, %+v", d.acked, n, result.deliveryTimes)
				}
				if rate > 0 && result.Latency.Count != n {
					t.Errorf("%d latencies of %d", result.Latency.Count, n)
				}
			})
		}
	}
}

// TestAcks: acknowledgements that a subscriber must not send end the delivery.
func TestAcks(t *testing.T) {
	ack := func(id byte) string { return string([]byte{wire.Puback << 4, 2, 0, id}) }
	for _, c := range []struct{ name, sent, want string }{
		{"out of order", ack(2) + ack(1), "out of order"},
		{"twice", ack(1) + ack(1), "out of order"},
		{"not out", ack(1) + ack(2) + ack(3), "not out"},
		{"refused", string([]byte{wire.Puback << 4, 4, 0, 1, 0x97, 0}), "malformed"},
		{"too short", string([]byte{wire.Puback << 4, 1, 0}), "malformed"},
		{"another packet", string([]byte{wire.Pingreq << 4, 0}), "instead of PUBACK"},
		{"end", ack(1), "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			server, client := pair(t)
			go func() {
				client.Write([]byte(c.sent))
				client.(*net.TCPConn).CloseWrite()
			}()
			d := newDelivery(server, newInput(server, 4096), newFrames(16, 5), 3, 2)
			if err := d.run(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v instead of one with %q", err, c.want)
			}
		})
	}
}

// TestLongAck: a PUBACK with reason code and properties is one too (MQTT 5 §3.4.2).
func TestLongAck(t *testing.T) {
	server, client := pair(t)
	if _, err := client.Write([]byte{wire.Puback << 4, 4, 0, 1, 0x10, 0}); err != nil {
		t.Fatal(err)
	}
	d := newDelivery(server, newInput(server, 4096), newFrames(16, 5), 1, 1)
	if err := d.run(); err != nil {
		t.Error(err)
	}
}

// TestNewMessages: what fills a log is what the server would have sent.
func TestNewMessages(t *testing.T) {
	next := newMessages(128)
	var m mqttetl.Message
	for range 1234 {
		m = next()
	}
	if c, err := counter(m.Payload); err != nil || c != 1233 || string(m.Topic) != topic(33) {
		t.Errorf("message 1233 is %d (%v) on %s", c, err, m.Topic)
	}
}
