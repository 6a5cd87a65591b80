package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/mqttetl/mqttetl"
)

// packet reads the next packet. The body is valid until the next call.
func (c *Client) packet() (first byte, body []byte, err error) {
	if first, err = c.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	size, shift := 0, 0
	for {
		b, err := c.in.ReadByte()
		if err != nil {
			return 0, nil, cut(err)
		}
		size |= int(b&0x7f) << shift
		if b < 0x80 {
			break
		}
		if shift += 7; shift > 21 {
			return 0, nil, errNotMQTT
		}
	}
	if size <= c.in.Size() {
		body, err = c.in.Peek(size)
		if err == nil {
			_, _ = c.in.Discard(size) // leaves the bytes where they are
		}
		return first, body, cut(err)
	}
	// Grows with what comes, not with what the header claims.
	body, err = io.ReadAll(io.LimitReader(c.in, int64(size)))
	if err == nil && len(body) < size {
		err = io.ErrUnexpectedEOF
	}
	return first, body, err
}

// cut is the error of a stream that ends within a packet.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// ErrStop is what Options.Receive returns to take no more messages: this one is
// acknowledged, and the connection ends with a DISCONNECT.
var ErrStop = errors.New("stop")

// read takes packets until the connection is over.
func (c *Client) read() {
	var err error
	for err == nil && c.Err() == nil && !c.isLeaving() {
		err = c.next()
	}
	if errors.Is(err, ErrStop) {
		if failed := c.idle(); failed != nil {
			err = failed
		} else {
			c.goodbye(0)
		}
	} else if c.isLeaving() {
		err = errBye
	}
	if c.isLeaving() {
		_, _ = io.Copy(io.Discard, c.in) // until the broker closes, or for goodbyeTime
	}
	c.fail(err)
}

// next takes one packet.
func (c *Client) next() error {
	if c.in.Buffered() == 0 || len(c.acks) >= readBuffer {
		if err := c.idle(); err != nil {
			return err
		}
	}
	first, body, err := c.packet()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the broker has sent nothing for %v, not even a PINGRESP: %w", c.patience, mqttetl.ErrUnavailable)
	case errors.Is(err, errNotMQTT):
		return err
	case err != nil:
		return lost(err)
	}
	return c.take(first, body)
}

// idle lets acknowledgements leave when all that was received has been taken.
func (c *Client) idle() error {
	if c.taken && c.o.Flush != nil {
		if err := c.o.Flush(); err != nil {
			return err
		}
	}
	c.taken = false
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return nil
	}
	c.out = append(c.out, c.acks...)
	if len(c.acks) > 0 || c.flush {
		c.flushLocked()
	}
	c.acks = c.acks[:0]
	return nil
}

func (c *Client) take(first byte, body []byte) error {
	kind := first >> 4
	if len(body) < 2 && kind != typePingresp && kind != typeDisconnect {
		return fmt.Errorf("a packet of type %d with %d bytes: %w", kind, len(body), errNotMQTT)
	}
	switch kind {
	case typePublish:
		return c.received(first, body)
	case typePuback, typePubrec, typePubcomp:
		return c.acknowledged(kind, body)
	case typePubrel:
		id := binary.BigEndian.Uint16(body)
		delete(c.held, id)
		c.acks = appendAck(c.acks, typePubcomp, id)
		return nil
	case typeSuback, typeUnsuback:
		c.debug("received SUBACK or UNSUBACK %v", body[2:])
		c.answered(binary.BigEndian.Uint16(body), body[2:])
		return nil
	case typePingresp:
		c.debug("received PINGRESP")
		return nil
	case typeDisconnect:
		return c.dismissed(body)
	}
	return fmt.Errorf("a packet of type %d: %w", kind, errNotMQTT)
}

func (c *Client) answered(id uint16, answer []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.waits[id]; w != nil {
		delete(c.waits, id)
		c.flight.state[id] = 0
		w <- append([]byte(nil), answer...)
	}
}

// dismissed takes a DISCONNECT (MQTT 5 §3.14).
func (c *Client) dismissed(body []byte) error {
	r := &Refusal{Packet: "DISCONNECT"}
	if len(body) > 0 {
		r.Code = body[0]
	}
	if len(body) > 1 {
		props, _, err := splitProperties(body[1:])
		if err != nil {
			return err
		}
		_ = props.each(func(id byte, v property) {
			if id == reasonString {
				r.Reason = v.text
			}
		})
	}
	return r.hint()
}

// received takes a PUBLISH (MQTT 5 §3.3).
func (c *Client) received(first byte, body []byte) error {
	m := Received{Message: mqttetl.Message{Flags: mqttetl.Flags(first >> 1 & 3)}}
	if first&1 != 0 {
		m.Flags |= mqttetl.FlagRetain
	}
	if first&8 != 0 {
		m.Flags |= mqttetl.FlagDup
	}
	at := 2 + int(binary.BigEndian.Uint16(body))
	end := at
	if m.Flags.QoS() > 0 {
		end += 2
	}
	if end > len(body) {
		return fmt.Errorf("a PUBLISH that is too short for its topic: %w", errNotMQTT)
	}
	m.Topic = body[2:at]
	if m.Flags.QoS() > 0 {
		m.ID = binary.BigEndian.Uint16(body[at:])
	}
	m.Payload = body[end:]
	if c.o.Version == Version5 {
		props, rest, err := splitProperties(m.Payload)
		if err != nil {
			return err
		}
		m.Properties, m.Payload = mqttetl.Properties(props), rest
		if m.Topic, err = c.topicOf(m.Topic, props); err != nil {
			return err
		}
	}
	return c.deliver(&m)
}

// topicOf resolves a topic alias, which the broker uses only if it was allowed to.
func (c *Client) topicOf(topic []byte, props Properties) ([]byte, error) {
	alias := uint16(0)
	if err := props.each(func(id byte, v property) {
		if id == topicAlias {
			alias = uint16(v.number)
		}
	}); err != nil || alias == 0 {
		return topic, err
	}
	if len(topic) > 0 {
		c.alias[alias] = append([]byte(nil), topic...)
	}
	return c.alias[alias], nil
}

// deliver hands m to the caller, one of QoS 2 only once, and acknowledges it.
func (c *Client) deliver(m *Received) error {
	if c.o.Debug != nil {
		c.debug("received PUBLISH (q%d, m%d, %q, %d bytes)", m.Flags.QoS(), m.ID, m.Topic, len(m.Payload))
	}
	known := m.Flags.QoS() == 2 && c.held[m.ID]
	var err error
	if !known && c.o.Receive != nil {
		if err = c.o.Receive(m); err != nil && !errors.Is(err, ErrStop) {
			return err
		}
		c.taken = true
	}
	switch {
	case c.o.Hold:
	case m.Flags.QoS() == 1:
		c.acks = appendAck(c.acks, typePuback, m.ID)
	case m.Flags.QoS() == 2:
		c.held[m.ID] = true
		c.acks = appendAck(c.acks, typePubrec, m.ID)
	}
	return err
}
