// Package histogram estimates quantiles of Prometheus histograms.
package histogram

import (
	"math"

	dto "github.com/prometheus/client_model/go"
)

// Buckets are those of a histogram, in their order; the last one has no bound.
type Buckets []Bucket

// Bucket is how many observations were at most UpTo.
type Bucket struct {
	UpTo  float64
	Count uint64
}

// Of is the histogram of that family, none if there is no observation.
func Of(f *dto.MetricFamily) (buckets Buckets) {
	if len(f.GetMetric()) == 0 {
		return nil
	}
	h := f.GetMetric()[0].GetHistogram()
	for _, b := range h.GetBucket() {
		if !math.IsInf(b.GetUpperBound(), 1) {
			buckets = append(buckets, Bucket{b.GetUpperBound(), b.GetCumulativeCount()})
		}
	}
	return append(buckets, Bucket{math.Inf(1), h.GetSampleCount()})
}

// Since subtracts an earlier reading of the same histogram.
func (b Buckets) Since(before Buckets) Buckets {
	if len(b) != len(before) {
		return b
	}
	diff := make(Buckets, len(b))
	for i := range b {
		diff[i] = Bucket{b[i].UpTo, b[i].Count - before[i].Count}
	}
	return diff
}

// Quantile estimates a quantile as Prometheus does, linear within a bucket; NaN
// without observations.
func (b Buckets) Quantile(q float64) float64 {
	if len(b) == 0 || b[len(b)-1].Count == 0 {
		return math.NaN()
	}
	rank := q * float64(b[len(b)-1].Count)
	low := Bucket{}
	for _, at := range b {
		if float64(at.Count) < rank {
			low = at
			continue
		}
		if math.IsInf(at.UpTo, 1) {
			return low.UpTo
		}
		return low.UpTo + (at.UpTo-low.UpTo)*(rank-float64(low.Count))/float64(at.Count-low.Count)
	}
	return low.UpTo
}
