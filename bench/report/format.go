package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl/bench/compare"
)

// none stands where nothing was measured.
const none = "–"

// grouped is a whole number with commas at the thousands.
func grouped(v float64) string {
	digits := strconv.FormatFloat(math.Round(v), 'f', -1, 64)
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

// significant rounds to n significant digits.
func significant(v float64, n int) float64 {
	if v == 0 || math.IsNaN(v) || math.IsInf(v, 0) {
		return v
	}
	scale := math.Pow(10, float64(n-1)-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

// rateText is messages a second with three digits that mean something.
func rateText(v float64) string {
	if v > 0 && v < 100 {
		return strconv.FormatFloat(significant(v, 3), 'f', -1, 64)
	}
	return grouped(significant(v, 3))
}

// spread is the median, and the range of the rounds where there are several.
func spread(s compare.Spread, text func(float64) string) (median, between string) {
	switch {
	case s.N == 0:
		return none, ""
	case s.N == 1:
		return text(s.Median), ""
	}
	return text(s.Median), text(s.Low) + "–" + text(s.High)
}

// took is a time in nanoseconds in the unit that suits it.
func took(ns float64) string {
	for _, u := range []struct {
		name string
		ns   float64
	}{{"s", 1e9}, {"ms", 1e6}, {"µs", 1e3}} {
		if math.Abs(ns) >= u.ns*0.9995 {
			return fmt.Sprintf("%s %s", strconv.FormatFloat(significant(ns/u.ns, 3), 'f', -1, 64), u.name)
		}
	}
	return fmt.Sprintf("%.0f ns", ns)
}

// quantile is a latency of q, none if there are no latencies.
func quantile(q compare.Quantiles, d time.Duration) string {
	if q.Count == 0 {
		return none
	}
	return took(float64(d))
}

// small is a cost a message: µs, bytes, allocations.
func small(v float64) string {
	if math.Abs(v) >= 100 {
		return grouped(v)
	}
	return strconv.FormatFloat(math.Round(v*100)/100, 'f', -1, 64)
}

// bytesText is a size of memory.
func bytesText(n int64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%.0f MiB", float64(n)/(1<<20))
}
