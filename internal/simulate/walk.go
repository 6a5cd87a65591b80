package simulate

import (
	"math/rand/v2"
	"time"
)

// walk is a reading that moves as those of sensors do: by small steps, and the
// further it is from the middle of its range, the more likely back.
type walk struct {
	random          *rand.Rand
	value           float64
	low, high, step float64
}

func newWalk(r *rand.Rand, low, high, step float64) *walk {
	return &walk{random: r, low: low, high: high, step: step, value: low + (high-low)*(0.25+r.Float64()/2)}
}

// pull is which part of the way to the middle each step goes back.
const pull = 0.02

func (w *walk) next() float64 {
	w.value += w.random.NormFloat64()*w.step + pull*((w.low+w.high)/2-w.value)
	w.value = min(max(w.value, w.low), w.high)
	return w.value
}

// whole is next without its fraction.
func (w *walk) whole() int { return int(w.next()) }

// meter counts what flows, such as energy in kWh at a power in W.
type meter struct {
	total float64
	at    time.Time // of the last reading
}

// add lets power flow since the last reading and returns the total.
func (m *meter) add(power float64, now time.Time) float64 {
	if !m.at.IsZero() && now.After(m.at) {
		m.total += power / 1000 * now.Sub(m.at).Hours()
	}
	m.at = now
	return m.total
}

// toggle is something that is on or off, and changes now and then.
type toggle struct {
	random *rand.Rand
	on     bool
	chance float64 // of a change at each look
}

func (t *toggle) next() bool {
	if t.random.Float64() < t.chance {
		t.on = !t.on
	}
	return t.on
}
