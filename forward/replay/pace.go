package replay

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Pace says when records are sent. The zero Pace is as fast as possible.
type Pace struct {
	// Speed is how much faster than recorded: 1 is as recorded, 10 takes a
	// tenth of the time, 0 does not look at times.
	Speed float64
	// Rate is the number of records a second, evenly spaced; 0 for none. With it
	// Speed is not looked at.
	Rate float64
	// MaxGap bounds the silence between two records in recorded time, before
	// Speed divides it. 0 for none.
	MaxGap time.Duration
}

// score turns recorded times into offsets from the begin of the replay.
type score struct {
	pace   Pace
	n      int64
	last   int64         // recorded time of the record before
	played time.Duration // recorded time that has passed, silences shortened

	first  bool          // the next record is the first of another pass
	inPass int64         // records of this pass
	lasted time.Duration // recorded time from the first of them to the last
}

// loopGap is the recorded time between two passes of which no distance of
// records can be told.
const loopGap = time.Second

// again begins another pass.
func (s *score) again() { s.first = s.n > 0 }

// due is when the record of that recorded time (Unix nanoseconds) is to be
// sent; ok = false: at once. A clock that was set back while recording counts
// as no time. The first record of a further pass comes after the last one of
// the pass before by the mean distance of that pass's records.
func (s *score) due(recorded int64) (at time.Duration, ok bool) {
	n := s.n
	s.n++
	if s.pace.Rate > 0 {
		return duration(float64(n) / s.pace.Rate * float64(time.Second)), true
	}
	if s.pace.Speed <= 0 {
		return 0, false
	}
	gap := s.gap(recorded)
	if s.pace.MaxGap > 0 {
		gap = min(gap, s.pace.MaxGap)
	}
	s.played += gap
	return duration(float64(s.played) / s.pace.Speed), true
}

// duration is that of so many nanoseconds, or a century: a time that no
// Duration holds would be one in the past.
func duration(ns float64) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	return time.Duration(min(ns, float64(century)))
}

// gap is the recorded time between a record and the one before it.
func (s *score) gap(recorded int64) time.Duration {
	last := s.last
	s.last = recorded
	if s.inPass > 0 && !s.first {
		gap := max(0, time.Duration(recorded-last))
		s.inPass++
		s.lasted += gap
		return gap
	}
	gap := time.Duration(0)
	if s.first {
		gap = loopGap
		if s.lasted > 0 {
			gap = s.lasted / time.Duration(s.inPass-1)
		}
	}
	s.first, s.inPass, s.lasted = false, 1, 0
	return gap
}

// beat is the clock of a replay, which can be stopped and goes on later.
type beat struct {
	mu      sync.Mutex
	start   time.Time     // moved by the pauses that there were
	paused  time.Time     // since when, zero if it runs
	changed chan struct{} // closed and made anew when paused changes
	held    atomic.Bool   // paused is not zero
}

func newBeat() *beat { return &beat{start: time.Now(), changed: make(chan struct{})} }

// toggle stops the clock or lets it go on, and says whether it is stopped.
func (b *beat) toggle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.paused.IsZero() {
		b.paused = now
	} else {
		b.start = b.start.Add(now.Sub(b.paused))
		b.paused = time.Time{}
	}
	close(b.changed)
	b.changed = make(chan struct{})
	b.held.Store(!b.paused.IsZero())
	return b.held.Load()
}

// restart sets the clock to zero. It stays stopped if it was.
func (b *beat) restart() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.start = time.Now()
	if !b.paused.IsZero() {
		b.paused = b.start
	}
}

// elapsed is the time since the clock was set to zero, without pauses.
func (b *beat) elapsed() (d time.Duration, paused bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.paused.IsZero() {
		return b.paused.Sub(b.start), true
	}
	return time.Since(b.start), false
}

// left is how long it is until the offset, and what ends the wait early.
func (b *beat) left(offset time.Duration) (d time.Duration, paused bool, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Until(b.start.Add(offset)), !b.paused.IsZero(), b.changed
}

// coarse is how far timers of the runtime may be late: the system waits in
// whole milliseconds for them. What is left behind is slept away exactly.
const coarse = 1500 * time.Microsecond

// idleEvery is how often a destination is flushed in a silence.
const idleEvery = 250 * time.Millisecond

// wait returns when it is time. idle is called before it sleeps, and again in a
// long sleep: what left with the last record may not be asked about yet.
func (b *beat) wait(ctx context.Context, offset time.Duration, idle func() error) error {
	called := false
	for {
		d, paused, changed := b.left(offset)
		if !paused && d <= 0 {
			return ctx.Err()
		}
		if !called && idle != nil {
			if err := idle(); err != nil {
				return err
			}
			called = true
			continue
		}
		if !paused && d <= coarse {
			sleep(d)
			continue
		}
		nap := idleEvery
		if !paused {
			nap = min(nap, d-coarse)
		}
		timer := time.After(nap)
		called = nap < idleEvery
		select {
		case <-timer:
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// sleep is time.Sleep by the system's own clock, some 60 µs late at most. A
// signal ends it early.
func sleep(d time.Duration) {
	t := unix.NsecToTimespec(int64(d))
	_ = unix.Nanosleep(&t, nil) // the caller looks at the clock again
}
