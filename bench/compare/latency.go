package compare

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Bounds of what is recorded, in nanoseconds; what is out of bounds counts as
// the bound.
const (
	shortest = int64(time.Microsecond)
	longest  = int64(10 * time.Minute)
)

// recorder is a histogram of latencies, of three significant digits.
type recorder struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func newRecorder() *recorder { return &recorder{h: hdrhistogram.New(shortest, longest, 3)} }

func (r *recorder) record(d int64) {
	r.mu.Lock()
	_ = r.h.RecordValue(min(max(d, shortest), longest)) // within bounds there is no error
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
func (r *recorders) merged() *hdrhistogram.Histogram {
	all := newRecorder().h
	for i, v := range r {
		if i > 0 && v == r[0] { // shared, from here on
			break
		}
		v.mu.Lock()
		all.Merge(v.h)
		v.mu.Unlock()
	}
	return all
}

func quantilesOf(h *hdrhistogram.Histogram, open bool) Quantiles {
	if h == nil || h.TotalCount() == 0 {
		return Quantiles{Open: open}
	}
	return Quantiles{
		P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99),
		P999: h.ValueAtQuantile(99.9), Max: h.Max(), Count: h.TotalCount(), Open: open,
	}
}

// curveOf is the distribution at the percentiles that an HDR plot shows: the
// distance to 100 % halves in ten steps.
func curveOf(h *hdrhistogram.Histogram, open bool) Curve {
	c := Curve{Quantiles: quantilesOf(h, open), Points: []Point{}}
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
