package transform

import (
	"errors"
	"fmt"
	"time"

	"github.com/mqttetl/mqttetl/batch/decode"
)

// A route whose records take too long, so many of them in a row or for so much
// of the last minute, is suspended for a while: its records become
// failures at once, so that the other routes and the cursor go on. Only slow
// records count for the minute: many fast ones are load, and no mistake.
const (
	maxStrikes = 3
	slowRecord = 100 * time.Millisecond
	slowLimit  = 10 * time.Second // that slow records may take in a suspension's time
	suspension = time.Minute
)

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

// spend notes a slow record that ended then, and what was slow about it. What was spent before is forgiven
// at the rate at which it may be spent.
func (w *working) spend(took time.Duration, then time.Time, why string) {
	forgiven := then.Sub(w.slowAt) / time.Duration(suspension/slowLimit)
	w.slow, w.slowAt = max(0, w.slow-forgiven)+took, then
	if w.slow > slowLimit {
		w.until, w.why = then.Add(suspension), why
	}
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
