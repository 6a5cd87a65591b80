package transform

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// The bounds of a time that is believed. Clocks that nobody has set show 1970,
// 1980 (GPS), 2000 (the usual chip), or what is in a memory without power.
// Forecasts are for less than a year.
const (
	DefaultNotBefore = "2001-01-01"
	DefaultNotAfter  = "365d"
	anyTime          = "any"

	// ours is the least receipt of a machine whose own clock is set: without, it
	// says nothing about the device's.
	ours = 978_307_200_000_000_000 // DefaultNotBefore
)

// unsetError is a time that no clock which is set shows.
type unsetError string

func (e unsetError) Error() string { return string(e) }

// bounds reads NotBefore and NotAfter.
func (c *clock) bounds(t Time) (problems []Problem) {
	before, after := t.NotBefore, t.NotAfter
	if before == "" {
		before = DefaultNotBefore
	}
	if after == "" {
		after = DefaultNotAfter
	}
	var ok bool
	if c.notBefore, ok = parseBefore(before); !ok {
		problems = append(problems, Problem{"time.not_before", 0, fmt.Sprintf("must be a date such as 2001-01-01, a time with its zone, or any, not %q", before)})
	}
	if c.notAfter, ok = parseAfter(after); !ok {
		problems = append(problems, Problem{"time.not_after", 0, fmt.Sprintf("must be a duration after the receipt such as 24h or 365d, or any, not %q", after)})
	}
	return problems
}

func parseBefore(s string) (int64, bool) {
	if s == anyTime {
		return math.MinInt64, true
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			at, err := inRange(t, s)
			return at, err == nil
		}
	}
	return 0, false
}

func parseAfter(s string) (time.Duration, bool) {
	if s == anyTime {
		return -1, true
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		return time.Duration(n) * 24 * time.Hour, err == nil
	}
	d, err := time.ParseDuration(s)
	return d, err == nil && d >= 0
}

// zeros says whether a text has the form of a time and no digit but 0, as
// 0000-00-00T00:00:00.
func zeros(s string) bool {
	return strings.ContainsAny(s, "-:/") && strings.ContainsRune(s, '0') && strings.Trim(s, "0-:/. TZ+") == ""
}

// believe takes a time for none if it is that of a clock which is not set.
func (j *job) believe(at int64, null bool, err error) (int64, bool, error) {
	c := &j.w.clock
	switch {
	case err != nil:
		if !errors.As(err, new(unsetError)) {
			return at, null, err
		}
	case null:
		return at, null, nil
	case at < c.notBefore:
		err = fmt.Errorf("time %s is before time.not_before, %s", showTime(at), showTime(c.notBefore))
	case c.notAfter >= 0 && j.rec.Time >= ours && at > j.rec.Time && distance(at, j.rec.Time) > uint64(c.notAfter):
		err = fmt.Errorf("time %s is more than time.not_after, %v, after the receipt", showTime(at), c.notAfter)
	default:
		return at, null, nil
	}
	if j.w.Time.Fallback == FallbackNone {
		return at, null, err
	}
	j.note(UnsetTime, err.Error())
	return 0, true, nil
}

func showTime(at int64) string { return time.Unix(0, at).UTC().Format(time.RFC3339) }
