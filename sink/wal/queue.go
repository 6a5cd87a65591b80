package wal

import (
	"sync"

	"github.com/mqttetl/mqttetl"
)

// groupSize bounds the bytes of values in one transaction. A single batch may
// be larger.
const groupSize = 16 << 20

// patientSize is how many bytes of values wait for the end of an interval. A
// transaction of more costs what it holds, not what it is.
const patientSize = 256 << 10

// queue holds the batches that have been handed over and not been committed.
type queue struct {
	mu      sync.Mutex
	batches []*mqttetl.Batch
	spare   []*mqttetl.Batch // the backing array of the group before
	size    int              // bytes of batches
	hurried bool             // they are to be committed at once
	closed  bool
	ready   chan struct{} // holds a token when batches may be waiting
}

// put adds a batch; it reports false once the queue is closed.
func (q *queue) put(b *mqttetl.Batch) bool {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return false
	}
	q.batches = append(q.batches, b)
	q.size += b.Size()
	q.hurried = q.hurried || !b.Patient || q.size >= patientSize
	q.mu.Unlock()
	q.signal()
	return true
}

// hurry has what waits committed at once.
func (q *queue) hurry() {
	q.mu.Lock()
	q.hurried = len(q.batches) > 0
	q.mu.Unlock()
	q.signal()
}

// waited says that what waits is to be committed at once.
func (q *queue) waited() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.hurried
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// take removes the next group: everything that waits, up to groupSize. The
// slice is valid until the next call.
func (q *queue) take() []*mqttetl.Batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, size := 0, 0
	for n < len(q.batches) && (n == 0 || size+q.batches[n].Size() <= groupSize) {
		size += q.batches[n].Size()
		n++
	}
	group := append(q.spare[:0], q.batches[:n]...)
	rest := copy(q.batches, q.batches[n:])
	clear(q.batches[rest:])
	q.batches, q.spare = q.batches[:rest], group
	q.size -= size
	q.hurried = rest > 0
	if rest > 0 {
		q.signal()
	}
	return group
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.batches)
}

// close refuses further batches and returns those that wait.
func (q *queue) close() []*mqttetl.Batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	left := q.batches
	q.batches, q.closed = nil, true
	return left
}
