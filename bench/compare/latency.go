package compare

import (
	"sync"

	"github.com/mqttetl/mqttetl/bench/instrument"
)

// recorder is a histogram of latencies for several goroutines.
type recorder struct {
	mu sync.Mutex
	h  instrument.Latencies
}

func newRecorder() *recorder { return &recorder{h: instrument.NewLatencies()} }

func (r *recorder) record(d int64) {
	r.mu.Lock()
	r.h.Record(d)
	r.mu.Unlock()
}

// recorders are a few, so that many clients neither need much memory nor wait
// for one another.
type recorders [8]*recorder

func newRecorders(clients int) *recorders {
	r := new(recorders)
	for i := range r {
		if i < clients {
			r[i] = newRecorder()
		} else {
			r[i] = r[i%clients]
		}
	}
	return r
}

// of is the recorder of a client.
func (r *recorders) of(client int) *recorder { return r[client%len(r)] }

// merged is all of them in one histogram.
func (r *recorders) merged() instrument.Latencies {
	all := newRecorder().h
	for i, v := range r {
		if i > 0 && v == r[0] { // shared, from here on
			break
		}
		v.mu.Lock()
		all.Merge(v.h.Histogram)
		v.mu.Unlock()
	}
	return all
}

// curveOf is the distribution at the percentiles that an HDR plot shows: the
// distance to 100 % halves in ten steps.
func curveOf(h instrument.Latencies, open bool) Curve {
	c := Curve{Quantiles: h.Quantiles(open), Points: []Point{}}
	if c.Count == 0 {
		return c
	}
	const steps = 10
	for rest, step := 100.0, 0; rest*float64(c.Count) >= 100; step++ {
		percentile := 100 - rest + rest/2*float64(step%steps)/steps
		c.Points = append(c.Points, Point{percentile, h.ValueAtQuantile(percentile)})
		if step%steps == steps-1 {
			rest /= 2
		}
	}
	c.Points = append(c.Points, Point{100, h.Max()})
	return c
}
