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

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("", 2*3600)
	now := time.Date(2026, 3, 10, 15, 30, 0, 0, zone)
	for text, want := range map[string]time.Time{
		"2h": now.Add(-2 * time.Hour), "90s": now.Add(-90 * time.Second), "7d": now.AddDate(0, 0, -7), "now": now,
		"today": time.Date(2026, 3, 10, 0, 0, 0, 0, zone), "yesterday": time.Date(2026, 3, 9, 0, 0, 0, 0, zone),
		"2026-01-02": time.Date(2026, 1, 2, 0, 0, 0, 0, zone), "2026-01-02 03:04": time.Date(2026, 1, 2, 3, 4, 0, 0, zone),
		"2026-01-02T03:04:05.5Z": time.Date(2026, 1, 2, 3, 4, 5, 5e8, time.UTC), "2026-01-02T03:04:05": time.Date(2026, 1, 2, 3, 4, 5, 0, zone), "": {},
	} {
		if got, err := ParseTime(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"tomorrow", "2h ago", "-2h", "25:00", "2026-13-01", "xd"} {
		if got, err := ParseTime(text, now); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestParseRange(t *testing.T) {
	for text, want := range map[string][2]Seq{"": {}, "7": {7, 7}, "100..200": {100, 200}, "100..": {100, 0}, "..200": {0, 200}, "5..5": {5, 5}} {
		if from, to, err := ParseRange(text); err != nil || from != want[0] || to != want[1] {
			t.Errorf("%q: %d, %d, %v, want %d", text, from, to, err, want)
		}
	}
	for _, text := range []string{"..", "0", "0..5", "5..0", "9..3", "a..b", "-1", "1...2", "9223372036854775808"} {
		if from, to, err := ParseRange(text); err == nil {
			t.Errorf("%q is %d to %d", text, from, to)
		}
	}
}
