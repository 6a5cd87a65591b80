package client

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// packet reads the next packet. The body is valid until the next call.
func (c *Client) packet() (first byte, body []byte, err error) {
	var head [6]byte
	size := 0
	for n, whole := 0, 0; whole == 0; {
		if head[n], err = c.in.ReadByte(); err != nil && n > 0 {
			err = cut(err)
		}
		if n++; err == nil {
			first, whole, size, err = wire.FixedHeader(head[:n])
		}
		if err != nil {
			return 0, nil, err
		}
	}
	if size > wire.MaxControl && first>>4 != wire.Publish {
		return first, nil, wire.Malformed("%s of %d bytes", wire.Name(first>>4), size)
	}
	if size > c.maxPacket {
		return first, nil, &wire.Error{Code: wire.CodeTooLarge, What: fmt.Sprintf("a PUBLISH of %d bytes, beyond our maximum packet size", size)}
	}
	if size <= c.in.Size() {
		body, err = c.in.Peek(size)
		if err == nil {
			_, _ = c.in.Discard(size) // leaves the bytes where they are
		}
		return first, body, cut(err)
	}
	body, err = c.long(size)
	return first, body, cut(err)
}

// long reads a body that is longer than the buffer. What holds it grows with
// what comes, not with what the header claims, and not beyond it.
func (c *Client) long(size int) (body []byte, err error) {
	for n := 0; n < size; {
		grown := make([]byte, min(size, max(2*n, readBuffer)))
		copy(grown, body)
		body = grown
		if _, err = io.ReadFull(c.in, body[n:]); err != nil {
			return nil, err
		}
		n = len(body)
	}
	return body, nil
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
	if c.isLeaving() {
		err = errBye
	} else {
		err = c.leave(err)
	}
	if c.isLeaving() {
		_, _ = io.Copy(io.Discard, c.in) // until the broker closes, or as long as goodbye says
	}
	c.fail(err)
}

// leave says goodbye where the reason is one that allows it, and returns the
// reason.
func (c *Client) leave(reason error) error {
	var fault *wire.Error
	switch {
	case errors.Is(reason, ErrStop):
		if failed := c.idle(); failed != nil {
			return failed
		}
		c.goodbye(0)
	case errors.As(reason, &fault):
		if failed := c.idle(); failed != nil { // what came before the fault is good
			return failed
		}
		if c.limits.V5 {
			c.mu.Lock()
			c.cause = reason
			c.mu.Unlock()
			c.goodbye(fault.Code)
		}
	}
	return reason
}

// next takes one packet.
func (c *Client) next() error {
	if c.unseen++; c.in.Buffered() == 0 || len(c.acks) >= readBuffer || c.unseen >= readBuffer/4 {
		if err := c.idle(); err != nil {
			return err
		}
	}
	first, body, err := c.packet()
	switch {
	case err == nil:
		return c.take(first, body)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the broker has sent nothing for %v, not even a PINGRESP: %w", c.patience, mqttetl.ErrUnavailable)
	case errors.As(err, new(*wire.Error)):
		return err
	case errors.Is(err, dial.ErrBroken):
		return wire.Malformed("%v", err)
	}
	return lost(err)
}

// idle lets acknowledgements leave when all that was received has been taken.
func (c *Client) idle() error {
	if c.taken && c.o.Flush != nil {
		if err := c.o.Flush(); err != nil {
			return err
		}
	}
	c.taken, c.unseen = false, 0
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.leaving {
		return nil
	}
	c.awaitReaderLocked()
	c.out = append(c.out, c.acks...)
	if len(c.acks) > 0 || c.flush {
		c.flushLocked()
	}
	c.acks = c.acks[:0]
	return nil
}

// awaitReaderLocked waits while the broker reads nothing of what it is answered,
// and ends the connection if that lasts.
func (c *Client) awaitReaderLocked() {
	if len(c.out) < 2*outMost {
		return
	}
	defer time.AfterFunc(c.unread, func() { c.fail(errUnread) }).Stop()
	for c.err == nil && !c.leaving && len(c.out) >= 2*outMost {
		c.flushLocked()
		c.changed.Wait()
	}
}

func (c *Client) take(first byte, body []byte) error {
	if err := wire.CheckFirst(first, c.limits.V5); err != nil {
		return err
	}
	switch kind := first >> 4; kind {
	case wire.Publish:
		return c.received(first, body)
	case wire.Puback, wire.Pubrec, wire.Pubcomp:
		return c.acknowledged(kind, body)
	case wire.Pubrel:
		return c.released(body)
	case wire.Suback, wire.Unsuback:
		return c.answered(kind, body)
	case wire.Pingresp:
		c.debug("received PINGRESP")
		if len(body) > 0 {
			return wire.Malformed("a PINGRESP of %d bytes", len(body))
		}
		if c.pongs++; c.o.Pinged != nil {
			c.o.Pinged(c.pongs)
		}
		return nil
	case wire.Disconnect:
		return c.dismissed(body)
	}
	return wire.Violation("a second CONNACK")
}

// released takes a PUBREL: the packet id stands for a new message from now on.
func (c *Client) released(body []byte) error {
	a, err := wire.ReadAck(wire.Pubrel, body, c.limits.V5)
	if err != nil {
		return err
	}
	delete(c.held, a.ID)
	c.acks = wire.AppendAck(c.acks, wire.Pubcomp, a.ID)
	return nil
}

// answered takes a SUBACK or UNSUBACK.
func (c *Client) answered(kind byte, body []byte) error {
	a, err := wire.ReadCodes(kind, body, c.limits.V5)
	if err != nil {
		return err
	}
	c.debug("received SUBACK or UNSUBACK %v", a.Codes)
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.waits[a.ID]
	if w == nil {
		return nil
	}
	if c.flight.state[a.ID] != kind {
		return wire.Violation("packet id %d is answered by %s, %s is due", a.ID, wire.Name(kind), wire.Name(c.flight.state[a.ID]))
	}
	delete(c.waits, a.ID)
	c.flight.state[a.ID] = 0
	a.Codes, a.Props = slices.Clone(a.Codes), slices.Clone(a.Props)
	w <- a
	return nil
}

// dismissed takes a DISCONNECT (MQTT 5 §3.14).
func (c *Client) dismissed(body []byte) error {
	a, err := wire.ReadDisconnect(body)
	if err != nil {
		return err
	}
	return (&Refusal{Packet: "DISCONNECT", Code: a.Code, Reason: a.Reason()}).hint()
}

// received takes a PUBLISH (MQTT 5 §3.3).
func (c *Client) received(first byte, body []byte) error {
	m := &c.message
	*m = Received{Message: mqttetl.Message{Flags: mqttetl.Flags(first >> 1 & 3)}}
	if first&1 != 0 {
		m.Flags |= mqttetl.FlagRetain
	}
	if first&8 != 0 {
		m.Flags |= mqttetl.FlagDup
	}
	h, _, err := wire.PublishHead(first, len(body), body, c.limits)
	if err == nil {
		err = h.Check()
	}
	if err != nil {
		return err
	}
	if h.Alias > 0 {
		if err := c.resolve(&h); err != nil {
			return err
		}
	}
	m.Topic, m.Properties, m.ID, m.Payload = h.Topic, h.Props, h.ID, body[h.Size:]
	return c.deliver(m)
}

// resolve keeps the topic of an alias, or finds it (MQTT 5 §3.3.2.3.4).
func (c *Client) resolve(h *wire.Head) error {
	if len(h.Topic) > 0 {
		if c.aliased += len(h.Topic) - len(c.alias[h.Alias]); c.aliased > mostAliased {
			return &wire.Error{Code: wire.CodeTopicAlias, What: fmt.Sprintf("topic aliases for more than %d bytes of topics", mostAliased)}
		}
		c.alias[h.Alias] = slices.Clone(h.Topic)
		return nil
	}
	if h.Topic = c.alias[h.Alias]; h.Topic == nil {
		return wire.Violation("topic alias %d has no topic", h.Alias)
	}
	return nil
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
		c.acks = wire.AppendAck(c.acks, wire.Puback, m.ID)
	case m.Flags.QoS() == 2:
		c.held[m.ID] = true
		c.acks = wire.AppendAck(c.acks, wire.Pubrec, m.ID)
	}
	return err
}
