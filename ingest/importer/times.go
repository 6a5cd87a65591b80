package importer

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Times as recordings have them. A time without a zone is taken as UTC and marked
// as wall: see local.go.

// firstYear and lastYear are those that nanoseconds since 1970 can tell.
const firstYear, lastYear = 1678, 2261

// leastUnix is the least number of seconds that is taken for a time without
// being told so: 1973. A number below it counts from a start that no one knows.
const leastUnix = 1e8

// setTime reads the recorded time.
func (r *reader) setTime(e *entry, s string) (err error) {
	e.timed = true
	if r.times != nil {
		e.time, e.wall, err = r.times(s)
	} else {
		e.time, e.wall, err = parseTime(s)
	}
	return err
}

// parseTime reads RFC 3339 and its kin, what mosquitto_sub writes, or a Unix
// time in seconds, milli-, micro- or nanoseconds, told apart by their size.
func parseTime(s string) (ns int64, wall bool, err error) {
	if ns, wall, ok := isoTime(s); ok {
		return ns, wall, nil
	}
	if n, ok := number(s); ok {
		return unixTime(s, n)
	}
	for _, layout := range []string{time.RFC1123Z, "Mon, 02 Jan 2006 15:04:05 GMT"} { // of HTTP and mail
		if t, err := time.Parse(layout, s); err == nil && inYears(t.Year()) {
			return t.UnixNano(), false, nil
		}
	}
	return 0, false, fmt.Errorf("%.100q is no time that is known; --time-format says how it is written", s)
}

func inYears(year int) bool { return year >= firstYear && year <= lastYear }

// digitsOf reads n digits.
func digitsOf(s string, n int) (v int, ok bool) {
	if len(s) < n {
		return 0, false
	}
	for i := range n {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		v = v*10 + int(c)
	}
	return v, true
}

// isoTime reads year-month-day, a T or a blank, and hours:minutes[:seconds], with a
// fraction after a point or comma (or a colon, as MQTTX has it), then a zone.
func isoTime(s string) (ns int64, wall, ok bool) {
	if ns, ok := compactTime(s); ok {
		return ns, true, true
	}
	if len(s) < 16 || s[4] != '-' && s[4] != '/' || s[7] != s[4] || s[10] != 'T' && s[10] != ' ' && s[10] != 't' || s[13] != ':' {
		return 0, false, false
	}
	var n [6]int
	for i, at := range [5]int{0, 5, 8, 11, 14} {
		size := 2
		if i == 0 {
			size = 4
		}
		if n[i], ok = digitsOf(s[at:], size); !ok {
			return 0, false, false
		}
	}
	rest := s[16:]
	if len(rest) > 2 && rest[0] == ':' {
		if n[5], ok = digitsOf(rest[1:], 2); !ok {
			return 0, false, false
		}
		rest = rest[3:]
		if ns, rest, ok = fractionOf(rest); !ok {
			return 0, false, false
		}
	}
	seconds, ok := calendar(n)
	if !ok {
		return 0, false, false
	}
	offset, wall, ok := zoneOf(rest)
	return (seconds-offset)*1e9 + ns, wall, ok
}

// compactTime reads 20060102150405 and 20060102T150405.
func compactTime(s string) (ns int64, ok bool) {
	if len(s) == 15 && s[8] == 'T' {
		s = s[:8] + s[9:]
	}
	if len(s) != 14 {
		return 0, false
	}
	var n [6]int
	n[0], ok = digitsOf(s, 4)
	for i := 1; i < 6 && ok; i++ {
		n[i], ok = digitsOf(s[2+2*i:], 2)
	}
	seconds, good := calendar(n)
	return seconds * 1e9, ok && good
}

// calendar is the Unix time of year, month, day, hour, minute and second of UTC.
func calendar(n [6]int) (seconds int64, ok bool) {
	if !inYears(n[0]) || n[1] < 1 || n[1] > 12 || n[2] < 1 || n[2] > 31 || n[3] > 23 || n[4] > 59 || n[5] > 59 {
		return 0, false
	}
	t := time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], 0, time.UTC)
	return t.Unix(), n[2] <= 28 || t.Day() == n[2]
}

// fractionOf reads the nanoseconds that may stand after a second.
func fractionOf(s string) (ns int64, rest string, ok bool) {
	if s == "" || s[0] != '.' && s[0] != ',' && s[0] != ':' {
		return 0, s, true
	}
	size := 1
	for size < len(s) && s[size]-'0' <= 9 {
		size++
	}
	ns, ok = fraction(s[1:size])
	return ns, s[size:], ok
}

// fraction reads the digits after a point, of which those after the ninth are
// less than a nanosecond.
func fraction(digits string) (ns int64, ok bool) {
	unit := int64(1e8)
	for i := range len(digits) {
		c := digits[i] - '0'
		if c > 9 {
			return 0, false
		}
		ns += int64(c) * unit
		unit /= 10
	}
	return ns, digits != ""
}

// zoneOf reads Z, UTC, GMT, +01, +0100, +01:00, or nothing. mosquitto_sub, up to 2.0,
// puts a Z before the offset of a local time in JSON.
func zoneOf(s string) (offset int64, wall, ok bool) {
	switch s {
	case "":
		return 0, true, true
	case "Z", "z", "+0000", "Z+0000", " UTC", " GMT", " +0000 UTC": // the last is Go's
		return 0, false, true
	}
	s = strings.TrimPrefix(strings.TrimPrefix(s, "Z"), " ")
	if len(s) < 3 || s[0] != '+' && s[0] != '-' {
		return 0, false, false
	}
	hours, ok := digitsOf(s[1:], 2)
	minutes := 0
	if rest := strings.TrimPrefix(s[3:], ":"); ok && s[3:] != "" {
		minutes, ok = digitsOf(rest, 2)
		ok = ok && len(rest) == 2
	}
	if !ok || hours > 23 || minutes > 59 {
		return 0, false, false
	}
	offset = int64(hours*3600 + minutes*60)
	if s[0] == '-' {
		offset = -offset
	}
	return offset, false, true
}

// unixUnits are the words of --time-format for a Unix time, in nanoseconds.
var unixUnits = map[string]int64{"unix": 1e9, "unix_ms": 1e6, "unix_us": 1e3, "unix_ns": 1}

// unixTime finds out the unit of a number.
func unixTime(s string, n decimal) (ns int64, wall bool, err error) {
	unit := int64(1)
	for size := int64(1e17); unit < 1e9 && n.whole < size && n.whole > -size; size /= 1000 {
		unit *= 1000
	}
	if unit == 1e9 && n.whole < leastUnix && n.whole > -leastUnix {
		return 0, false, fmt.Errorf("%.40q is a time near 1970, if it is one; --time-format unix (or unix_ms, …) says so", s)
	}
	if ns, ok := n.times(unit); ok {
		return ns, false, nil
	}
	return 0, false, fmt.Errorf("time %.40q: the year must be %d to %d", s, firstYear, lastYear)
}

// decimal is a number with what stands after its point, in billionths.
type decimal struct{ whole, part int64 }

// number reads a decimal number, also with a decimal comma or as 1.7e9.
func number(s string) (n decimal, ok bool) {
	if i := strings.IndexAny(s, "eE"); i > 0 {
		if power, err := strconv.Atoi(s[i+1:]); err != nil || power > 20 || power < -20 || len(s) > 60 {
			return n, false
		}
		r, ok := new(big.Rat).SetString(s)
		if !ok {
			return n, false
		}
		s = r.FloatString(9)
	}
	whole, part := s, ""
	if i := strings.IndexAny(s, ".,"); i >= 0 {
		whole, part = s[:i], s[i+1:]
	}
	var err error
	if n.whole, err = strconv.ParseInt(whole, 10, 64); err != nil {
		return n, false
	}
	if part == "" {
		return n, true
	}
	n.part, ok = fraction(part)
	if whole[0] == '-' {
		n.part = -n.part
	}
	return n, ok
}

// times is the number in a unit of so many nanoseconds, as nanoseconds.
func (n decimal) times(unit int64) (ns int64, ok bool) {
	if n.whole > math.MaxInt64/unit-1 || n.whole < math.MinInt64/unit+1 {
		return 0, false
	}
	return n.whole*unit + n.part/(1e9/unit), true
}
