package main

import (
	"errors"
	"fmt"
	"time"
)

// What the issue of speed is measured with.
var (
	payloads = []int{16, 128, 1024, 65536}
	windows  = []int{20, 900, 10000}
	stages   = []stage{logOnly, withArchive, withStream, everything}
)

// targetShape is the one that the targets speak of, and small the one of a
// broker at its defaults.
var (
	targetShape = shape{128, 10000}
	smallWindow = shape{128, 20}
)

// cost is a guess of what a message takes, in nanoseconds. It decides only how
// many messages a run has, so that each lasts about as long.
type cost struct{ each, perByte, smallWindow float64 }

var costs = map[subject]cost{
	nullSubscriber:            {60, 0.4, 1_100},
	writeAndSync:              {200, 2.5, 25_000},
	barePublisher:             {6_000, 8, 0},
	subject(logOnly.name):     {300, 3, 40_000},
	subject(withArchive.name): {1_500, 8, 40_000},
	subject(withStream.name):  {5_500, 8, 40_000},
	subject(everything.name):  {6_000, 16, 45_000},
}

// messagesIn is how many messages keep a subject busy for about d.
func messagesIn(d time.Duration, s subject, sh shape) int {
	c := costs[s]
	each := c.each + c.perByte*float64(sh.Payload+50)
	if sh.Window <= window311 {
		each = max(each, c.smallWindow)
	}
	const round = 1000
	return max(int(float64(d)/each)/round*round, round)
}

// Length of one run.
const (
	stageTime  = 700 * time.Millisecond
	targetTime = 2500 * time.Millisecond
)

// stagesAt measures every stage at one shape, one round, and before them what
// they are compared with.
func (b *bench) stagesAt(r results, s shape) error {
	d := stageTime
	if s == targetShape {
		d = targetTime
	}
	d = time.Duration(float64(d) * b.scale)
	measure := func(name subject, f func(shape, int) (measurement, error)) error {
		m, err := f(s, messagesIn(d, name, s))
		if err != nil {
			return fmt.Errorf("%s, %d bytes, window %d: %w", name, s.Payload, s.Window, err)
		}
		b.note(r, point{name, s, 0}, m)
		return nil
	}
	err := errors.Join(measure(nullSubscriber, b.measureNull), measure(writeAndSync, b.measureFloor))
	for _, st := range stages {
		if err != nil {
			return err
		}
		err = measure(subject(st.name), func(s shape, n int) (measurement, error) { return b.measure(st, s, n) })
	}
	if err == nil && s == targetShape {
		err = measure(barePublisher, b.measureBare)
	}
	return err
}

// note keeps a measurement and shows it.
func (b *bench) note(r results, p point, m measurement) {
	r.add(p, m)
	b.logf("%-33s %6d B  window %5d  %9.0f msg/s  %7.3f µs  %5.2f allocs", p.subject, p.shape.Payload, p.shape.Window, m.Rate, m.CPU*1e6, m.Allocs)
}
