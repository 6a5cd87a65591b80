package compare

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl/internal/wire"
)

const (
	// writeSize is what a publisher gathers before it writes, in bytes, as long
	// as its window and its pace allow.
	writeSize = 16 << 10
	// unreadMost is how many writes of QoS 0 the broker may not have read yet:
	// after each full one comes a PINGREQ. Without a bound the buffers of TCP would hold
	// messages for seconds, and it would be them whose latency is measured.
	unreadMost = 4
)

// mqttPublisher publishes with one connection. One goroutine encodes whole
// frames into a large buffer and writes it, one reads the answers in place.
type mqttPublisher struct {
	*session
	maker
	pace
	counts
	sending
	qos      byte
	size     int
	frames   [][]byte // a PUBLISH packet for each topic, without header and packet id
	idAt     []int    // where the packet id stands in each, QoS 1 and 2
	confirms *recorder
	late     *recorder

	out     int     // unconfirmed
	lastID  uint16  // packet id of the latest message
	sentAt  []int64 // by packet id: when the message was sent, in open loop was to be sent; 0: the id is free
	release []byte  // PUBRELs to write
	behind  int     // bytes since the latest PINGREQ
	unread  int     // PINGREQs that are not answered, QoS 0
	reader  sync.WaitGroup
}

func newMQTTPublisher(t *trial, s *session, publisher int) *mqttPublisher {
	p := &mqttPublisher{
		session: s, maker: t.maker(publisher), pace: t.pace(publisher), qos: byte(t.c.QoS), size: t.c.Size,
		confirms: t.confirm.of(publisher), late: t.late.of(publisher),
	}
	p.changed.L = &p.mu
	s.window = min(s.window, max(t.c.Inflight, 1), 65535)
	if p.qos > 0 {
		p.sentAt = make([]int64, 1<<16)
	}
	payload := filler(p.size)
	for i := range t.c.Topics {
		m := wire.Message[string]{Flags: p.qos << 1, Topic: t.topic(publisher, i), Payload: payload}
		p.frames = append(p.frames, m.Append(nil, s.v5()))
		p.idAt = append(p.idAt, m.Total(s.v5())-m.Size(s.v5())+2+len(m.Topic))
	}
	return p
}

// publish sends until its pace says that it is over, and waits until all is
// confirmed; quit ends the waiting.
func (p *mqttPublisher) publish(quit <-chan struct{}) error {
	p.begin()
	defer p.end()
	p.reader.Go(p.read)
	defer p.until(quit, func() { p.conn.SetDeadline(time.Unix(1, 0)) })()
	var buf []byte
	for {
		due := p.wait(p.next)
		if due == 0 {
			break
		}
		var err error
		if buf, err = p.encode(buf[:0], due); err != nil {
			return err
		}
		if err := p.write(buf); err != nil {
			return err
		}
	}
	return p.drain()
}

// encode gathers up to due messages, as many as the window allows, at least
// one; while there is no room it waits.
func (p *mqttPublisher) encode(buf []byte, due int) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.err == nil && (p.qos > 0 && p.out >= p.window && len(p.release) == 0 || p.unread >= unreadMost) {
		p.changed.Wait()
	}
	if p.err != nil {
		return nil, p.err
	}
	buf = append(buf, p.release...)
	p.release = p.release[:0]
	n := 0
	for at := now(); n < due && len(buf) < writeSize && (p.qos == 0 || p.out < p.window); n++ {
		if n&15 == 15 {
			at = now() // the buffer may take long to fill
		}
		buf = p.message(buf, at)
	}
	p.sent.Add(uint64(n))
	if p.behind += len(buf); p.qos == 0 && p.behind >= writeSize {
		buf = p.ping(buf)
	}
	return buf, nil
}

// ping asks the broker to tell when it has read this far.
func (p *mqttPublisher) ping(buf []byte) []byte {
	p.behind = 0
	p.unread++
	return wire.AppendEmpty(buf, wire.Pingreq)
}

// message appends the next message.
func (p *mqttPublisher) message(buf []byte, at int64) []byte {
	if p.every > 0 {
		p.late.record(at - p.due(p.next))
		at = p.due(p.next)
	}
	topic, start := int(p.next)%len(p.frames), len(buf)
	buf = append(buf, p.frames[topic]...)
	p.stamp(buf[len(buf)-p.size:], at)
	if p.qos > 0 {
		id := p.freeID()
		p.sentAt[id] = at
		p.out++
		binary.BigEndian.PutUint16(buf[start+p.idAt[topic]:], id)
	}
	return buf
}

// freeID is the next packet id that is not in use.
func (p *mqttPublisher) freeID() uint16 {
	for {
		if p.lastID++; p.lastID != 0 && p.sentAt[p.lastID] == 0 {
			return p.lastID
		}
	}
}

func (p *mqttPublisher) write(buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	if _, err := p.conn.Write(buf); err != nil {
		return p.failed(fmt.Errorf("publish: %w", err))
	}
	return nil
}

// drain waits until everything is confirmed, or read.
func (p *mqttPublisher) drain() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.qos == 0 {
		last := p.ping(nil)
		p.mu.Unlock()
		err := p.write(last)
		p.mu.Lock()
		if err != nil {
			return err
		}
	}
	for p.err == nil && p.unread > 0 {
		p.changed.Wait()
	}
	for {
		for p.err == nil && p.out > 0 && len(p.release) == 0 {
			p.changed.Wait()
		}
		if p.err != nil || p.out == 0 && len(p.release) == 0 {
			return p.err
		}
		rest := p.release
		p.release = nil
		p.mu.Unlock()
		err := p.write(rest)
		p.mu.Lock()
		if err != nil {
			return err
		}
	}
}

// read takes answers until the connection ends.
func (p *mqttPublisher) read() {
	for {
		if err := p.in.Fill(p.conn); err != nil {
			p.fail(fmt.Errorf("the connection of a publisher ended: %w", err))
			return
		}
		if err := p.takeAnswers(now()); err != nil {
			p.fail(err)
			return
		}
	}
}

func (p *mqttPublisher) takeAnswers(at int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	confirmed := 0
	defer func() {
		p.confirmed.Add(uint64(confirmed))
		if confirmed > 0 {
			p.lastConfirm.Store(at)
		}
		p.changed.Broadcast()
	}()
	for {
		first, body, ok, err := p.in.Packet()
		if !ok || err != nil {
			return err
		}
		kind := first >> 4
		if kind == wire.Pingresp {
			p.unread--
			p.lastConfirm.Store(at)
			continue
		}
		if kind != wire.Puback && kind != wire.Pubrec && kind != wire.Pubcomp {
			return p.unexpected(first, body)
		}
		a, err := wire.ReadAck(kind, body, p.v5())
		if err != nil {
			return err
		}
		id, refused := a.ID, a.Code >= 0x80
		switch {
		case p.qos == 0 || p.sentAt[id] == 0:
			return fmt.Errorf("packet type %d for packet id %d, which is not in use", kind, id)
		case kind == wire.Pubrec && !refused:
			p.release = wire.AppendAck(p.release, wire.Pubrel, id)
			continue
		case refused:
			p.refused.Add(1)
		default:
			confirmed++
			p.confirms.record(at - p.sentAt[id])
		}
		p.sentAt[id] = 0
		p.out--
	}
}

// windowed is the window that the broker has allowed.
func (p *mqttPublisher) windowed() int {
	if p.qos == 0 {
		return 0
	}
	return p.window
}

func (p *mqttPublisher) counted() *counts { return &p.counts }

// close ends the connection.
func (p *mqttPublisher) close() {
	p.leave()
	p.bye()
	p.reader.Wait()
}
