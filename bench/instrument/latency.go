package instrument

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Bounds of the latencies that are recorded, in nanoseconds; one out of bounds
// counts as the bound.
const (
	shortest = int64(time.Microsecond)
	longest  = int64(10 * time.Minute)
)

// Latencies is a histogram of nanoseconds with three significant digits.
type Latencies struct{ *hdrhistogram.Histogram }

// NewLatencies has none.
func NewLatencies() Latencies { return Latencies{hdrhistogram.New(shortest, longest, 3)} }

// Record counts a latency in nanoseconds.
func (l Latencies) Record(d int64) {
	_ = l.RecordValue(min(max(d, shortest), longest)) // within bounds there is no error
}

// Quantiles of latencies. Count 0: there are none.
type Quantiles struct {
	P50   time.Duration `json:"p50_ns"`
	P90   time.Duration `json:"p90_ns"`
	P99   time.Duration `json:"p99_ns"`
	P999  time.Duration `json:"p999_ns"`
	Max   time.Duration `json:"max_ns"`
	Count int64         `json:"count"`
	// Open: from the intended send time of an open loop; else from the time at
	// which the message was really sent.
	Open bool `json:"open"`
}

// Quantiles are those that are reported.
func (l Latencies) Quantiles(open bool) Quantiles {
	if l.Histogram == nil || l.TotalCount() == 0 {
		return Quantiles{Open: open}
	}
	at := func(q float64) time.Duration { return time.Duration(l.ValueAtQuantile(q)) }
	return Quantiles{at(50), at(90), at(99), at(99.9), time.Duration(l.Max()), l.TotalCount(), open}
}
