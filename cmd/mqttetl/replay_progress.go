package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/replay"
	"github.com/mqttetl/mqttetl/sink/history"
)

// point is a record as a place: by number, and in recorded time (Unix nanoseconds).
type point struct {
	seq  mqttetl.Seq
	time int64
}

// bounds are where a replay ends and how it gets there.
type bounds struct {
	last  point   // the last record that may match
	until int64   // recorded time at which the selection ends, if it does so before last; else 0
	speed float64 // seconds of recorded time in a second; 0: something else is the pace
	limit uint64  // records, 0: all
}

// boundsOf looks up the last record of a selection.
func boundsOf(ctx context.Context, h *history.History, sel mqttetl.Selection, pace replay.Pace) (bounds, error) {
	b := bounds{limit: sel.Limit}
	if pace.Rate == 0 && pace.MaxGap == 0 {
		b.speed = pace.Speed
	}
	_, b.last.seq = h.Select(sel).Bounds()
	recs, err := h.Select(mqttetl.Selection{From: b.last.seq, To: b.last.seq}).Next(ctx)
	if err != nil && !errors.Is(err, io.EOF) {
		return b, err
	}
	if len(recs) > 0 {
		b.last.time = recs[0].Time
	}
	if _, until := sel.Span(); until < b.last.time {
		b.until = until
	}
	return b, nil
}

// end is the recorded time at which the selection ends.
func (b bounds) end() int64 {
	if b.until != 0 {
		return b.until
	}
	return b.last.time
}

// course is how far this run has come in a pass.
type course struct {
	bounds
	first, at point  // its first record, and the one that was sent last
	before    uint64 // records of the pass that were played before first
	played    uint64 // and since
}

// share is how much of what this run has to play is played, 0 to 1. It goes by
// recorded time where that is the pace, or where only a time says what the end
// is, and by the number of the record otherwise, also where clocks were set back.
// What a limit makes of it is exact.
func (p course) share() float64 {
	share := 1.0
	switch end := p.end(); {
	case p.at.seq >= p.last.seq:
	case (p.speed > 0 || p.until != 0) && p.first.time <= p.at.time && p.at.time <= end && p.first.time < end:
		share = float64(p.at.time-p.first.time) / float64(end-p.first.time)
	case p.at.seq >= p.first.seq:
		share = float64(p.at.seq-p.first.seq) / float64(p.last.seq-p.first.seq)
	}
	return max(share, p.limited())
}

// limited is how much of the limit that was left to this run is played.
func (p course) limited() float64 {
	if p.limit <= p.before {
		return 0
	}
	return min(1, float64(p.played)/float64(p.limit-p.before))
}

// percent is how much of the pass is played. If there were earlier runs, it takes
// what is left to be as dense as what this run has played.
func (p course) percent() string {
	share := p.share()
	if p.before > 0 && share > 0 {
		share = float64(p.before+p.played) / (float64(p.before) + float64(p.played)/share)
	}
	if p.before > 0 && p.played == 0 { // which says nothing of what is left
		return ""
	}
	return fmt.Sprintf("  %.0f %%", 100*share)
}

// left is for how long it goes on: by the pace as long as it is kept, else in the
// proportion of what is left to what took elapsed. ok = false: it cannot be told.
func (p course) left(elapsed time.Duration) (d time.Duration, ok bool) {
	by := func(share float64) time.Duration { return time.Duration(float64(elapsed) * (1 - share) / share) }
	share, limited := p.share(), p.limited()
	if share >= 1 {
		return 0, true
	}
	const late = time.Second
	if p.speed > 0 && p.at.time <= p.end() && elapsed-p.paced(p.at.time-p.first.time) < late {
		d = p.paced(p.end() - p.at.time)
		if limited > 0 {
			d = min(d, by(limited))
		}
		return d, true
	}
	if share <= 0 {
		return 0, false
	}
	return by(share), true
}

// paced is how long a recorded time takes.
func (p course) paced(recorded int64) time.Duration {
	return time.Duration(float64(max(0, recorded)) / p.speed)
}

// countdown is what was left when the last record was sent: in a silence of the
// recording it becomes less all the same.
type countdown struct {
	at   mqttetl.Seq
	left time.Duration
	ok   bool
	when time.Duration // of the time in which was played
}

// text is the rest of the line, "" if nothing can be told.
func (c *countdown) text(p course, elapsed time.Duration) string {
	if c.at != p.at.seq {
		c.at, c.when = p.at.seq, elapsed
		c.left, c.ok = p.left(elapsed)
	}
	if !c.ok {
		return ""
	}
	return "  ETA " + max(0, c.left-(elapsed-c.when)).Round(time.Second).String()
}

// beginning is a Source that notes the first record after found.
type beginning struct {
	replay.Source
	found mqttetl.Seq
	note  *atomic.Pointer[point]
	noted bool
}

func (b *beginning) Next(ctx context.Context) ([]mqttetl.Record, error) {
	recs, err := b.Source.Next(ctx)
	for i := 0; i < len(recs) && !b.noted; i++ {
		if recs[i].Seq > b.found {
			b.note.Store(&point{recs[i].Seq, recs[i].Time})
			b.noted = true
		}
	}
	return recs, err
}

// course is how far the replay has come in this pass; ok = false: nothing of
// it has been sent yet.
func (r *replayRun) course(a replay.Account) (p course, ok bool) {
	first := r.first.Load()
	if a.At == 0 || first == nil {
		return p, false
	}
	p = course{bounds: r.bounds, first: *first, at: point{a.At, a.Time}}
	if a.Passes == 0 {
		p.before = a.Before + a.Already
	}
	played := r.player.Position().Played
	p.played = played - min(played, p.before)
	return p, true
}

// text is the line of the progress. Pauses take no time in it.
func (r *replayRun) text(time.Duration) string {
	a := r.player.Account()
	elapsed, paused := r.player.Elapsed()
	p, begun := r.course(a)
	text := fmt.Sprintf("%d messages", a.Confirmed)
	if begun {
		text += p.percent()
	}
	text += fmt.Sprintf("  %.0f/s", rate(a.Confirmed, elapsed))
	if paused {
		text = "paused, space continues  " + text
	}
	if !begun {
		return text
	}
	text += "  playing " + time.Unix(0, a.Time).Format("2006-01-02 15:04:05")
	if r.cfg.Loop {
		return text + fmt.Sprintf("  pass %d", r.player.Position().Pass+1)
	}
	return text + r.countdown.text(p, elapsed)
}
