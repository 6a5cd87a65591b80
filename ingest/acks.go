package ingest

import (
	"errors"
	"sync"
	"sync/atomic"
)

// mostOwed is how many bytes of acknowledgements the broker may leave unread
// before we read no more of it. A broker with all 65,535 packet ids in flight is
// owed a quarter of it.
const mostOwed = 1 << 20

// errUnread: the broker has sent what must be acknowledged for a while, and has read no
// acknowledgement.
var errUnread = errors.New("the broker does not read our acknowledgements")

// An ackQueue carries acknowledgements from the goroutine that commits to the
// ack writer, and the packet ids that are free again from there to the reader.
type ackQueue struct {
	mu       sync.Mutex
	due      []byte  // packets to write, in order of receipt
	came     []int64 // when what they acknowledge was read, Unix nanoseconds, for each batch
	released []byte  // packets written, whose ids the reader has not yet released
	signal   chan struct{}

	owed atomic.Int64 // bytes that are due, or not yet wholly written
}

// hasRoom says whether the broker may be given more to acknowledge.
func (q *ackQueue) hasRoom() bool { return q.owed.Load() < mostOwed }

// add queues the acknowledgements of one committed batch, which was read at
// came.
func (q *ackQueue) add(acks []byte, came int64) {
	if len(acks) == 0 {
		return
	}
	q.owed.Add(int64(len(acks)))
	q.mu.Lock()
	q.due = append(q.due, acks...)
	q.came = append(q.came, came)
	q.mu.Unlock()
}

// wake tells the ack writer that something is due.
func (q *ackQueue) wake() {
	select {
	case q.signal <- struct{}{}:
	default:
	}
}

// take returns everything due and keeps the two buffers for what comes next.
// The ids count as released from here on, before the write: the broker may use
// one again as soon as it has read the acknowledgement.
func (q *ackQueue) take(buf []byte, times []int64) (acks []byte, came []int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	acks, came = q.due, q.came
	q.due, q.came = buf[:0], times[:0]
	q.released = append(q.released, acks...)
	return acks, came
}

// writtenSince hands the acknowledgements taken since the last call to release.
func (q *ackQueue) writtenSince(release func(acks []byte)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.released) > 0 {
		release(q.released)
		q.released = q.released[:0]
	}
}

// writeAcks is the ack writer. It runs until the connection is closed.
func (c *conn) writeAcks() {
	for {
		select {
		case <-c.acks.signal:
			c.flushAcks()
		case <-c.closed:
			return
		}
	}
}

// flushAcks writes the acknowledgements of all batches committed so far with
// one Write, never inside a packet of the control plane.
func (c *conn) flushAcks() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ackBuf, c.ackCame = c.acks.take(c.ackBuf, c.ackCame)
	if len(c.ackBuf) == 0 || c.goodbye || c.isClosed() {
		return
	}
	_, err := c.nc.Write(c.ackBuf)
	c.acksWritten(err)
}

// ackNow writes the acknowledgements that are due, if that needs no waiting; it
// reports false if the ack writer must. It saves the way through another
// goroutine, which on a busy machine is longer than the commit.
func (c *conn) ackNow() bool {
	if c.socket == nil || !c.mu.TryLock() {
		return false
	}
	c.ackBuf, c.ackCame = c.acks.take(c.ackBuf, c.ackCame)
	if len(c.ackBuf) == 0 || c.goodbye || c.isClosed() {
		c.mu.Unlock()
		return true
	}
	n, err := c.socket.write(c.ackBuf)
	if err == nil && n < len(c.ackBuf) {
		// The broker does not read. What is left keeps the lock: it may end inside a packet.
		// This is none of the link's tasks, which may all have ended: it ends with the connection.
		go func() {
			_, err := c.nc.Write(c.ackBuf[n:])
			c.acksWritten(err)
			c.mu.Unlock()
		}()
		return true
	}
	c.acksWritten(err)
	c.mu.Unlock()
	return true
}

func (c *conn) acksWritten(err error) {
	if err != nil {
		if !c.ending.Load() {
			c.fail(err)
		}
		return
	}
	written := countAcks(c.ackBuf)
	c.acknowledged(written)
	c.link.counters.acknowledged(written, c.ackCame)
	if n := int64(len(c.ackBuf)); c.acks.owed.Add(-n)+n >= mostOwed {
		c.link.window.wake()
	}
}

// countAcks counts the PUBACKs and PUBRECs in a run of acknowledgements.
func countAcks(acks []byte) (n int) {
	for len(acks) > 0 {
		if t := acks[0] >> 4; t == typePuback || t == typePubrec {
			n++
		}
		acks = acks[2+acks[1]:]
	}
	return n
}

// appendAck appends the short form of an acknowledgement, which means reason
// code 0 in MQTT 5 (§3.4.2.1) and is the only form in 3.1.1.
func appendAck(dst []byte, kind byte, id uint16) []byte {
	return append(dst, kind<<4, 2, byte(id>>8), byte(id))
}
