package session

import (
	"sync"

	"github.com/mqttetl/mqttetl"
)

// keptBuffer is the largest batch buffer, in bytes, that is kept for reuse.
const keptBuffer = 1 << 20

// idSize is the size of a mqttetl.IDChange, in bytes.
const idSize = 4

// LeastCost is what a batch on its way into the log takes at least, in bytes, with what it keeps
// of its connection.
const LeastCost = 4 << 10

// A delivery is one batch on its way into the log and the acknowledgements that
// leave when it is there.
type delivery struct {
	mqttetl.Batch
	conn  *Conn  // that handed it over
	acks  []byte // PUBACK, PUBREC and PUBCOMP packets in order of receipt, ready to write
	came  int64  // when the end of what they acknowledge was read, Unix nanoseconds
	tally Tally
	cost  int // what the window was charged, in bytes
}

// deliveries are those not in use, with their buffers.
var deliveries sync.Pool

func (s *Session) newDelivery() *delivery {
	d, _ := deliveries.Get().(*delivery)
	if d == nil {
		d = new(delivery)
		d.Done = d.done
	}
	d.Source, d.Session = s.Source, s.Key
	return d
}

// recycle empties d and gives it back. d must not be used afterwards.
func (d *delivery) recycle() {
	if d.Cap() > keptBuffer {
		d.Free()
	} else {
		d.Reset()
	}
	d.conn, d.acks, d.tally, d.cost = nil, d.acks[:0], Tally{}, 0
	deliveries.Put(d)
}

// idle says that handing d over would neither store nor acknowledge anything.
func (d *delivery) idle() bool { return d.Empty() && len(d.acks) == 0 }

// done runs on the goroutine that commits. It does not block: it writes only
// what the socket takes at once, and closing a connection does not wait.
func (d *delivery) done(_ mqttetl.Seq, err error) {
	c, cost := d.conn, d.cost
	if err != nil {
		c.Failed(err)
		c.Fail(LogError{err})
	} else if c.writer.due.add(d.acks, d.came); !d.More {
		c.writer.flushNow()
	}
	d.recycle()
	c.window.give(cost)
	c.Budget.Give(cost)
}

// LogError is an error of the log that ended a connection.
type LogError struct{ error }

func (e LogError) Unwrap() error { return e.error }
