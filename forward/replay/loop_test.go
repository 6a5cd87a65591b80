package replay

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
)

// The pace goes on from one pass to the next.
func TestScoreOfPasses(t *testing.T) {
	const s = int64(time.Second)
	for _, c := range []struct {
		name     string
		pace     Pace
		recorded []int64
		want     []time.Duration // of three passes, in milliseconds; -1 for at once
	}{
		{"rate", Pace{Rate: 0.5}, []int64{7 * s}, []time.Duration{0, 2000, 4000}},
		{"one record", Pace{Speed: 2}, []int64{7 * s}, []time.Duration{0, 500, 1000}},
		{"no time between", Pace{Speed: 1}, []int64{s, s}, []time.Duration{0, 0, 1000, 1000, 2000, 2000}},
		{"mean distance", Pace{Speed: 2}, []int64{0, s, 4 * s}, []time.Duration{0, 500, 2000, 3000, 3500, 5000, 6000, 6500, 8000}},
		{"shortened", Pace{Speed: 1, MaxGap: time.Second}, []int64{0, s, 4 * s}, []time.Duration{0, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000}},
		{"one record, shortened", Pace{Speed: 1, MaxGap: time.Second / 4}, []int64{s}, []time.Duration{0, 250, 500}},
		{"at once", Pace{}, []int64{0, s}, []time.Duration{-1, -1, -1, -1, -1, -1}},
	} {
		p := score{pace: c.pace}
		for i, want := range c.want {
			if i%len(c.recorded) == 0 {
				p.again()
			}
			at, ok := p.due(c.recorded[i%len(c.recorded)])
			if ok != (want >= 0) || ok && at != want*time.Millisecond {
				t.Errorf("%s: record %d is due at %v, %v, want %v ms", c.name, i, at, ok, int64(want))
			}
		}
	}
}

// looped plays a selection in a loop until so many records were sent.
func looped(t *testing.T, pace Pace, records int, open func(pass int) Source) *noting {
	t.Helper()
	ctx, stop := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	pass := 0
	p := NewPlayer(Config{Pace: pace, Loop: true, Open: func(mqttetl.Seq, uint64) Source { pass++; return open(pass) }})
	to := &noting{}
	to.confirmed = func(upTo mqttetl.Seq, n int) {
		p.Confirmed(upTo, n)
		if len(to.at) == records {
			stop(enough)
		}
	}
	if err := p.Run(ctx, to); err != nil && !errors.Is(err, enough) {
		t.Fatal(err)
	}
	return to
}

func TestLoopKeepsThePace(t *testing.T) {
	for _, pace := range []Pace{{Rate: 50}, {Speed: 50}} { // one record: 1 s of recorded time
		to := looped(t, pace, 50, func(int) Source { return &endless{n: 1, step: 1} })
		if len(to.at) != 50 {
			t.Fatalf("%+v: %d records", pace, len(to.at))
		}
		// The first may be late, and then the next come sooner: by no more.
		if took := to.at[49].Sub(to.at[0]); took < 500*time.Millisecond {
			t.Errorf("%+v: 50 passes of one record took %v, want 980 ms", pace, took)
		}
	}
}

// A selection that nothing is left of ends the loop.
func TestLoopEndsWithTheSelection(t *testing.T) {
	to := looped(t, Pace{}, 1000, func(pass int) Source { return &endless{n: max(0, 3-pass), step: 1} })
	if len(to.at) != 3 {
		t.Errorf("%d records, want 3 of two passes", len(to.at))
	}
}
