package main

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSpreadOfNothing(t *testing.T) {
	if v := spreadOf(nil).Median; !math.IsNaN(v) {
		t.Errorf("median of nothing is %v", v)
	}
}

// TestRatio: ratios are within a round, not of medians.
func TestRatio(t *testing.T) {
	r := results{}
	for _, v := range []float64{10, 20, 40} {
		r.add(nullPoint, measurement{Rate: v})
		r.add(logPoint, measurement{Rate: v / 2})
	}
	if got := r.ratio(logPoint, nullPoint, rate); got != (spreadOf([]float64{0.5, 0.5, 0.5})) {
		t.Errorf("ratio %+v", got)
	}
}

func TestVerdict(t *testing.T) {
	atMost, atLeast := target{atMost: true, bound: 2}, target{bound: 2}
	for _, c := range []struct {
		target target
		value  float64
		want   string
	}{
		{atMost, 2, "ok"}, {atMost, 3, "**missed** by 50 %"},
		{atLeast, 2, "ok"}, {atLeast, 1, "**missed** by 50 %"},
		{atLeast, math.NaN(), "not measured"},
	} {
		if got := c.target.verdict(c.value); got != c.want {
			t.Errorf("%v of %+v: %q instead of %q", c.value, c.target, got, c.want)
		}
	}
}

func TestRatesOf(t *testing.T) {
	begun := time.Now()
	var course []reach
	for i := range 21 {
		course = append(course, reach{begun.Add(time.Duration(i) * time.Second), i * 50})
	}
	rates := ratesOf(course, 1000)
	if len(rates) != tenths {
		t.Fatalf("%d rates: %v", len(rates), rates)
	}
	for _, v := range rates {
		if v != 50 {
			t.Errorf("rate %v instead of 50", v)
		}
	}
}

func TestThousands(t *testing.T) {
	for v, want := range map[float64]string{7: "7", 999: "999", 1234.5: "1,230", 379_310: "379,000", 1_465_855: "1,470,000", 999_900: "1,000,000"} {
		if got := thousands(v); got != want {
			t.Errorf("%v: %s instead of %s", v, got, want)
		}
	}
}

func TestPutTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "README.md")
	for _, c := range []struct{ before, after string }{
		{"a\n" + speedMarks.begin + speedMarks.end + "b\n", "a\n" + speedMarks.begin + "\nnew\n\n" + speedMarks.end + "b\n"},
		{"a\n" + speedMarks.begin + "old\n" + speedMarks.end + "b\n", "a\n" + speedMarks.begin + "\nnew\n\n" + speedMarks.end + "b\n"},
		{"a\n" + speedMarks.end + speedMarks.begin + "b\n", ""},
		{"a\n", ""},
	} {
		if err := os.WriteFile(path, []byte(c.before), 0o600); err != nil {
			t.Fatal(err)
		}
		err := putTable(path, speedMarks, "new\n")
		got, _ := os.ReadFile(path)
		if c.after == "" && (err == nil || string(got) != c.before) || c.after != "" && (err != nil || string(got) != c.after) {
			t.Errorf("%q: %q, %v", c.before, got, err)
		}
	}
}
