package instrument

import (
	"math"
	"slices"
)

// Spread is a median over the rounds with the lowest and the highest.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	N      int     `json:"n"` // rounds; 0: not measured
}

// SpreadOf ignores rounds in which there was no value (NaN).
func SpreadOf(values []float64) Spread {
	v := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	if len(v) == 0 {
		return Spread{}
	}
	slices.Sort(v)
	return Spread{(v[(len(v)-1)/2] + v[len(v)/2]) / 2, v[0], v[len(v)-1], len(v)}
}

// PerSecond is the rate of n in a time.
func PerSecond[N int | uint64](n N, in int64) float64 {
	if in <= 0 {
		return 0
	}
	return float64(n) / (float64(in) / 1e9)
}
