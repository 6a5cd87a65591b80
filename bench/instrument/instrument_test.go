package instrument

import (
	"math"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Spread
	}{
		{[]float64{3, 1, 2}, Spread{2, 1, 3, 3}},
		{[]float64{4, 1, 2, 3}, Spread{2.5, 1, 4, 4}},
		{[]float64{math.NaN(), 7}, Spread{7, 7, 7, 1}},
		{nil, Spread{}},
	} {
		if got := SpreadOf(c.values); got != c.want {
			t.Errorf("%v: %+v instead of %+v", c.values, got, c.want)
		}
	}
}

func TestQuantilesOfLatencies(t *testing.T) {
	l := NewLatencies()
	if got := l.Quantiles(true); got != (Quantiles{Open: true}) {
		t.Errorf("of none: %+v", got)
	}
	for i := range 1000 {
		l.Record(int64(i+1) * 1000)
	}
	l.Record(0)             // the shortest
	l.Record(math.MaxInt64) // the longest
	got := l.Quantiles(false)
	if got.Count != 1002 || got.Open || got.P50 < 499*time.Microsecond || got.P50 > 502*time.Microsecond || got.Max < 10*time.Minute {
		t.Errorf("%+v", got)
	}
}

func TestMetrics(t *testing.T) {
	page := func(counts ...string) Metrics {
		m, err := ParseMetrics([]byte("# TYPE n counter\nn 7\n# TYPE x histogram\nx_bucket{le=\"0.1\"} " + counts[0] + "\nx_bucket{le=\"0.2\"} " + counts[1] +
			"\nx_bucket{le=\"+Inf\"} " + counts[2] + "\nx_sum 5\nx_count " + counts[2] + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	before, after := page("100", "100", "100"), page("150", "200", "200")
	for _, c := range []struct{ q, want float64 }{{0.25, 0.05}, {0.5, 0.1}, {0.75, 0.15}, {1, 0.2}} {
		if got := after.Quantile(c.q, "x", before); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("quantile %v is %v instead of %v", c.q, got, c.want)
		}
	}
	if got := before.Quantile(0.5, "x", before); !math.IsNaN(got) {
		t.Errorf("quantile of nothing is %v", got)
	}
	if after.Value("n") != 7 || after.Value("x") != 200 || after.Value("none") != 0 {
		t.Errorf("values %v, %v, %v", after.Value("n"), after.Value("x"), after.Value("none"))
	}
}

func TestProcessTime(t *testing.T) {
	before, err := ProcessTime(0)
	if err != nil {
		t.Fatal(err)
	}
	for begun := time.Now(); time.Since(begun) < 20*time.Millisecond; {
		continue
	}
	if after, err := ProcessTime(0); err != nil || after <= before {
		t.Errorf("%v, then %v, %v", before, after, err)
	}
}
