package mqttetl

import (
	"math"
	"testing"
	"time"
)

// Times that no record can have bound a selection as those do that one can have.
func TestSpanOfFarTimes(t *testing.T) {
	at := func(text string) (when time.Time) {
		if text == "" {
			return when
		}
		when, err := time.Parse(time.DateOnly, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	for _, c := range []struct {
		since, until string
		meant        bool // a record of now
	}{
		{"", "", true}, {"2025-01-01", "2027-01-01", true}, {"2026-06-01", "", false}, {"", "2025-06-01", false},
		{"1500-01-01", "9999-12-31", true}, {"1677-01-01", "2262-12-31", true},
		{"2262-12-31", "", false}, {"9999-12-31", "", false}, {"", "1677-01-01", false}, {"", "0001-02-01", false}, {"2262-12-31", "9999-12-31", false},
	} {
		s := Selection{Since: at(c.since), Until: at(c.until)}
		if s.Matches(&Record{Time: now}) != c.meant {
			t.Errorf("from %s to %s: meant %v, want %v", c.since, c.until, !c.meant, c.meant)
		}
	}
	if first, last := (&Selection{}).Span(); first != math.MinInt64 || last != math.MaxInt64 {
		t.Errorf("an open selection is %d to %d", first, last)
	}
}
