package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// subscribing is what the null subscriber is to do.
type subscribing struct {
	Addr     string
	Version  byte // 4 or 5
	Window   int  // Receive Maximum
	Messages int
}

// received is what it says when it has them all and has written every PUBACK.
type received struct{ End int64 } // Unix nanoseconds

// null is the role of the null subscriber: the least that a subscriber of QoS 1
// can do. It reads through a large buffer, acknowledges with one write for all
// that one read has brought, and stores nothing.
func null(l *link, p subscribing) error {
	conn, in, err := subscribe(p)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := l.say(subscribed{p.Version, p.Window}); err != nil {
		return err
	}
	if err := drop(conn, in, p.Messages); err != nil {
		return err
	}
	return l.end(received{time.Now().UnixNano()})
}

// subscribe connects and subscribes to every message of the benchmark.
func subscribe(p subscribing) (net.Conn, *input, error) {
	conn, err := net.Dial("tcp", p.Addr)
	if err != nil {
		return nil, nil, err
	}
	in := newInput(conn, 256<<10)
	err = login(conn, in, "bench-subscriber", p.Version, p.Window)
	if err == nil {
		_, err = conn.Write(subscribePacket(topicFilter, p.Version))
	}
	if err == nil {
		_, err = in.awaitType(wire.Suback)
	}
	if err != nil {
		conn.Close()
	}
	return conn, in, err
}

// drop reads and acknowledges n messages.
func drop(conn net.Conn, in *input, n int) error {
	var acks []byte
	for n > 0 {
		if err := in.fill(); err != nil {
			return fmt.Errorf("read, %d messages missing: %w", n, err)
		}
		var err error
		if acks, err = appendAcks(acks[:0], in); err != nil {
			return err
		}
		if len(acks) == 0 {
			continue
		}
		if _, err := conn.Write(acks); err != nil {
			return err
		}
		n -= len(acks) / 4
	}
	return nil
}

// appendAcks takes every whole message in the buffer and appends its PUBACK.
func appendAcks(acks []byte, in *input) ([]byte, error) {
	for {
		first, body, ok, err := in.Packet()
		if err != nil || !ok {
			return acks, err
		}
		if first>>4 != wire.Publish || len(body) < 4 {
			return acks, fmt.Errorf("packet type %d instead of PUBLISH", first>>4)
		}
		topic := 2 + int(binary.BigEndian.Uint16(body))
		if len(body) < topic+2 {
			return acks, fmt.Errorf("%w: PUBLISH", errMalformed)
		}
		acks = wire.AppendAck(acks, wire.Puback, binary.BigEndian.Uint16(body[topic:]))
	}
}
