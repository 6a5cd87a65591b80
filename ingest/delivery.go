package ingest

import (
	"sync"

	"github.com/mqttetl/mqttetl"
)

// keptBuffer is the largest batch buffer, in bytes, that is kept for reuse.
const keptBuffer = 1 << 20

// idSize is the size of a mqttetl.IDChange, in bytes.
const idSize = 4

// A delivery is one batch on its way into the log and the acknowledgements that
// leave when it is there.
type delivery struct {
	mqttetl.Batch
	conn  *conn
	acks  []byte // PUBACK, PUBREC and PUBCOMP packets in order of receipt, ready to write
	came  int64  // when the end of what they acknowledge was read, Unix nanoseconds
	tally tally
	cost  int // what the window was charged, in bytes
}

// tally counts the messages of one delivery, so that counters that others read
// are touched once a batch.
type tally struct {
	received    [3]uint64 // by QoS
	bytes       uint64    // of PUBLISH frames
	redelivered uint64
}

// deliveries are those not in use, with their buffers.
var deliveries sync.Pool

func (c *conn) newDelivery() *delivery {
	d, _ := deliveries.Get().(*delivery)
	if d == nil {
		d = new(delivery)
		d.Done = d.done
	}
	d.conn = c
	d.Source, d.Session = c.link.source, c.link.session
	return d
}

// recycle empties d and gives it back. d must not be used afterwards.
func (d *delivery) recycle() {
	if d.Cap() > keptBuffer {
		d.Free()
	} else {
		d.Reset()
	}
	d.conn, d.acks, d.tally, d.cost = nil, d.acks[:0], tally{}, 0
	deliveries.Put(d)
}

// idle says that handing d over would neither store nor acknowledge anything.
func (d *delivery) idle() bool { return d.Empty() && len(d.acks) == 0 }

// done runs on the goroutine that commits. It does not block: it writes only
// what the socket takes at once, and closing a connection does not wait.
func (d *delivery) done(_ mqttetl.Seq, err error) {
	c, cost := d.conn, d.cost
	if err != nil {
		c.link.logFailed(err)
		c.fail(logError{err})
	} else if c.acks.add(d.acks, d.came); !d.More && !c.ackNow() {
		c.acks.wake()
	}
	d.recycle()
	c.link.window.give(cost)
}

// Bounds of what one link has handed to the log and not got back. One batch
// may exceed them, so that a message of any size passes.
const (
	windowBytes   = 8 << 20
	windowBatches = 256
)

// How many batches of small reads may be out before the reader waits for a
// commit, as long as a read brings few messages; then it waits for each.
const (
	fewBatches  = 8
	fewMessages = 4
)

// A window counts what a link has handed to the log and not got back. It
// outlives the link's connections: the batches of a lost connection stay in it
// until they are Done.
type window struct {
	mu             sync.Mutex
	batches, bytes int
	changed        chan struct{} // closed by the next give; nil while nobody waits
}

func (w *window) take(bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batches++
	w.bytes += bytes
}

func (w *window) give(bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batches--
	w.bytes -= bytes
	w.wakeLocked()
}

// wake lets who waits for the next give look again, for another reason.
func (w *window) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wakeLocked()
}

func (w *window) wakeLocked() {
	if w.changed != nil {
		close(w.changed)
		w.changed = nil
	}
}

// next returns a channel that is closed by the next give.
func (w *window) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	return w.changed
}

// hasRoom says whether a further batch may be filled.
func (w *window) hasRoom() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes < windowBytes && w.batches < windowBatches
}

// hasPlenty says that the window is less than half full.
func (w *window) hasPlenty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes < windowBytes/2 && w.batches < windowBatches/2
}

// hasFew says that few batches are out.
func (w *window) hasFew() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.batches < fewBatches
}

// empty says that everything handed over is Done.
func (w *window) empty() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.batches == 0
}
