package importer

import (
	"fmt"
	"math"
	"time"
)

// clock turns times that name no zone into instants. Where the clocks of the
// zone were put back, one reading of them stands for two instants, and the order
// of the lines says which: the first, until the times go back, and then the second;
// the other way round in a file that begins with the last.
type clock struct {
	zone *time.Location // nil: UTC
	last int64          // the instant of the last such time; 0: none yet
	// trend counts the times that were later than the one before, less those that
	// were earlier, within bounds: a file may begin with the last.
	trend int
	// offset is that of the zone for readings from begin to end, in nanoseconds,
	// where it does not change within two days around.
	offset, begin, end int64
}

const (
	day = int64(24 * time.Hour)
	// jitter is how much earlier than the line before it a line may be without the
	// clocks having been put back.
	jitter = int64(time.Minute)
)

// instant is the time at which the clocks show what those of UTC show at ns.
// twice says that there are two such times.
func (c *clock) instant(ns int64) (at int64, twice bool, err error) {
	if c.zone == nil || c.zone == time.UTC {
		return ns, false, nil
	}
	if ns < c.begin || ns >= c.end {
		first, second := ns-c.offsetAt(ns-day), ns-c.offsetAt(ns+day)
		shows := func(at int64) bool { return at+c.offsetAt(at) == ns }
		switch {
		case first == second && shows(first):
			c.remember(first)
		case shows(first) && shows(second):
			return c.step(c.choose(first, second)), true, nil
		case shows(second):
			return c.step(second), false, nil
		case shows(first):
			return c.step(first), false, nil
		default:
			return 0, false, fmt.Errorf("time %s: the clocks of %s were put forward, and never showed it; --timezone names another zone",
				time.Unix(0, ns).UTC().Format("2006-01-02 15:04:05"), c.zone)
		}
	}
	return c.step(ns - c.offset), false, nil
}

// falling is the trend at which a file is one that begins with the last.
const falling = -2

// choose is the one of two instants that fits the order of the lines: the first
// until the times go back or, in a file that begins with the last, the second
// until they go forward.
func (c *clock) choose(first, second int64) int64 {
	_, end := time.Unix(0, first).In(c.zone).ZoneBounds()
	back := end.UnixNano()
	switch {
	case c.last == 0:
		return first
	case c.trend <= falling && (c.last < back || second > c.last+jitter):
		return first
	case c.trend <= falling, c.last >= back, first < c.last-jitter:
		return second
	}
	return first
}

// step keeps an instant as the last.
func (c *clock) step(at int64) int64 {
	if c.last != 0 {
		if at > c.last+jitter {
			c.trend = min(c.trend+1, -4*falling)
		} else if at < c.last-jitter {
			c.trend = max(c.trend-1, 4*falling)
		}
	}
	c.last = at
	return at
}

// remember keeps the offset at an instant for the readings for which it is right.
func (c *clock) remember(at int64) {
	c.offset = c.offsetAt(at)
	c.begin, c.end = math.MinInt64, math.MaxInt64
	begin, end := time.Unix(0, at).In(c.zone).ZoneBounds()
	if inYears(begin.Year()) {
		c.begin = begin.UnixNano() + c.offset + 2*day
	}
	if inYears(end.Year()) {
		c.end = end.UnixNano() + c.offset - 2*day
	}
}

func (c *clock) offsetAt(ns int64) int64 {
	_, seconds := time.Unix(0, ns).In(c.zone).Zone()
	return int64(seconds) * int64(time.Second)
}
