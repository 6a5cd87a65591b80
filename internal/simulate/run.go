package simulate

import (
	"context"
	"time"
)

// Target is where messages go.
type Target interface {
	// Publish takes m; it waits while too much is unconfirmed.
	Publish(ctx context.Context, m *Message) error
	// Flush lets everything leave that was published so far, without waiting.
	Flush()
	// Drain waits until everything has left and, where there is such a thing,
	// has been confirmed.
	Drain(ctx context.Context) error
	// Done is closed when the target takes no more; Err tells why.
	Done() <-chan struct{}
	Err() error
	// Confirmed is how many messages the target has confirmed.
	Confirmed() uint64
	// Close ends the connections.
	Close()
}

// Progress is called now and then with what has been sent.
type Progress func(sent uint64)

// Limits of a run.
const (
	drainTime = 10 * time.Second // for the last confirmations
	graceTime = time.Second      // that late messages have after Duration
)

// Account is what one run has sent.
type Account struct {
	Sent      uint64
	Confirmed uint64
	Took      time.Duration // until the last confirmation
	Late      time.Duration // the longest time after its own at which a message left; 0 where nothing is paced
}

// Run sends the messages of s to t, each at its time, until the scenario or ctx
// ends, and waits for the confirmations. A message that is late is sent at
// once; what is not sent a second after Duration is left out. paced is false for
// as fast as t takes them, until Duration. The end of ctx is no error.
func Run(ctx context.Context, s *Scenario, t Target, paced bool, progress Progress) (a Account, err error) {
	ended := make(chan struct{})
	defer close(ended)
	defer context.AfterFunc(ctx, func() { closeAfter(t, ended) })()
	end := s.Duration
	if paced {
		end += graceTime
	}
	began := time.Now()
	fleet := New(s)
	for ctx.Err() == nil {
		m, ok := fleet.Next()
		if !ok || s.Duration > 0 && m.At >= s.Duration && paced {
			break
		}
		elapsed := time.Since(began)
		if s.Duration > 0 && elapsed >= end {
			break
		}
		if paced && elapsed < m.At {
			t.Flush()
			if !wait(ctx, t, m.At-elapsed) {
				break
			}
		} else if paced {
			a.Late = max(a.Late, elapsed-m.At)
		}
		if err = t.Publish(ctx, &m); err != nil {
			break
		}
		a.Sent++
		progress(a.Sent)
	}
	if err == nil {
		err = t.Err()
	}
	if err == nil || ctx.Err() != nil {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		err = t.Drain(drain)
	}
	a.Confirmed, a.Took = t.Confirmed(), time.Since(began)
	return a, err
}

// closeAfter ends a target that confirms nothing any more, in which Publish
// would wait for ever.
func closeAfter(t Target, ended <-chan struct{}) {
	timer := time.NewTimer(drainTime)
	defer timer.Stop()
	select {
	case <-timer.C:
		t.Close()
	case <-ended:
	}
}

// wait waits for d, false if ctx or the target ends first.
func wait(ctx context.Context, t Target, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-t.Done():
	}
	return false
}
