package transform

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // where the machine has none

	"github.com/itchyny/timefmt-go"
)

// clock reads the times of a route.
type clock struct {
	format    string
	location  *time.Location
	notBefore int64         // no earlier time is believed
	notAfter  time.Duration // after the receipt; no later time is believed; negative: any is
}

// formats of times that have a name, and what a number of them counts.
var units = map[string]time.Duration{
	"unix": time.Second, "unix_ms": time.Millisecond, "unix_us": time.Microsecond, "unix_ns": time.Nanosecond,
}

// newClock returns a problem with the key of the wrong value.
func newClock(t Time) (c clock, problems []Problem) {
	c.format, c.location = t.Format, time.UTC
	if c.format == "" {
		c.format = "auto"
	}
	if !c.known() {
		problems = append(problems, Problem{"time.format", 0, fmt.Sprintf(
			"%q is no time format: auto, rfc3339, unix, unix_ms, unix_us, unix_ns, or a layout such as 2006-01-02 15:04:05 or %%Y-%%m-%%d %%H:%%M:%%S", c.format)})
	}
	if t.Timezone != "" {
		loc, err := time.LoadLocation(t.Timezone)
		if err != nil || t.Timezone == "Local" {
			problems = append(problems, Problem{"time.timezone", 0, fmt.Sprintf("%q is no time zone such as UTC or Europe/Berlin", t.Timezone)})
		} else {
			c.location = loc
		}
	}
	switch t.Fallback {
	case "", FallbackReceived, FallbackNone:
	default:
		problems = append(problems, Problem{"time.fallback", 0, fmt.Sprintf("must be one of received, none, not %q", t.Fallback)})
	}
	return c, append(problems, c.bounds(t)...)
}

func (c *clock) known() bool {
	_, unit := units[c.format]
	layout := strings.ContainsAny(c.format, "%") ||
		time.Date(1987, 11, 23, 17, 38, 49, 0, time.UTC).Format(c.format) != time.Unix(0, 0).UTC().Format(c.format)
	return unit || c.format == "auto" || c.format == "rfc3339" || layout
}

// errForm is a time in a form that the format does not name.
func (c *clock) errForm(what string) error {
	if len(what) > 60 {
		what = what[:60] + "…"
	}
	return fmt.Errorf("%q is no time of the format %s", what, c.format)
}

// number reads a number: what it counts is what the format says, or with auto
// what makes it a time of our days.
func (c *clock) number(whole int64, isWhole bool, f float64) (int64, error) {
	text := func() string {
		if isWhole {
			return strconv.FormatInt(whole, 10)
		}
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	unit, ok := units[c.format]
	if c.format == "auto" {
		ok = true
		switch abs := math.Abs(f); {
		case abs < 1e11:
			unit = time.Second
		case abs < 1e14:
			unit = time.Millisecond
		case abs < 1e17:
			unit = time.Microsecond
		default:
			unit = time.Nanosecond
		}
	}
	if !ok {
		return 0, c.errForm(text())
	}
	if limit := float64(math.MaxInt64) / float64(unit); !(math.Abs(f) < limit) {
		return 0, unsetError(fmt.Sprintf("time %s is beyond the years 1678 to 2261", text()))
	}
	if isWhole {
		return whole * int64(unit), nil
	}
	// The shortest decimal is what the sender wrote: 1767642776.53 has no
	// nanoseconds, although the float64 next to it has some.
	_, digits, _ := strings.Cut(strconv.FormatFloat(f, 'f', -1, 64), ".")
	fraction, _ := strconv.ParseFloat("0."+digits, 64) // digits are digits
	return int64(f)*int64(unit) + int64(math.Round(math.Copysign(fraction, f)*float64(unit))), nil
}

// local forms of auto, behind the receipt of RFC 3339.
var localForms = []string{
	"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02",
}

// zonedForms of auto.
var zonedForms = []string{
	time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05Z0700", "2006-01-02 15:04:05 Z0700", "2006-01-02T15:04Z07:00",
}

// text reads a time as text. received decides between the two moments that a
// local time can mean when clocks go back.
func (c *clock) text(s string, received int64) (int64, error) {
	if zeros(s) {
		return 0, unsetError(fmt.Sprintf("time %q is all zeros", s))
	}
	if _, ok := units[c.format]; ok {
		return c.digits(s)
	}
	switch {
	case c.format == "rfc3339":
		return c.parse(s, zonedForms[:2], nil, received)
	case c.format == "auto":
		if v, err := c.parse(s, zonedForms, localForms, received); err != errNoForm {
			return v, err
		}
		return c.digits(s)
	case strings.ContainsRune(c.format, '%'):
		return c.strftime(s, received)
	}
	if zoned(c.format) {
		return c.parse(s, []string{c.format}, nil, received)
	}
	return c.parse(s, nil, []string{c.format}, received)
}

// zoned says whether a layout of Go has a zone with an offset.
func zoned(layout string) bool {
	return strings.Contains(layout, "Z07") || strings.Contains(layout, "-07")
}

func (c *clock) digits(s string) (int64, error) {
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return c.number(n, true, float64(n))
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) {
		return 0, c.errForm(s)
	}
	return c.number(0, false, f)
}

// errNoForm: none of the forms fits; it may be another.
var errNoForm = fmt.Errorf("no form fits")

func (c *clock) parse(s string, zoned, local []string, received int64) (int64, error) {
	for _, layout := range zoned {
		if t, err := time.Parse(layout, s); err == nil {
			return inRange(t, s)
		}
	}
	for _, layout := range local {
		if t, err := time.Parse(layout, s); err == nil {
			return c.local(t, s, received)
		}
	}
	if c.format == "auto" {
		return 0, errNoForm
	}
	return 0, c.errForm(s)
}

func (c *clock) strftime(s string, received int64) (int64, error) {
	t, err := timefmt.Parse(s, c.format)
	if err != nil {
		return 0, c.errForm(s)
	}
	if strings.Contains(c.format, "%z") || strings.Contains(c.format, "%s") || strings.Contains(c.format, "%+") {
		return inRange(t, s)
	}
	return c.local(t, s, received)
}

func inRange(t time.Time, s string) (int64, error) {
	if y := t.Year(); y < 1678 || y > 2261 {
		return 0, unsetError(fmt.Sprintf("time %q is beyond the years 1678 to 2261", s))
	}
	return t.UnixNano(), nil
}

// local takes the clock's face of t, which was read as if in UTC, for the time
// in the route's zone.
func (c *clock) local(t time.Time, s string, received int64) (int64, error) {
	face, err := inRange(t, s)
	if err != nil || c.location == time.UTC {
		return face, err
	}
	// The offsets a day before and after are all that can hold at that moment.
	best, found := int64(0), false
	for _, day := range []time.Duration{-24 * time.Hour, 24 * time.Hour} {
		_, offset := t.Add(day).In(c.location).Zone()
		at := face - int64(offset)*int64(time.Second)
		if _, is := time.Unix(0, at).In(c.location).Zone(); is != offset {
			continue
		}
		if !found || distance(at, received) < distance(best, received) {
			best, found = at, true
		}
	}
	if !found {
		return 0, fmt.Errorf("time %q does not exist in %s: the clocks go forward over it", s, c.location)
	}
	return best, nil
}

func distance(a, b int64) uint64 {
	if a < b {
		a, b = b, a
	}
	return uint64(a) - uint64(b)
}
