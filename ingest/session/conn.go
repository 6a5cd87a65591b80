package session

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/dial"
	"github.com/mqttetl/mqttetl/internal/wire"
)

// ErrClosed is the reason of a connection whose stream just ended.
var ErrClosed = errors.New("the other side closed the connection")

// ErrUnread: the sender has sent what must be acknowledged for a while, and has
// read no acknowledgement.
var ErrUnread = errors.New("our acknowledgements are not read")

// drainTime is how long a connection that is about to be ended for a broken
// protocol waits for the commit of what came before the fault.
const drainTime = 5 * time.Second

// closedTime is the same after the sender has closed its direction of the
// connection.
const closedTime = time.Second

// A Control is the control plane of a connection. It gets what is no PUBLISH and
// no PUBREL. Its methods are called within Step, on the goroutine that calls it.
type Control interface {
	// Admit judges a packet of any type by its first byte, before the rest of it
	// has come. Nothing but what it admits is taken: before Begin, no PUBLISH
	// and no PUBREL may be among it.
	Admit(first byte) error
	// Packet takes a whole packet; body is what follows its fixed header. Both are
	// valid until the next Step. With pause Step returns before anything else is
	// taken.
	Packet(first byte, whole, body []byte) (pause bool, err error)
	// Reserved says whether a message on a topic that begins with $ is stored; it
	// is acknowledged either way. payload is nil if it is so long that it has not
	// come yet.
	Reserved(topic, payload []byte, qos int) (store bool)
	// IDsReused is called once, when the sender has used a packet id again before
	// its PUBACK: the next connection is to know it (see Begin).
	IDsReused()
}

// A Conn is one connection of a session. Whoever owns it calls Step until that
// returns an error; every other method may be called from any goroutine, but
// Begin and Note, which belong to those of Control.
//
// Fail unblocks Step and Send, and never blocks itself.
type Conn struct {
	*Session
	nc     net.Conn
	v5     bool
	reader reader
	writer *writer

	unread     time.Time // since when the sender reads no acknowledgement, while it is owed too many
	lulled     *time.Timer
	interrupts chan struct{}
	ending     atomic.Bool // the sender has closed its direction: what cannot be written is no news

	hurryMu sync.Mutex
	hurry   hurry

	looked  sync.Once
	reached bool // all that was written, when looked

	once   sync.Once
	closed chan struct{}
	reason error // why it ended; set before closed is

	quiet quiet
	since atomic.Int64 // when the reader began to wait for bytes, Unix nanoseconds
}

// Conn takes over nc, whose Close must not block, as the next connection of the
// session, and starts its writer.
func (s *Session) Conn(nc net.Conn, v5 bool, control Control) *Conn {
	c := &Conn{
		Session: s, nc: nc, v5: v5,
		lulled:     time.NewTimer(lull),
		interrupts: make(chan struct{}, 1),
		closed:     make(chan struct{}),
		quiet:      newQuiet(),
	}
	c.writer = newWriter(nc, c.closed, c.acksLeave, c.acksWritten)
	c.reader = reader{Session: s, v5: v5, control: control, handOver: c.handOver, acks: &c.writer.due}
	c.reader.judge, _ = control.(Judge)
	c.reader.in.least = s.Input
	c.hurry.most = (s.ReceiveMaximum + 1) / 2
	if !v5 {
		c.hurry.most = math.MaxUint16 / 2
	}
	s.again.start(v5)
	s.writers.Go(c.writer.run)
	return c
}

// Begin says that the session has been agreed on, so that messages may come.
// kept: the sender has it from an earlier connection. If not, packet ids mean
// new messages from now on; and lost says that there was one, because it is
// known (again) or because it has left packet ids in the log. reuses: IDsReused has been
// called for it.
func (c *Conn) Begin(kept, again, reuses bool) (lost bool, err error) {
	if !kept {
		if lost, err = c.forgetIDs(again); err != nil {
			return false, err
		}
	}
	if kept && !again {
		c.qos2.Store(true) // it was found by its ids
	}
	c.reader.begun, c.reader.reuses = true, reuses
	return lost, nil
}

// forgetIDs has the packet ids of the session before deleted, if there was one.
func (c *Conn) forgetIDs(again bool) (lost bool, err error) {
	known, err := c.Log.PacketIDs(c.Key)
	if err != nil {
		return false, err
	}
	c.reader.ids.load(nil)
	if !again && len(known) == 0 {
		return false, nil
	}
	d := c.reader.batch()
	d.IDs = append(d.IDs, mqttetl.IDChange{Op: mqttetl.IDsCleared})
	if c.reader.judge != nil {
		c.reader.close() // also if the connection ends before it is read
	}
	return true, nil
}

// Feed has Step take bytes that were read before. It is called before the first Step.
func (c *Conn) Feed(p []byte) {
	c.reader.in.buf, c.reader.in.w, c.reader.in.now = p, len(p), time.Now().UnixNano()
}

// Waiting says since when the reader waits for bytes, in Unix nanoseconds; 0: it does not.
func (c *Conn) Waiting() int64 {
	if !c.quiet.reading.Load() {
		return 0
	}
	return c.since.Load()
}

// look notes, once, whether all that was written has reached the sender.
func (c *Conn) look() {
	if c.again.most > 0 {
		c.looked.Do(func() { c.reached = allSent(c.nc) })
	}
}

// forgetRead forgets the messages of a connection that has ended whose PUBACKs the sender has.
func (c *Conn) forgetRead() {
	if c.again.most == 0 {
		return
	}
	c.writer.mu.Lock() // nothing more is written
	defer c.writer.mu.Unlock()
	ids := &c.reader.ids
	c.writer.due.writtenSince(ids.release)
	ids.retake(c.writer.unwritten)
	c.again.ended(c.reached, ids.qos1.has)
}

// Dismiss says goodbye with a packet, which may be empty, and ends the connection.
func (c *Conn) Dismiss(packet []byte, reason error) {
	c.look()
	c.writer.sayGoodbye(packet)
	c.Fail(reason)
}

// Note leaves a note with the next batch.
func (c *Conn) Note(name string, value []byte) { c.reader.note(mqttetl.Note{Name: name, Value: value}) }

// Step does one round: it parses what is there, hands it over, and waits for
// more. It returns nil when the control plane has asked for a pause, after an
// Interrupt, or for no reason. After an error, which ends the connection, it must
// not be called again.
func (c *Conn) Step() error {
	err := c.step()
	if err == nil {
		return nil
	}
	c.Fail(err)
	c.forgetRead()
	c.reader.discard()
	if fault := (*wire.Error)(nil); errors.As(err, &fault) {
		return err // whatever has come of telling the sender
	}
	return c.reason // whoever has ended it knows why, and the socket only that it is closed
}

func (c *Conn) step() error {
	if c.quiet.wanted.Load() {
		c.park()
	}
	if c.writer.isClosed() {
		return c.reason
	}
	if c.reader.begun {
		if interrupted, err := c.awaitRoom(); interrupted || err != nil {
			return err
		}
	}
	pause, err := c.reader.parse()
	if c.reader.long.rest == 0 {
		c.reader.close()
	}
	if err == nil {
		err = c.reader.charge()
	}
	switch {
	case errors.Is(err, errNeedIDs):
		return c.loadIDs()
	case err != nil:
		c.endFor(err)
		return err
	case pause, c.reader.long.rest > 0 && c.interrupted():
		return nil
	}
	if err = c.fill(); err != nil {
		c.endFor(err)
	}
	return err
}

// Interrupt has Step return if it waits for anything but bytes, now or the next
// time it does.
func (c *Conn) Interrupt() {
	select {
	case c.interrupts <- struct{}{}:
	default:
	}
}

func (c *Conn) interrupted() bool {
	select {
	case <-c.interrupts:
		return true
	default:
		return false
	}
}

// trickle is what a read of a socket brings, in bytes, when messages come one by
// one rather than in a flood.
const trickle = 32 << 10

// lull is how long the reader leaves a trickle in the socket.
const lull = 2 * time.Millisecond

// awaitRoom waits until more may be read. Where packets come one by one but
// fast, that is when a commit has ended: what comes meanwhile is in the next one
// in any case, and a single read then brings it instead of one for each packet.
func (c *Conn) awaitRoom() (interrupted bool, err error) {
	if c.writer.socket != nil && c.reader.in.got < trickle {
		settled := c.window.hasFew
		if c.reader.handed > fewMessages {
			settled = c.window.empty
		}
		if !settled() {
			c.lulled.Reset(lull)
			interrupted, err = c.await(settled, c.lulled.C)
			c.lulled.Stop()
			if interrupted || err != nil {
				return interrupted, err
			}
		}
	}
	if !c.writer.due.hasRoom() {
		if interrupted, err = c.awaitReader(); interrupted || err != nil {
			return interrupted, err
		}
	}
	if !c.window.hasRoom() {
		return c.held(c.window.hasRoom)
	}
	if !c.Budget.hasRoom() {
		return c.held(c.Budget.hasRoom)
	}
	return false, nil
}

// heldTime is how often a sender that is not read for lack of room is shown that we live.
const heldTime = 5 * time.Second

// held waits for room. A device would take a long wait for a dead connection.
func (c *Conn) held(ready func() bool) (interrupted bool, err error) {
	for !ready() {
		timeout := time.NewTimer(heldTime)
		interrupted, err = c.await(ready, timeout.C)
		timeout.Stop()
		if interrupted || err != nil {
			return interrupted, err
		}
		if c.reader.judge != nil && !ready() {
			c.reader.judge.Held()
		}
	}
	return false, nil
}

// awaitReader waits until the sender has read acknowledgements, and ends the
// connection if it does not: what a sender is owed is memory of ours.
func (c *Conn) awaitReader() (interrupted bool, err error) {
	if c.unread.IsZero() {
		c.unread = time.Now()
	}
	patience := time.NewTimer(time.Until(c.unread.Add(c.Unread)))
	defer patience.Stop()
	if interrupted, err = c.await(c.writer.due.hasRoom, patience.C); interrupted || err != nil {
		return interrupted, err
	}
	if !c.writer.due.hasRoom() {
		return false, fmt.Errorf("%w: %d bytes of them for %s", ErrUnread, c.writer.due.owed.Load(), c.Unread)
	}
	c.unread = time.Time{}
	return false, nil
}

func (c *Conn) fill() error {
	c.since.Store(time.Now().UnixNano())
	c.quiet.reading.Store(true)
	if c.quiet.wanted.Load() {
		return nil
	}
	err := c.reader.in.fill(c.nc)
	c.quiet.reading.Store(false)
	c.writer.due.writtenSince(c.reader.ids.release)
	switch {
	case c.quiet.wanted.Load():
		return nil // whatever it was, the connection comes to rest
	case errors.Is(err, io.EOF):
		return ErrClosed
	case errors.Is(err, dial.ErrBroken):
		return wire.Malformed("%v", err)
	}
	return err
}

// await blocks until ready, which the window's changes may make true. An
// Interrupt ends it early, and so does until.
func (c *Conn) await(ready func() bool, until <-chan time.Time) (interrupted bool, err error) {
	if ready() {
		return false, nil
	}
	for {
		changed, freed := c.window.next(), c.Budget.next()
		if ready() {
			return false, nil
		}
		select {
		case <-changed:
		case <-freed:
		case <-c.interrupts:
			return true, nil
		case <-until:
			return false, nil
		case <-c.closed:
			return false, c.reason
		}
	}
}

// waited says that somebody waits for the commit of d, which is about to be handed
// over: the sender of its messages, or of QoS 2, where each packet is answered by the next.
func (c *Conn) waited(d *delivery) bool {
	c.hurryMu.Lock()
	defer c.hurryMu.Unlock()
	c.hurry.reads(countAcks(d.acks), d.came)
	return c.hurry.held() || len(d.IDs) > 0 || d.Note.Name != "" || !c.window.hasPlenty()
}

// acksLeave is told of each run of acknowledgements before it is written: what a sender
// sends that waited for them may be read before the write has returned.
func (c *Conn) acksLeave(acks []byte) {
	c.hurryMu.Lock()
	defer c.hurryMu.Unlock()
	c.hurry.acks(countAcks(acks), time.Now().UnixNano())
}

// acksWritten is told of each run of acknowledgements when it has left.
func (c *Conn) acksWritten(acks []byte, came []int64, err error) {
	if err != nil {
		if !c.ending.Load() {
			c.Fail(err)
		}
		return
	}
	c.Counters.Acknowledged(countAcks(acks), came)
	if n := int64(len(acks)); c.writer.due.owed.Add(-n)+n >= mostOwed {
		c.window.wake()
	}
}

// settle has everything that has been handed over committed, and waits for it
// as await says.
func (c *Conn) settle(until <-chan time.Time) (interrupted bool, err error) {
	if !c.window.empty() {
		c.Log.Hurry()
	}
	return c.await(c.window.empty, until)
}

// loadIDs gets the QoS 2 packet ids of the session from the log. Batches of the
// connection before this one may still be on their way there and are waited for.
func (c *Conn) loadIDs() error {
	if interrupted, err := c.settle(nil); interrupted || err != nil {
		return err
	}
	ids, err := c.Log.PacketIDs(c.Key)
	if err != nil {
		return err
	}
	c.reader.ids.load(ids)
	c.qos2.Store(true)
	return nil
}

// handOver gives a batch to the log.
func (c *Conn) handOver(d *delivery) {
	d.conn = c
	d.Patient = !c.waited(d)
	d.cost = max(LeastCost, d.Cap()+cap(d.acks)+cap(d.IDs)*idSize)
	c.Counters.HandedOver(&d.tally)
	c.window.take(d.cost)
	c.Budget.Take(d.cost)
	c.Log.Append(&d.Batch)
}

// endFor ends a connection for what the sender sent: what came before is
// committed and acknowledged first, so that the same fault, sent again, does
// not repeat it; then MQTT 5 tells the sender why (§4.13.1).
func (c *Conn) endFor(err error) {
	var fault *wire.Error
	patience := drainTime
	switch {
	case errors.As(err, &fault):
	case err == ErrClosed: // it may have closed one direction only
		c.ending.Store(true)
		patience = closedTime
	default:
		return
	}
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		interrupted, err := c.settle(timeout.C)
		if err != nil {
			return
		}
		if !interrupted {
			break
		}
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(time.Second)) // it may not read
	c.writer.flush()
	if c.v5 && c.reader.begun && fault != nil {
		c.writer.sayGoodbye([]byte{wire.Disconnect << 4, 1, fault.Code})
	}
}

// Send writes a whole packet of the control plane. An error ends the connection.
func (c *Conn) Send(packet []byte) error {
	if c.writer.isClosed() {
		return c.reason
	}
	if err := c.writer.send(packet); err != nil {
		c.Fail(err)
		return c.reason
	}
	return nil
}

// Fail ends the connection with a reason. Only the first reason counts.
func (c *Conn) Fail(err error) {
	c.once.Do(func() {
		c.reason = err
		c.look()
		close(c.closed)
		_ = c.nc.Close() // nothing was promised for what had not left
	})
}

// Closed is closed when the connection has ended.
func (c *Conn) Closed() <-chan struct{} { return c.closed }

// Err is why the connection has ended, nil while it has not.
func (c *Conn) Err() error {
	if !c.writer.isClosed() {
		return nil
	}
	return c.reason
}
