package mqttetl

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// TimeForms is what ParseTime reads, for people.
const TimeForms = "RFC 3339, 2006-01-02, '2006-01-02 15:04', 2h or 7d ago, today, yesterday, now"

// timeLayouts are read in the local zone where they name none.
var timeLayouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02",
}

// ParseTime reads a point in time as people write it, in one of TimeForms. Empty is
// the zero time.
func ParseTime(s string, now time.Time) (time.Time, error) {
	midnight := time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
	switch s {
	case "":
		return time.Time{}, nil
	case "now":
		return now, nil
	case "today":
		return midnight, nil
	case "yesterday":
		return midnight.AddDate(0, 0, -1), nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return now.AddDate(0, 0, -int(n)), nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time: must be %s", s, TimeForms)
}

// ParseRange reads numbers of records: a..b, a.., ..b or a. Empty is 0, 0.
func ParseRange(s string) (from, to Seq, err error) {
	if s == "" {
		return 0, 0, nil
	}
	low, high, isRange := strings.Cut(s, "..")
	if !isRange {
		high = low
	}
	for _, end := range []struct {
		text string
		seq  *Seq
	}{{low, &from}, {high, &to}} {
		if end.text == "" && isRange && s != ".." {
			continue
		}
		n, err := strconv.ParseUint(end.text, 10, 63)
		if err != nil || n == 0 {
			return 0, 0, fmt.Errorf("%q is no range of records: must be 100..200, 100.., ..200 or 100", s)
		}
		*end.seq = Seq(n)
	}
	if to != 0 && from > to {
		return 0, 0, fmt.Errorf("%q begins after its end", s)
	}
	return from, to, nil
}
