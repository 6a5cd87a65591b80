package importer

import (
	"fmt"
	"math"
	"time"
)

// clock turns times that name no zone into instants. Where the clocks of the
// zone were put back, one reading of them stands for two instants, and the order
// of the lines says which: the first, until the times go back, and then the second.
type clock struct {
	zone *time.Location // nil: UTC
	last int64          // the instant of the last such time; 0: none yet
	// offset is that of the zone for readings from begin to end, in nanoseconds,
	// where it does not change within two days around.
	offset, begin, end int64
}

const (
	day = int64(24 * time.Hour)
	// jitter is how far a line may be behind the one before it without the clocks
	// having been put back.
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
			at = first
			_, back := time.Unix(0, first).In(c.zone).ZoneBounds()
			if c.last != 0 && (c.last >= back.UnixNano() || first < c.last-jitter) {
				at = second
			}
			c.last = at
			return at, true, nil
		case shows(second):
			c.last = second
			return second, false, nil
		case shows(first):
			c.last = first
			return first, false, nil
		default:
			return 0, false, fmt.Errorf("time %s: the clocks of %s were put forward, and never showed it; --timezone names another zone",
				time.Unix(0, ns).UTC().Format("2006-01-02 15:04:05"), c.zone)
		}
	}
	c.last = ns - c.offset
	return c.last, false, nil
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
