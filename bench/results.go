package main

import (
	"math"

	"github.com/mqttetl/mqttetl/bench/instrument"
)

// A spread is what several rounds have shown of one quantity; its median is NaN if
// there was none.
type spread struct{ instrument.Spread }

func spreadOf(values []float64) spread {
	s := instrument.SpreadOf(values)
	if s.N == 0 {
		s.Median, s.Low, s.High = math.NaN(), math.NaN(), math.NaN()
	}
	return spread{s}
}

// A subject is what is measured: a stage, or what it is compared with.
type subject string

const (
	nullSubscriber  subject = "null subscriber"
	writeAndSync    subject = "write and sync"
	barePublisher   subject = "bare JetStream publisher"
	nullAtBroker    subject = "null subscriber behind Mosquitto"
	archiveAtBroker subject = "log + archive behind Mosquitto"
	allAtBroker     subject = "all behind Mosquitto"
	draining        subject = "draining a backlog"
	starting        subject = "start with a large log"
)

// A point is a subject under given conditions.
type point struct {
	subject subject
	shape   shape
	rate    int // messages a second in open loop; 0: as fast as possible
}

// Results are all measurements, by point, one a round: the same index is the
// same round.
type results map[point][]measurement

func (r results) add(p point, m measurement) { r[p] = append(r[p], m) }

// of is the spread of one quantity at a point.
func (r results) of(p point, quantity func(*measurement) float64) spread {
	var values []float64
	for i := range r[p] {
		values = append(values, quantity(&r[p][i]))
	}
	return spreadOf(values)
}

// ratio is the spread of a quantity at p as a multiple of that at base in the
// same round.
func (r results) ratio(p, base point, quantity func(*measurement) float64) spread {
	return r.pairs(p, base, func(m, other *measurement) float64 { return quantity(m) / quantity(other) })
}

// pairs is the spread of what f makes of both points' measurements of a round.
func (r results) pairs(p, q point, f func(a, b *measurement) float64) spread {
	var values []float64
	for i := range min(len(r[p]), len(r[q])) {
		values = append(values, f(&r[p][i], &r[q][i]))
	}
	return spreadOf(values)
}

// Quantities.
func rate(m *measurement) float64  { return m.Rate }
func acked(m *measurement) float64 { return m.Acked }
func cpu(m *measurement) float64   { return m.CPU }
