package ingest

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/ingest/session"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// errClosedByBroker is the reason of a connection whose stream just ended.
var errClosedByBroker = errors.New("the broker closed the connection")

// A conn is one connection to a broker. To the control plane (paho) it is a
// net.Conn and a sync.Locker: a control packet is any number of Writes between
// Lock and Unlock, and leaves in one piece at Unlock. Read returns the frames that
// concern the control plane and does the data plane's work meanwhile (package
// session); one goroutine at a time may call it.
//
// Close unblocks Read and Write, and never blocks itself.
type conn struct {
	net.Conn // the stream below, for its addresses and deadlines
	data     *session.Conn
	link     *link
	v5       bool

	// The reader's own.
	control   []byte      // bytes that the next Read of the control plane gets
	connected bool        // CONNACK with success has come
	answer    *time.Timer // ends the connection when CONNACK has not come within patience
	patience  time.Duration

	mu    sync.Mutex // Lock: one packet of the control plane
	out   []byte     // the packet being written
	pings pings

	refusalMu sync.Mutex
	refused   *refusal // what the broker said in CONNACK or DISCONNECT
}

// newConn takes over nc, whose Close must not block.
func newConn(nc net.Conn, l *link, v5 bool) *conn {
	c := &conn{Conn: nc, link: l, v5: v5}
	c.answer = time.AfterFunc(time.Hour, c.unanswered)
	c.answer.Stop()
	c.data = l.session.Conn(nc, v5, c)
	return c
}

// Read gives the control plane its frames.
func (c *conn) Read(p []byte) (int, error) {
	for len(c.control) == 0 {
		if err := c.data.Step(); err != nil {
			c.answer.Stop()
			return 0, c.Err()
		}
		if len(c.control) == 0 && c.pings.answerEarly() {
			c.control = pingresp
		}
	}
	n := copy(p, c.control)
	c.control = c.control[n:]
	return n, nil
}

// maybeNoBroker adds to a fault in the first packet who else may have sent it.
func (c *conn) maybeNoBroker(first byte, fault error) error {
	if c.connected {
		return fault
	}
	return mqttetl.WithHint(fault, dial.NoBroker(first))
}

// Admit implements session.Control: what a broker may send, and when.
func (c *conn) Admit(first byte) error {
	if err := checkFirst(first, c.v5); err != nil {
		return c.maybeNoBroker(first, err)
	}
	kind := first >> 4
	if c.connected == (kind == wire.Connack) && kind != wire.Disconnect {
		if c.connected {
			return wire.Violation("a second CONNACK")
		}
		return c.maybeNoBroker(first, wire.Violation("a packet of type %d before the CONNACK", kind))
	}
	return nil
}

// checkFirst is wire.CheckFirst for a connection that publishes nothing.
func checkFirst(first byte, v5 bool) error {
	switch kind := first >> 4; kind {
	case wire.Puback, wire.Pubrec, wire.Pubcomp:
		return wire.Violation("a packet of type %d acknowledges what was never published", kind)
	}
	return wire.CheckFirst(first, v5)
}

// Packet implements session.Control: the control plane gets it.
func (c *conn) Packet(first byte, whole, body []byte) (pause bool, err error) {
	switch first >> 4 {
	case wire.Connack:
		if err := c.connack(body); err != nil {
			return false, err
		}
	case wire.Pingresp:
		if !c.pings.response() {
			return false, nil
		}
	case wire.Suback:
		if !c.v5 && len(body) != 3 {
			return false, wire.Malformed("a SUBACK of %d bytes for one filter", len(body))
		}
	case wire.Disconnect:
		c.setRefusal(refusalOf(packetDisconnect, true, body))
	}
	c.control = whole
	return true, nil
}

// connack looks at the answer to CONNECT before the control plane gets it.
func (c *conn) connack(body []byte) error {
	if len(body) < 2 || !c.v5 && (len(body) != 2 || body[1] > 5) {
		return wire.Malformed("a CONNACK of %d bytes", len(body))
	}
	if body[1] != 0 {
		c.setRefusal(refusalOf(packetConnack, c.v5, body[1:]))
		return nil
	}
	if c.v5 && len(body) < 3 {
		return errAnswered311
	}
	c.connected = true
	c.answer.Stop()
	if err := c.recallDropped(); err != nil {
		return err
	}
	if answer, _ := wire.ReadConnack(body, c.v5); c.v5 {
		c.link.sessionExpires(answer.Props)
	}
	return c.begin(body[0]&1 != 0)
}

// Reserved implements session.Control.
func (c *conn) Reserved(topic, payload []byte, qos int) (store bool) {
	if !isDroppedTopic(topic) {
		return true
	}
	c.observeDropped(payload)
	return qos > 0 || c.link.dropped.wanted
}

// expect ends the connection if CONNECT is not answered in time.
func (c *conn) expect(within time.Duration) {
	c.patience = within
	c.answer.Reset(within)
}

func (c *conn) unanswered() { c.data.Fail(fmt.Errorf("%w within %s", errSilent, c.patience)) }

// Lock begins a packet of the control plane.
func (c *conn) Lock() { c.mu.Lock() }

// Write appends to the packet begun by Lock.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.Err(); err != nil {
		return 0, err
	}
	c.out = append(c.out, p...)
	return len(p), nil
}

// Unlock sends the packet. An error closes the connection, which the control
// plane learns from its next Read or Write.
func (c *conn) Unlock() {
	defer c.mu.Unlock()
	if len(c.out) == 0 {
		return
	}
	if c.out[0]>>4 == wire.Pingreq {
		c.pings.request()
		c.data.Interrupt()
	}
	_ = c.data.Send(c.out)
	c.out = c.out[:0]
}

// Close ends the connection at the control plane's wish.
func (c *conn) Close() error {
	c.answer.Stop()
	c.data.Fail(net.ErrClosed)
	return nil
}

// Err is why the connection ended: what the broker said if it said something,
// otherwise what was seen first. Nil while it is open.
func (c *conn) Err() error {
	err := c.data.Err()
	if err == nil {
		return nil
	}
	if r := c.refusal(); r != nil {
		return r
	}
	if err == session.ErrClosed {
		return errClosedByBroker
	}
	return err
}
