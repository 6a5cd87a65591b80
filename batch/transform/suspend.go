package transform

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mqttetl/mqttetl/batch/decode"
)

// A route whose records take too long, so many of them in a row or for so much
// of the last minute, is suspended for a while: its records become
// failures at once, so that the other routes and the cursor go on. Only slow
// records count for the minute: many fast ones are load, and no mistake.
//
// Records that are not so slow, and too slow for their size, count as well: they may take
// half of the time. One that is fast makes up for a millisecond of them, so that a busy
// machine, which holds up any record now and then, does not count.
const (
	maxStrikes = 3
	slowRecord = 100 * time.Millisecond
	slowLimit  = 10 * time.Second // that slow records may take in a suspension's time
	suspension = time.Minute

	lazyRecord = 10 * time.Millisecond // without payload
	lazyByte   = 100 * time.Nanosecond // more for each byte of it
	lazyLimit  = suspension / 2        // as slowLimit
	makesUp    = time.Millisecond
	// watched is how many records of a route without jq are timed one by one after a slow one.
	watched = 1000
)

// stopwatch measures a record.
type stopwatch struct {
	begun time.Time
	cpu   time.Duration // that the process had used then
}

func startWatch() stopwatch { return stopwatch{time.Now(), cpuTime()} }

// took is the time since then, and used what counts of it: no more than the whole process
// has computed meanwhile, because a machine that is busy elsewhere, or a container beyond its
// share, is no mistake of the route.
func (s stopwatch) took() (took, used time.Duration) {
	took = time.Since(s.begun)
	if took < lazyRecord {
		return took, took
	}
	return took, min(took, cpuTime()-s.cpu)
}

// cpuTime is what the process has used of all CPUs.
func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// spent is time that was spent, less what has been forgiven since at the rate at which
// limit may be spent in a suspension's time.
type spent struct {
	sum time.Duration
	at  time.Time
}

// more adds to it and says whether that is beyond the limit.
func (s *spent) more(took time.Duration, then time.Time, limit time.Duration) bool {
	forgiven := time.Duration(float64(then.Sub(s.at)) * float64(limit) / float64(suspension))
	if s.at.IsZero() {
		forgiven = 0
	}
	s.sum, s.at = max(0, s.sum-forgiven)+took, then
	return s.sum > limit
}

// weigh notes how long a record with a payload of so many bytes has taken, until then.
func (a *Applier) weigh(w *working, took time.Duration, bytes int, then time.Time) {
	switch slow := took >= slowRecord || a.births.reading > 0; {
	case slow && w.slow.more(min(took, TimeLimit), then, slowLimit), !slow && took >= lazyRecord+time.Duration(bytes)*lazyByte && w.lazy.more(took, then, lazyLimit):
		w.until, w.why = then.Add(suspension), a.culprit(took)
	case !slow && took < lazyRecord && w.lazy.sum > 0:
		w.lazy.sum = max(0, w.lazy.sum-makesUp)
	}
	if took >= lazyRecord {
		w.watch = watched
	} else if w.watch > 0 {
		w.watch--
	}
}

func (w *working) strike(err error) {
	d, died := errors.AsType[*death](err)
	switch {
	case errors.As(err, new(suspended)):
		return
	case died:
		w.why = itsJQ + d.text
	case errors.Is(err, errTime):
		w.why = slowJQ
	case errors.Is(err, decode.ErrSlow):
		w.why = slowDecoder
	default:
		w.strikes = 0
		return
	}
	if w.strikes++; w.strikes >= maxStrikes {
		w.until = time.Now().Add(suspension)
	}
}

// What a route is suspended for.
const (
	itsJQ       = "its jq programs "
	slowJQ      = itsJQ + "took too long"
	slowDecoder = "decoding its payloads took too long"
	slowBirths  = "large Sparkplug births had to be read again and again"
)

// culprit is what has taken most of a record's time.
func (a *Applier) culprit(took time.Duration) string {
	switch {
	case a.births.reading > took/2:
		return slowBirths
	case a.limit.spent > took/2:
		return slowJQ
	}
	return slowDecoder
}

// suspended is the failure of a record that was not looked at: what its route is
// suspended for.
type suspended string

func (s suspended) Error() string {
	return fmt.Sprintf("not tried: the route is suspended for %v, because %s", suspension, string(s))
}

// isSuspended is nil, or says why.
func (w *working) isSuspended() error {
	if w.until.IsZero() || !time.Now().Before(w.until) {
		return nil
	}
	return suspended(w.why)
}
