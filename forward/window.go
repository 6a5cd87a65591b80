package forward

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/mqttetl/mqttetl"
)

// The window's bounds. They cover the round trip and the server's own batches;
// more would only lengthen what has to be sent again after an error.
const (
	windowMessages = 8192
	windowBytes    = 8 << 20
)

// A mark is a message that asks for an acknowledgement. Because the messages
// are chained, its acknowledgement confirms all that were sent before it.
type mark struct {
	stream   uint64      // the stream's number of the message
	record   mqttetl.Seq // its number in the log
	messages int         // sent since the mark before, itself included
	bytes    int
	at       time.Time
}

// window counts what has been sent and not been confirmed. One goroutine
// sends, another confirms.
type window struct {
	mu       sync.Mutex
	marks    []mark // oldest first
	done     int    // of marks, no longer outstanding
	open     mark   // what has been sent after the last mark
	messages int    // outstanding, in marks and open
	bytes    int
	moved    time.Time     // when the last acknowledgement came
	room     chan struct{} // holds one token after a confirmation
	overdue  *time.Timer   // runs while a mark is outstanding: waiting is to be asked
	every    time.Duration // how often
	looking  bool          // it runs, or has fired and waiting was not asked
}

// newWindow returns an empty window whose overdue fires so often while a mark is outstanding.
func newWindow(every time.Duration) *window {
	w := &window{room: make(chan struct{}, 1), overdue: time.NewTimer(every), every: every}
	w.overdue.Stop()
	return w
}

// reserve waits until a message of size bytes fits. A message larger than the
// whole window goes alone.
func (w *window) reserve(ctx context.Context, size int) error {
	return w.wait(ctx, func() bool {
		return w.messages == 0 || w.messages < windowMessages && w.bytes+size <= windowBytes
	})
}

// drain waits until everything sent is confirmed. The last message sent must
// have been marked.
func (w *window) drain(ctx context.Context) error {
	return w.wait(ctx, func() bool { return w.messages == 0 })
}

func (w *window) wait(ctx context.Context, ok func() bool) error {
	for {
		w.mu.Lock()
		done := ok()
		w.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-w.room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// add counts a message that is about to be sent; marked says that it asks for
// an acknowledgement. It is counted before it is sent, because the answer may
// come before the send returns.
func (w *window) add(stream uint64, record mqttetl.Seq, size int, marked bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.messages++
	w.bytes += size
	w.open.messages++
	w.open.bytes += size
	if marked {
		w.open.stream, w.open.record, w.open.at = stream, record, time.Now()
		if len(w.marks) == w.done && !w.looking {
			w.looking = true
			w.overdue.Reset(w.every)
		}
		w.marks = append(w.marks, w.open)
		w.open = mark{}
	}
}

// unmarked is how much has been sent after the last mark.
func (w *window) unmarked() (messages, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.open.messages, w.open.bytes
}

// spoken returns the newest mark up to the stream's number, with the sum of the
// messages and bytes of all marks up to it; ok = false when there is none,
// because a later acknowledgement has already spoken for it.
func (w *window) spoken(stream uint64) (m mark, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, next := range w.marks[w.done:] {
		if next.stream > stream {
			break
		}
		next.messages += m.messages
		next.bytes += m.bytes
		m, ok = next, true
	}
	return m, ok
}

// asks says whether the stream's message of that number asks for an acknowledgement.
func (w *window) asks(stream uint64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.marks[w.done:], func(m mark) bool { return m.stream == stream })
}

// release takes out what spoken has returned and lets the sender go on. It
// comes after the position has moved: the sender may settle the next record.
func (w *window) release(m mark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.done < len(w.marks) && w.marks[w.done].stream <= m.stream {
		w.done++
	}
	if w.done >= len(w.marks)/2 {
		w.marks = append(w.marks[:0], w.marks[w.done:]...)
		w.done = 0
	}
	w.messages -= m.messages
	w.bytes -= m.bytes
	w.moved = time.Now()
	select {
	case w.room <- struct{}{}:
	default:
	}
}

// alone returns the only message in flight.
func (w *window) alone() (m mark, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.messages != 1 || len(w.marks)-w.done != 1 {
		return m, false
	}
	return w.marks[w.done], true
}

// inFlight is the number of messages sent and not confirmed.
func (w *window) inFlight() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.messages
}

// waiting is for how long the oldest mark has waited without any
// acknowledgement having come. It is asked when overdue has fired.
func (w *window) waiting(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.looking = len(w.marks) > w.done; !w.looking {
		return 0
	}
	w.overdue.Reset(w.every)
	since := w.marks[w.done].at
	if w.moved.After(since) {
		since = w.moved
	}
	return now.Sub(since)
}
