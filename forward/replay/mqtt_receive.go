package replay

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/mqttetl/mqttetl"
)

// receive reads what the broker sends until the connection ends.
func (m *MQTT) receive() {
	for {
		kind, body, err := readPacket(m.in)
		if err == nil {
			err = m.packet(kind>>4, body)
		}
		if err != nil {
			m.lost(err)
			return
		}
	}
}

func (m *MQTT) packet(kind byte, body []byte) error {
	m.mu.Lock()
	m.heard = time.Now()
	m.mu.Unlock()
	switch kind {
	case packetPuback, packetPubrec, packetPubcomp:
		if len(body) < 2 {
			return fmt.Errorf("packet type %d of %d bytes", kind, len(body))
		}
		code := byte(0)
		if len(body) > 2 {
			code = body[2]
		}
		return m.acknowledged(kind, binary.BigEndian.Uint16(body), code)
	case packetPingresp:
		m.pinged()
	case packetDisconnect:
		code := byte(0)
		if len(body) > 0 {
			code = body[0]
		}
		return fmt.Errorf("the broker says DISCONNECT: %s", reason(code))
	default:
		return fmt.Errorf("unexpected packet type %d", kind)
	}
	return nil
}

// acknowledged takes PUBACK, PUBREC or PUBCOMP.
func (m *MQTT) acknowledged(kind byte, id uint16, code byte) error {
	if kind == packetPubrec && code < 0x80 {
		m.wmu.Lock()
		defer m.wmu.Unlock()
		m.conn.SetWriteDeadline(time.Now().Add(mqttTimeout))
		m.out.Write([]byte{packetPubrel<<4 | 2, 2, byte(id >> 8), byte(id)}) // Flush returns its error
		return m.out.Flush()
	}
	seq, err := m.settle(id, code >= 0x80)
	if err != nil {
		return err
	}
	if code >= 0x80 {
		if err := m.refused(&RefusedError{seq, fmt.Errorf("the broker says %s", reason(code))}); err != nil {
			m.down(err)
			return nil // the position stays before it, whatever is acknowledged behind it
		}
		m.pass(seq)
	}
	m.advance()
	return nil
}

// pass lets the position go on behind a refused message.
func (m *MQTT) pass(seq mqttetl.Seq) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.flight {
		if m.flight[i].seq == seq {
			m.flight[i].settled = true
		}
	}
}

// settle enters that a message, and with it every message of QoS 0 before it,
// has arrived. One that was refused is not settled before pass.
func (m *MQTT) settle(id uint16, refused bool) (seq mqttetl.Seq, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.flight {
		f := &m.flight[i]
		if f.qos > 0 && f.id == id && !f.settled && !f.refused {
			f.settled, f.refused = !refused, refused
			m.acked--
			for j := range i {
				if m.flight[j].qos == 0 {
					m.flight[j].settled = true
				}
			}
			return f.seq, nil
		}
	}
	return 0, fmt.Errorf("an acknowledgement of packet id %d, which is not in flight", id)
}

// pinged enters that the messages of QoS 0 before a PINGREQ have arrived.
func (m *MQTT) pinged() {
	m.mu.Lock()
	m.asked = false
	for i := range m.flight {
		if f := &m.flight[i]; f.pinged {
			f.settled = true
		}
	}
	m.mu.Unlock()
	m.advance()
}

// advance confirms what is settled at the front: the position has no holes. It
// holds the lock meanwhile: Drain returns when nothing is in flight, and by then
// all must be confirmed.
func (m *MQTT) advance() {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, took := 0, 0
	var last mqttetl.Seq
	for n < len(m.flight) && m.flight[n].settled {
		last = m.flight[n].seq
		if !m.flight[n].refused {
			took++
		}
		n++
	}
	m.flight = append(m.flight[:0], m.flight[n:]...)
	if n > 0 {
		m.confirmed(last, took)
	}
	select {
	case m.changed <- struct{}{}:
	default:
	}
}
