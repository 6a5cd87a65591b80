package ingest

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// errClosedByBroker is the reason of a connection whose stream just ended.
var errClosedByBroker = errors.New("the broker closed the connection")

// drainTime is how long a connection that is about to be ended for a broken
// protocol waits for the commit of what came before the fault.
const drainTime = 5 * time.Second

// closedTime is the same after the broker has closed its direction of the
// connection.
const closedTime = time.Second

// A conn is one connection to a broker. To the control plane it is a net.Conn
// and a sync.Locker: a control packet is any number of Writes between Lock and
// Unlock, and leaves in one piece at Unlock. Read returns the frames that
// concern the control plane and does the data plane's work meanwhile; one
// goroutine at a time may call it.
//
// Close unblocks Read and Write, and never blocks itself.
type conn struct {
	nc   net.Conn
	link *link
	v5   bool

	// The reader's own.
	in        input
	open      *delivery // the batch being filled, nil if none
	rest      int       // bytes still to come of a long message in the open batch
	rests     int       // what happens to them: stores, skips or digests
	excess    excess
	control   []byte    // bytes that the next Read of the control plane gets
	connected bool      // CONNACK with success has come
	handed    int       // messages of the last batch
	unread    time.Time // since when the broker reads no acknowledgement, while it is owed too many
	lulled    *time.Timer
	answer    *time.Timer // ends the connection when CONNACK has not come within patience
	patience  time.Duration
	ids       packetIDs

	mu      sync.Mutex // Lock: one packet of the control plane, or one run of acks
	out     []byte     // the control packet being written
	ackBuf  []byte
	ackCame []int64
	socket  *socket     // of nc, nil if there is something between: TLS, WebSocket
	ending  atomic.Bool // the broker has closed its direction: what cannot be written is no news
	goodbye bool        // DISCONNECT has been sent, and nothing may follow (MQTT 5 §3.14.4)

	acks  ackQueue
	pings pings

	hurryMu sync.Mutex
	hurry   hurry

	once   sync.Once
	closed chan struct{}
	reason error // why it ended; set before closed is

	quiet quiet

	refusalMu sync.Mutex
	refused   *refusal // what the broker said in CONNACK or DISCONNECT
}

// newConn takes over nc, whose Close must not block, and starts the ack writer.
func newConn(nc net.Conn, l *link, v5 bool) *conn {
	c := &conn{
		nc: nc, link: l, v5: v5,
		acks:   ackQueue{signal: make(chan struct{}, 1)},
		pings:  pings{sent: make(chan struct{}, 1)},
		closed: make(chan struct{}),
		quiet:  newQuiet(),
		socket: newSocket(nc),

		lulled: time.NewTimer(lull),
	}
	c.hurry.most = (c.link.receiveMaximum + 1) / 2
	if !v5 {
		c.hurry.most = math.MaxUint16 / 2
	}
	c.answer = time.AfterFunc(time.Hour, c.unanswered)
	c.answer.Stop()
	l.tasks.Go(c.writeAcks)
	return c
}

// Read gives the control plane its frames.
func (c *conn) Read(p []byte) (int, error) {
	for len(c.control) == 0 {
		if err := c.step(); err != nil {
			c.fail(err)
			c.discard()
			return 0, c.Err()
		}
	}
	n := copy(p, c.control)
	c.control = c.control[n:]
	return n, nil
}

// step does one round: parse what is there, hand it over, wait for more.
func (c *conn) step() error {
	if c.quiet.wanted.Load() {
		c.park()
	}
	if c.isClosed() {
		return c.reason
	}
	if c.connected {
		if pinged, err := c.awaitRoom(); pinged || err != nil {
			return err
		}
	}
	err := c.parse()
	if c.rest == 0 {
		c.handOver()
	}
	switch {
	case errors.Is(err, errNeedIDs):
		return c.loadIDs()
	case err != nil:
		c.endFor(err)
		return err
	case len(c.control) > 0:
		return nil
	case c.rest > 0 && c.pings.answerEarly():
		c.control = pingresp
		return nil
	}
	if err = c.fill(); err != nil {
		c.endFor(err)
	}
	return err
}

// trickle is what a read of a socket brings, in bytes, when messages come one by
// one rather than in a flood.
const trickle = 32 << 10

// lull is how long the reader leaves a trickle in the socket.
const lull = 2 * time.Millisecond

// awaitRoom waits until more may be read. Where packets come one by one but
// fast, that is when a commit has ended: what comes meanwhile is in the next one
// in any case, and a single read then brings it instead of one for each packet.
func (c *conn) awaitRoom() (pinged bool, err error) {
	if c.socket != nil && c.in.got < trickle {
		settled := c.link.window.hasFew
		if c.handed > fewMessages {
			settled = c.link.window.empty
		}
		if !settled() {
			c.lulled.Reset(lull)
			pinged, err = c.await(settled, c.lulled.C)
			c.lulled.Stop()
			if pinged || err != nil {
				return pinged, err
			}
		}
	}
	if !c.acks.hasRoom() {
		if pinged, err = c.awaitReader(); pinged || err != nil {
			return pinged, err
		}
	}
	return c.await(c.link.window.hasRoom, nil)
}

// awaitReader waits until the broker has read acknowledgements, and ends the
// connection if it does not: what a broker is owed is memory of ours.
func (c *conn) awaitReader() (pinged bool, err error) {
	if c.unread.IsZero() {
		c.unread = time.Now()
	}
	patience := time.NewTimer(time.Until(c.unread.Add(c.link.pace.unread)))
	defer patience.Stop()
	if pinged, err = c.await(c.acks.hasRoom, patience.C); pinged || err != nil {
		return pinged, err
	}
	if !c.acks.hasRoom() {
		return false, fmt.Errorf("%w: %d bytes of them for %s", errUnread, c.acks.owed.Load(), c.link.pace.unread)
	}
	c.unread = time.Time{}
	return false, nil
}

func (c *conn) fill() error {
	c.quiet.reading.Store(true)
	if c.quiet.wanted.Load() {
		return nil
	}
	err := c.in.fill(c.nc)
	c.quiet.reading.Store(false)
	c.acks.writtenSince(c.ids.release)
	switch {
	case c.quiet.wanted.Load():
		return nil // whatever it was, the link stops
	case errors.Is(err, io.EOF):
		return errClosedByBroker
	case errors.Is(err, dial.ErrBroken):
		return wire.Malformed("%v", err)
	}
	return err
}

// await blocks until ready, which the window's changes may make true. A PINGREQ
// of the control plane ends it early: pinged says that c.control holds the
// answer. So does until, without an error.
func (c *conn) await(ready func() bool, until <-chan time.Time) (pinged bool, err error) {
	if ready() {
		return false, nil
	}
	for {
		changed := c.link.window.next()
		if ready() {
			return false, nil
		}
		if c.pings.answerEarly() {
			c.control = pingresp
			return true, nil
		}
		select {
		case <-changed:
		case <-c.pings.sent:
		case <-until:
			return false, nil
		case <-c.closed:
			return false, c.reason
		}
	}
}

// waited says that somebody waits for the commit of d, which is about to be handed
// over: the sender of its messages, or of QoS 2, where each packet is answered by the next.
func (c *conn) waited(d *delivery) bool {
	c.hurryMu.Lock()
	defer c.hurryMu.Unlock()
	c.hurry.reads(countAcks(d.acks), c.in.now)
	return c.hurry.held() || len(d.IDs) > 0 || d.Note.Name != "" || !c.link.window.hasPlenty()
}

// acknowledged tells the same of acknowledgements that have been written.
func (c *conn) acknowledged(n int) {
	c.hurryMu.Lock()
	defer c.hurryMu.Unlock()
	c.hurry.acks(n, time.Now().UnixNano())
}

// settle has everything that has been handed over committed, and waits for it. A
// PINGREQ of the control plane ends it early, as await says.
func (c *conn) settle(until <-chan time.Time) (pinged bool, err error) {
	if !c.link.window.empty() {
		c.link.log.Hurry()
	}
	return c.await(c.link.window.empty, until)
}

// loadIDs gets the QoS 2 packet ids of the session from the log. Batches of the
// connection before this one may still be on their way there and are waited for.
func (c *conn) loadIDs() error {
	if pinged, err := c.settle(nil); pinged || err != nil {
		return err
	}
	ids, err := c.link.log.PacketIDs(c.link.session)
	if err != nil {
		return err
	}
	c.ids.load(ids)
	return nil
}

// handOver gives the open batch to the log.
func (c *conn) handOver() {
	d := c.open
	if d == nil || d.idle() {
		return
	}
	c.open = nil
	c.handed = d.Len()
	d.Patient = !c.waited(d)
	d.cost, d.came = d.Cap()+cap(d.acks)+cap(d.IDs)*idSize, c.in.now
	c.link.counters.handedOver(&d.tally)
	c.link.window.take(d.cost)
	c.link.log.Append(&d.Batch)
}

// discard drops what was not handed over: it was not acknowledged either.
func (c *conn) discard() {
	if c.rest > 0 && c.rests == stores {
		c.open.Abandon()
	}
	if c.open != nil {
		c.open.recycle()
	}
	c.open, c.rest = nil, 0
}

// endFor ends a connection for what the broker sent: what came before is
// committed and acknowledged first, so that the same fault, sent again, does
// not repeat it; then MQTT 5 tells the broker why (§4.13.1).
func (c *conn) endFor(err error) {
	var fault *wire.Error
	patience := drainTime
	switch {
	case errors.As(err, &fault):
	case err == errClosedByBroker: // it may have closed one direction only
		c.ending.Store(true)
		patience = closedTime
	default:
		return
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		pinged, err := c.settle(timeout.C)
		if err != nil {
			return
		}
		if !pinged {
			break
		}
	}
	c.flushAcks()
	if c.v5 && c.connected && fault != nil {
		c.sendDisconnect(fault.Code)
	}
}

// sendDisconnect says goodbye, in MQTT 5 with a reason code if there is one to give.
func (c *conn) sendDisconnect(code ...byte) {
	_ = c.nc.SetWriteDeadline(time.Now().Add(time.Second))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goodbye = true
	_, _ = c.nc.Write(append([]byte{typeDisconnect << 4, byte(len(code))}, code...)) // the connection ends either way
}

// Lock begins a packet of the control plane.
func (c *conn) Lock() { c.mu.Lock() }

// Write appends to the packet begun by Lock.
func (c *conn) Write(p []byte) (int, error) {
	if c.isClosed() {
		return 0, c.reason
	}
	c.out = append(c.out, p...)
	return len(p), nil
}

// Unlock sends the packet. An error closes the connection, which the control
// plane learns from its next Read or Write.
func (c *conn) Unlock() {
	defer c.mu.Unlock()
	if len(c.out) == 0 || c.goodbye {
		c.out = c.out[:0]
		return
	}
	if c.out[0]>>4 == typePingreq {
		c.pings.request()
	}
	if _, err := c.nc.Write(c.out); err != nil {
		c.fail(err)
	}
	c.out = c.out[:0]
}

// fail closes the connection with a reason. Only the first reason counts.
func (c *conn) fail(err error) {
	c.once.Do(func() {
		c.reason = err
		close(c.closed)
		c.answer.Stop()
		_ = c.nc.Close() // nothing was promised for what had not left
	})
}

// Close ends the connection at the control plane's wish.
func (c *conn) Close() error {
	c.fail(net.ErrClosed)
	return nil
}

func (c *conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// Err is why the connection ended: what the broker said if it said something,
// otherwise what was seen first. Nil while it is open.
func (c *conn) Err() error {
	if !c.isClosed() {
		return nil
	}
	if r := c.refusal(); r != nil {
		return r
	}
	return c.reason
}

// LocalAddr is that of the stream below, as are the deadlines.
func (c *conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// RemoteAddr is the address of the broker.
func (c *conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// SetDeadline sets both deadlines of the stream below.
func (c *conn) SetDeadline(t time.Time) error { return c.nc.SetDeadline(t) }

// SetReadDeadline sets that of the stream below.
func (c *conn) SetReadDeadline(t time.Time) error { return c.nc.SetReadDeadline(t) }

// SetWriteDeadline sets that of the stream below.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.nc.SetWriteDeadline(t) }
