package session

import "time"

// Bounds by which a hurry tells a sender that waits for us from one that has
// nothing to send.
const (
	// silence is how long nothing comes before an acknowledgement if the sender
	// may have stopped for it.
	silence = 5 * time.Millisecond
	// soon is how long after an acknowledgement the next packet of a sender comes
	// that had stopped for it: a round trip, also to a broker far away, and some work.
	soon = 100 * time.Millisecond
	// often is how many times in a row a sender must have stopped at the same
	// number of packets.
	often = 3
	// remembered is how long what was learned holds. A sender that still waits is
	// learned anew within a few commits, one that does not is no longer hurried for.
	remembered = 5 * time.Second
)

// A hurry says whether the sender of a connection is held up by acknowledgements
// that it has not got, so that what was read is better committed at once. It is
// if half of our Receive Maximum is unacknowledged, or as much as the sender is
// seen to stop at: with so many packets in flight it was silent until they were
// acknowledged, and went on right after, several times in a row. A device with one
// packet in flight is thus hurried for while it empties a backlog, and not when
// it sends once a second.
//
// Times are Unix nanoseconds. It is not safe for concurrent use.
type hurry struct {
	most int // half of the Receive Maximum that the sender was told, or of what it may have at most

	out   int   // packets read and not acknowledged
	peak  int   // as many when the last of them came
	read  int64 // when that was
	acked int64 // when all were acknowledged

	stopped int   // number at which the sender was silent until that, 0 if it was not
	window  int   // number at which it stops, by what was seen last
	times   int   // how often in a row
	learned int64 // when that was enough
}

// reads notes n packets that must be acknowledged.
func (h *hurry) reads(n int, now int64) {
	if h.out == 0 && h.acked > 0 {
		h.judge(time.Duration(now - h.acked))
	}
	h.out += n
	h.peak, h.read = h.out, now
	if h.out > h.window { // it does not stop there
		h.forget()
	}
	if h.learned > 0 && time.Duration(now-h.learned) > remembered {
		h.forget()
	}
}

// judge takes the time between the last acknowledgement and what came next.
func (h *hurry) judge(after time.Duration) {
	switch {
	case after > soon:
		h.forget()
	case h.stopped == 0 || h.learned > 0:
	case h.stopped == h.window:
		if h.times++; h.times == often {
			h.learned = h.acked
		}
	default:
		h.window, h.times = h.stopped, 1
	}
	h.stopped = 0
}

func (h *hurry) forget() { h.window, h.times, h.learned, h.stopped = 0, 0, 0, 0 }

// acks notes that n packets were acknowledged.
func (h *hurry) acks(n int, now int64) {
	if n == 0 {
		return
	}
	if n >= h.out && time.Duration(now-h.read) >= silence {
		h.stopped = h.peak
	}
	h.out -= n
	h.acked = now
}

// Sustained is how many messages a second a source takes over time from a sender with
// a backlog that has window of them in flight at most, less than half of the Receive
// Maximum, if it takes rate where each commit begins at once. interval is that of the
// log and trip the round trip to the sender.
func Sustained(rate float64, window int, trip, interval time.Duration) float64 {
	period := max(interval, trip) // of a window
	spaced := float64(window) / period.Seconds()
	if interval <= 0 || spaced >= rate {
		return rate
	}
	if trip > soon || interval < silence { // it is not seen to wait
		return spaced
	}
	learning := often * period
	return min(rate, (spaced*learning.Seconds()+rate*remembered.Seconds())/(learning+remembered).Seconds())
}

// held says that the sender waits, or soon will.
func (h *hurry) held() bool {
	return h.out >= h.most || h.learned > 0 && h.out >= h.window
}
