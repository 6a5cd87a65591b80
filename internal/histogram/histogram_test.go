package histogram

import (
	"math"
	"testing"
)

func TestQuantile(t *testing.T) {
	h := Buckets{{1, 10}, {2, 90}, {4, 100}, {math.Inf(1), 100}}
	for q, want := range map[float64]float64{0.5: 1.5, 0.05: 0.5, 0.99: 3.8, 1: 4} {
		if got := h.Quantile(q); math.Abs(got-want) > 1e-9 {
			t.Errorf("p%v: %v, want %v", q*100, got, want)
		}
	}
	if got := (Buckets{{1, 0}, {math.Inf(1), 3}}).Quantile(0.5); got != 1 {
		t.Errorf("beyond the last bound: %v", got)
	}
	if !math.IsNaN(h.Since(h).Quantile(0.5)) || !math.IsNaN(Of(nil).Quantile(0.5)) {
		t.Error("a quantile of nothing")
	}
	if got := h.Since(Buckets{{1, 10}, {2, 10}, {4, 10}, {math.Inf(1), 10}}); got[1].Count != 80 || got[3].Count != 90 {
		t.Errorf("since: %v", got)
	}
}
