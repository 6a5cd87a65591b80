package importer

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// timeLayouts that recordings use beside Unix times; mosquitto_sub's first, which
// up to 2.0 puts a Z before the zone of a local time in JSON.
var timeLayouts = []string{
	"2006-01-02T15:04:05.999999999-0700", "2006-01-02T15:04:05.999999999Z-0700", time.RFC3339Nano, "2006-01-02 15:04:05.999999999Z07:00",
}

// wallLayouts are those of times without a zone.
var wallLayouts = []string{"2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999"}

// setTime reads the recorded time: RFC 3339, what mosquitto_sub writes, or a
// Unix time in seconds, milli-, micro- or nanoseconds, told apart by their size.
// A time without a zone is taken as UTC and marked as wall: see inZone.
func (e *entry) setTime(s string) (err error) {
	e.timed, e.wall = true, false
	var ok bool
	if e.time, ok = fastTime(s); ok {
		return nil
	}
	if e.time, ok = unixTime(s); ok {
		return nil
	}
	if e.time, ok, err = layoutTime(s, timeLayouts); ok {
		return err
	}
	if e.time, e.wall, err = layoutTime(s, wallLayouts); e.wall {
		return err
	}
	return fmt.Errorf("%.100q is no time", s)
}

// layoutTime reads the forms that the layouts have.
func layoutTime(s string, layouts []string) (ns int64, ok bool, err error) {
	for _, layout := range layouts {
		t, err := time.Parse(layout, s)
		if err != nil {
			continue
		}
		if t.Year() < 1678 || t.Year() > 2261 {
			return 0, true, fmt.Errorf("time %q: the year must be 1678 to 2261", s)
		}
		return t.UnixNano(), true, nil
	}
	return 0, false, nil
}

// inZone is the time at which the clocks of the zone show what those of UTC show
// at ns.
func inZone(ns int64, zone *time.Location) int64 {
	t := time.Unix(0, ns).UTC()
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), zone).UnixNano()
}

// fastTime reads the form 2006-01-02T15:04:05[.digits] with Z, +0000 or Z+0000.
func fastTime(s string) (int64, bool) {
	if len(s) < 20 || s[4] != '-' || s[7] != '-' || s[10] != 'T' || s[13] != ':' || s[16] != ':' {
		return 0, false
	}
	rest, zone := strings.CutSuffix(s, "+0000")
	rest, z := strings.CutSuffix(rest, "Z")
	if !zone && !z {
		return 0, false
	}
	var n [6]int
	for i, at := range [6][2]int{{0, 4}, {5, 7}, {8, 10}, {11, 13}, {14, 16}, {17, 19}} {
		for _, c := range []byte(s[at[0]:at[1]]) {
			if c < '0' || c > '9' {
				return 0, false
			}
			n[i] = n[i]*10 + int(c-'0')
		}
	}
	if n[0] < 1678 || n[0] > 2261 || n[1] < 1 || n[1] > 12 || n[2] < 1 || n[2] > 28 || n[3] > 23 || n[4] > 59 || n[5] > 59 {
		return 0, false // or a rare date, which the slow way knows
	}
	ns, ok := fraction(rest[19:])
	return time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], 0, time.UTC).Unix()*1e9 + ns, ok
}

// fraction reads "" or a point and one to nine digits.
func fraction(s string) (ns int64, ok bool) {
	if s == "" {
		return 0, true
	}
	if s[0] != '.' || len(s) < 2 || len(s) > 10 {
		return 0, false
	}
	unit := int64(1e8)
	for _, c := range []byte(s[1:]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		ns += int64(c-'0') * unit
		unit /= 10
	}
	return ns, true
}

// unixTime reads a number.
func unixTime(s string) (int64, bool) {
	whole, part, _ := strings.Cut(s, ".")
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return 0, false
	}
	unit := int64(1)
	for size := int64(1e17); unit < 1e9 && (n < size && n > -size); size /= 1000 {
		unit *= 1000
	}
	if n > math.MaxInt64/unit-1 || n < math.MinInt64/unit+1 {
		return 0, false
	}
	if part == "" {
		return n * unit, true
	}
	f, ok := fraction("." + part)
	if n < 0 || strings.HasPrefix(whole, "-") {
		f = -f
	}
	return n*unit + f/(1e9/unit), ok
}

// checkTopic refuses what MQTT has no message under (MQTT 5 §4.7). Some brokers
// deliver topics that are not UTF-8, and the archive keeps them: in the forms
// that export has for them they come back.
func checkTopic(topic []byte, exported bool) error {
	switch {
	case len(topic) == 0:
		return errors.New("no topic")
	case len(topic) > math.MaxUint16:
		return fmt.Errorf("a topic of %d bytes, MQTT has %d", len(topic), math.MaxUint16)
	}
	if bytes.ContainsAny(topic, "+#\x00") {
		return fmt.Errorf("topic %.100q holds a wildcard or NUL", topic)
	}
	if !exported && !utf8.Valid(topic) {
		return fmt.Errorf("topic %.100q is not UTF-8", topic)
	}
	return nil
}

// maxPayload is what fits in a PUBLISH packet.
const maxPayload = 256<<20 - 1

func parseQoS(s string) (int, error) {
	if len(s) != 1 || s[0] < '0' || s[0] > '2' {
		return 0, fmt.Errorf("qos %.20q", s)
	}
	return int(s[0] - '0'), nil
}

func parseBit(s string) (bool, error) {
	switch s {
	case "0", "false", "":
		return false, nil
	case "1", "true":
		return true, nil
	}
	return false, fmt.Errorf("%.20q where 0 or 1 is expected", s)
}
