package compare

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/mqttetl/mqttetl/internal/wire"
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
	s.in.Grow(readSize)
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
			err = s.in.Fill(s.conn)
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
		first, body, ok, err := s.in.Packet()
		if !ok || err != nil {
			return acks, n, err
		}
		switch first >> 4 {
		case wire.Publish:
			var ours bool
			if acks, ours, err = s.message(acks, first, body, at); err != nil {
				return acks, n, err
			}
			if ours {
				n++
			}
		case wire.Pubrel:
			a, err := wire.ReadAck(wire.Pubrel, body, s.v5())
			if err != nil {
				return acks, n, err
			}
			acks = wire.AppendAck(acks, wire.Pubcomp, a.ID)
		case wire.Pingresp:
		default:
			return acks, n, s.unexpected(first, body)
		}
	}
}

// message takes one PUBLISH (MQTT 5 §3.3).
func (s *mqttSubscriber) message(acks []byte, first byte, body []byte, at int64) ([]byte, bool, error) {
	h, _, err := wire.PublishHead(first, len(body), body, wire.Limits{V5: s.v5()})
	if err != nil {
		return acks, false, err
	}
	switch first >> 1 & 3 {
	case 1:
		acks = wire.AppendAck(acks, wire.Puback, h.ID)
	case 2:
		acks = wire.AppendAck(acks, wire.Pubrec, h.ID)
	}
	return acks, s.take(h.Topic, body[h.Size:], at), nil
}

// close ends the connection; the ledger is then complete.
func (s *mqttSubscriber) close() {
	s.leaving.Store(true)
	s.bye()
	s.reader.Wait()
}

func (s *mqttSubscriber) book() *ledger { return s.ledger }
