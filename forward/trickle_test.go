package forward

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqttetl/mqttetl"
)

// TestTrickle: what is waited for a moment behind it, and that a backlog never
// is, however few of its records come at a time.
func TestTrickle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the clock stands still
		for _, c := range []struct {
			records int
			age     time.Duration
			want    bool
		}{
			{15, 0, false}, {16, 0, true}, {255, 0, true}, {256, 0, false},
			{255, 4 * time.Millisecond, true}, {255, 5 * time.Millisecond, false}, {16, time.Hour, false},
		} {
			records := make([]mqttetl.Record, c.records)
			for i := range records {
				records[i].Time = time.Now().Add(-c.age).UnixNano()
			}
			if got := trickles(records); got != c.want {
				t.Errorf("%d records, the last %v old: %v", c.records, c.age, got)
			}
		}
	})
}
