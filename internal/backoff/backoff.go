// Package backoff is how everybody waits before the next attempt. Its
// invariant: a wait ends at once when the context does.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff is the pause between attempts: First, doubling up to Most, less up to
// a half at random, so that many who were cut off at once do not come back at the
// same moment.
type Backoff struct {
	First, Most time.Duration
	failures    int // in a row
}

// Reset begins again with First.
func (b *Backoff) Reset() { b.failures = 0 }

// Wait pauses after one more failure. It returns false when ctx has ended.
func (b *Backoff) Wait(ctx context.Context) bool {
	b.failures++
	return Pause(ctx, Delay(b.First, b.Most, b.failures))
}

// Delay is the pause after so many failures in a row.
func Delay(first, most time.Duration, failures int) time.Duration {
	d := most
	if failures < 16 { // beyond it would overflow, and no pause is so long
		d = min(most, first<<max(0, failures-1))
	}
	return d - rand.N(d/2+1)
}

// Pause waits for d. It returns false when ctx has ended.
func Pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
