package session

import (
	"sync"
	"sync/atomic"

	"github.com/mqttetl/mqttetl/internal/wire"
)

// mostOwed is how many bytes of acknowledgements the sender may leave unread
// before we read no more of it. A sender with all 65,535 packet ids in flight is
// owed a quarter of it.
const mostOwed = 1 << 20

// An ackQueue carries acknowledgements from the goroutine that commits to the
// writer, and the packet ids that are free again from there to the reader.
type ackQueue struct {
	mu       sync.Mutex
	due      []byte  // packets to write, in order of receipt
	came     []int64 // when what they acknowledge was read, Unix nanoseconds, for each batch
	released []byte  // packets written, whose ids the reader has not yet released

	owed atomic.Int64 // bytes that are due, or not yet wholly written
}

// hasRoom says whether the sender may be given more to acknowledge.
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

// take returns everything due and keeps the two buffers for what comes next.
// The ids count as released from here on, before the write: the sender may use
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

// countAcks counts the PUBACKs and PUBRECs in a run of acknowledgements.
func countAcks(acks []byte) (n int) {
	for len(acks) > 0 {
		if t := acks[0] >> 4; (t == wire.Puback || t == wire.Pubrec) && acks[1] == 2 { // a refusal is longer
			n++
		}
		acks = acks[2+acks[1]:]
	}
	return n
}
