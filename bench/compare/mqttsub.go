package compare

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/client"
)

// readSize is the buffer of a subscriber, in bytes; it grows for larger packets.
const readSize = 256 << 10

// mqttSubscriber reads with one connection: packets in place, and one write
// with the acknowledgements of all that a read has brought.
type mqttSubscriber struct {
	*session
	*ledger
	fail    func(error)
	leaving atomic.Bool
	reader  sync.WaitGroup
}

// subscribeMQTT subscribes and begins to read. fail is called once if the
// connection ends by itself.
func subscribeMQTT(s *session, l *ledger, filter string, qos byte, fail func(error)) (*mqttSubscriber, error) {
	s.in.buf = append(make([]byte, 0, readSize), s.in.buf...)
	s.in.buf = s.in.buf[:readSize]
	if err := s.subscribe(filter, qos); err != nil {
		s.conn.Close()
		return nil, err
	}
	sub := &mqttSubscriber{session: s, ledger: l, fail: fail}
	sub.reader.Go(sub.read)
	return sub, nil
}

func (s *mqttSubscriber) read() {
	var acks []byte
	for {
		n, err := 0, error(nil)
		at := now()
		if acks, n, err = s.takeAll(acks[:0], at); err == nil && n > 0 {
			s.arrived(at)
		}
		if err == nil && len(acks) > 0 {
			_, err = s.conn.Write(acks)
		}
		if err == nil {
			err = s.in.fill()
		}
		if err != nil {
			if !s.leaving.Load() {
				s.fail(fmt.Errorf("the connection of a subscriber ended: %w", err))
			}
			return
		}
	}
}

// takeAll takes every whole packet of the buffer, appends what it has to be
// answered and counts the messages of this trial.
func (s *mqttSubscriber) takeAll(acks []byte, at int64) ([]byte, int, error) {
	for n := 0; ; {
		first, body, ok, err := s.in.packet()
		if !ok || err != nil {
			return acks, n, err
		}
		switch first >> 4 {
		case typePublish:
			var ours bool
			if acks, ours, err = s.message(acks, first, body, at); err != nil {
				return acks, n, err
			}
			if ours {
				n++
			}
		case typePubrel:
			if len(body) < 2 {
				return acks, n, errShort
			}
			acks = appendAck(acks, typePubcomp<<4, binary.BigEndian.Uint16(body))
		case typePingresp:
		default:
			return acks, n, s.told(first, body)
		}
	}
}

var errShort = errors.New("a packet from the broker is too short")

// message takes one PUBLISH (MQTT 5 §3.3).
func (s *mqttSubscriber) message(acks []byte, first byte, body []byte, at int64) ([]byte, bool, error) {
	if len(body) < 2 || len(body) < 2+int(binary.BigEndian.Uint16(body)) {
		return acks, false, errShort
	}
	size := 2 + int(binary.BigEndian.Uint16(body))
	topic, rest := body[2:size], body[size:]
	if qos := first >> 1 & 3; qos > 0 {
		if len(rest) < 2 {
			return acks, false, errShort
		}
		answer := byte(typePuback << 4)
		if qos == 2 {
			answer = typePubrec << 4
		}
		acks = appendAck(acks, answer, binary.BigEndian.Uint16(rest))
		rest = rest[2:]
	}
	if s.version == client.Version5 {
		size, n := mqttetl.VarInt(rest)
		if n <= 0 || len(rest) < n+int(size) {
			return acks, false, errShort
		}
		rest = rest[n+int(size):]
	}
	return acks, s.take(topic, rest, at), nil
}

// close ends the connection; the ledger is then complete.
func (s *mqttSubscriber) close() {
	s.leaving.Store(true)
	s.bye()
	s.reader.Wait()
}

func (s *mqttSubscriber) book() *ledger { return s.ledger }
