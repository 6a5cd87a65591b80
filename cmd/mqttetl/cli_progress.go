package main

import (
	"fmt"
	"io"
	"time"

	"github.com/mqttetl/mqttetl/internal/visible"
)

// progressLine is one line on a terminal that tells how far a long command has
// come. Where there is no terminal, or nobody wants it, it writes nothing.
type progressLine struct {
	w     io.Writer
	on    bool
	began time.Time
	drawn time.Time
}

// progressEvery is how often the line is drawn.
const progressEvery = 200 * time.Millisecond

func newProgressLine(w io.Writer, off bool) *progressLine {
	return &progressLine{w: bare(w), on: !off && isTerminal(w), began: time.Now()}
}

// show draws the line that text makes, if it is time to.
func (p *progressLine) show(text func(elapsed time.Duration) string) {
	now := time.Now()
	if !p.on || now.Sub(p.drawn) < progressEvery {
		return
	}
	p.drawn = now
	fmt.Fprint(p.w, "\r\x1b[K"+visible.Line(text(now.Sub(p.began))))
}

// clear takes the line away, for what is printed next.
func (p *progressLine) clear() {
	if p.on && !p.drawn.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// rate is n in elapsed, a second.
func rate(n uint64, elapsed time.Duration) float64 {
	if elapsed <= 0 {
		return 0
	}
	return float64(n) / elapsed.Seconds()
}

// every draws the line again and again until stop is called, which takes it away.
func (p *progressLine) every(text func(elapsed time.Duration) string) (stop func()) {
	if !p.on {
		return func() {}
	}
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.show(text)
			case <-end:
				return
			}
		}
	}()
	return func() {
		close(end)
		<-ended
		p.clear()
	}
}
