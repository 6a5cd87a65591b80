package client

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// flight is what has been published and is not yet acknowledged.
type flight struct {
	window int
	count  int
	last   uint16
	// telling: Acknowledged is being called, for a message that is out of flight.
	telling bool
	state   [65536]byte // by packet id: 0 free, or the packet that is awaited
}

// nextID returns a packet id that is not in use (MQTT 5 §2.2.1). The window is
// smaller than the number of ids.
func (f *flight) nextID() uint16 {
	for {
		f.last++
		if f.last != 0 && f.state[f.last] == 0 {
			return f.last
		}
	}
}

// Publish sends m: it is in a buffer when Publish returns, and leaves by itself
// when enough has gathered, or with Flush or Drain. With QoS 1 and 2 Publish
// waits while the window is full. id is the packet id, 0 with QoS 0.
func (c *Client) Publish(m *Message) (id uint16, err error) {
	if err := c.Takes(m); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && (len(c.out) >= outMost || m.QoS > 0 && c.flight.count >= c.flight.window) {
		c.flushLocked()
		c.changed.Wait()
	}
	if c.err != nil {
		return 0, c.err
	}
	if c.leaving {
		return 0, cmp.Or(c.cause, errBye)
	}
	if m.QoS > 0 {
		id = c.flight.nextID()
		c.flight.count++
		c.flight.state[id] = wire.Puback
		if m.QoS == 2 {
			c.flight.state[id] = wire.Pubrec
		}
	}
	p := m.packet(id)
	c.out = p.Append(c.out, c.limits.V5)
	if len(c.out) >= flushSize && !c.flush {
		c.flushLocked()
	}
	if c.o.Debug != nil {
		c.debug("sending PUBLISH (q%d, r%v, m%d, %q, %d bytes)", m.QoS, m.Retain, id, m.Topic, len(m.Payload))
	}
	return id, nil
}

// Takes says whether the broker takes such a message, as far as it has said.
func (c *Client) Takes(m *Message) error {
	size := 0
	if c.MaximumPacket > 0 {
		p := m.packet(0)
		size = p.Total(c.limits.V5)
	}
	switch {
	case m.QoS > c.MaximumQoS:
		return fmt.Errorf("the broker takes QoS %d at most (MQTT 5 §3.2.2.3.4)", c.MaximumQoS)
	case m.Retain && c.RetainRefused:
		return fmt.Errorf("the broker keeps no retained messages (MQTT 5 §3.2.2.3.5)")
	case size > c.MaximumPacket:
		return mqttetl.WithHint(fmt.Errorf("a packet of %d bytes: the broker takes %d at most", size, c.MaximumPacket),
			"Mosquitto's setting is max_packet_size")
	}
	return nil
}

// InFlight is how many messages are published and not yet acknowledged.
func (c *Client) InFlight() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flight.count
}

// Drain waits until everything has left, is acknowledged, and Acknowledged has
// been told of it.
func (c *Client) Drain(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.changed.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && ctx.Err() == nil && (len(c.out) > 0 || c.writing || c.flight.count > 0 || c.flight.telling) {
		if len(c.out) > 0 {
			c.flushLocked()
		}
		c.changed.Wait()
	}
	if c.err != nil {
		return c.err
	}
	return context.Cause(ctx)
}

// acknowledged takes a PUBACK, PUBREC or PUBCOMP.
func (c *Client) acknowledged(kind byte, body []byte) error {
	var a wire.Answer
	if len(body) == 2 && (body[0] > 0 || body[1] > 0) { // as most are
		a.ID = binary.BigEndian.Uint16(body)
	} else {
		var err error
		if a, err = wire.ReadAck(kind, body, c.limits.V5); err != nil {
			return err
		}
	}
	c.mu.Lock()
	due := c.flight.state[a.ID]
	again := kind == wire.Pubrec && (due == wire.Pubcomp || due == 0)
	switch {
	case again && a.Code < 0x80, due == kind && kind == wire.Pubrec && a.Code < 0x80:
		// Also of a message of an earlier connection: the broker waits for it.
		if !again {
			c.flight.state[a.ID] = wire.Pubcomp
		}
		c.out = wire.AppendAck(c.out, wire.Pubrel, a.ID)
		c.flush = true // with the next wake-up, at the latest when the reader is idle
		c.mu.Unlock()
		return nil
	case due == kind:
		return c.settled(kind, &a)
	}
	c.mu.Unlock()
	if due == wire.Puback || due == wire.Pubrec || due == wire.Pubcomp {
		return wire.Violation("packet id %d is answered by %s, %s is due", a.ID, wire.Name(kind), wire.Name(due))
	}
	return nil // of an earlier connection's message
}

// settled takes the last answer to a message. It unlocks mu.
func (c *Client) settled(kind byte, a *wire.Answer) error {
	c.flight.state[a.ID] = 0
	c.flight.count--
	if c.flight.count == c.flight.window/2 || c.flight.count == 0 {
		c.changed.Broadcast() // not for each, or a full window would cost a wake-up a message
	}
	if c.o.Acknowledged == nil {
		c.mu.Unlock()
		return nil
	}
	c.flight.telling = true
	c.mu.Unlock()
	if a.Code < 0x80 {
		c.o.Acknowledged(a.ID, nil)
	} else {
		packet := map[byte]string{wire.Puback: "PUBACK", wire.Pubrec: "PUBREC", wire.Pubcomp: "PUBCOMP"}[kind]
		c.o.Acknowledged(a.ID, &Refusal{Packet: packet, Code: a.Code, Reason: a.Reason()})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flight.telling = false; c.flight.count == 0 {
		c.changed.Broadcast()
	}
	return nil
}
