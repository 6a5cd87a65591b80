package importer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// moment gathers what the letters of strftime(3) say of one time.
type moment struct {
	year, month, day, yearDay int // year -1 and the others 0: not said
	century, short            int // of a year of two digits; -1: not said
	hour, minute, second      int
	half                      int // of the day, of a clock of 12 hours: 0 not said, 1 AM, 2 PM
	nanos                     int64
	offset                    int64
	zoned, unix               bool
	seconds                   int64          // if unix
	zone                      string         // its name, such as CEST, if that is not of UTC
	in                        *time.Location // has that name; nil: UTC
}

func newMoment(in *time.Location) moment { return moment{year: -1, century: -1, short: -1, in: in} }

// expanded are the letters that stand for others.
var expanded = map[byte]string{
	'D': "%m/%d/%y", 'x': "%m/%d/%y", 'F': "%Y-%m-%d", 'T': "%H:%M:%S", 'X': "%H:%M:%S", 'R': "%H:%M",
	'r': "%I:%M:%S %p", 'c': "%a %b %e %H:%M:%S %Y", '+': "%a %b %e %H:%M:%S %Z %Y", 'h': "%b", 'P': "%p", 'n': "\n", 't': "\t", '%': "%%",
}

// letterSizes are how many digits a letter has at most; a blank may stand for a
// leading zero.
var letterSizes = map[byte]int{
	'Y': 4, 'C': 2, 'y': 2, 'm': 2, 'd': 2, 'e': 2, 'j': 3, 'H': 2, 'k': 2, 'I': 2, 'l': 2, 'M': 2, 'S': 2,
	'N': 9, 'f': 9, 'L': 3, 'G': 4, 'g': 2, 'V': 2, 'U': 2, 'W': 2, 'u': 1, 'w': 1, 's': 20,
}

// take reads what a letter has printed at the beginning of s, and how long it is.
func (m *moment) take(letter byte, s string) (n int, err error) {
	switch letter {
	case 'a', 'A', 'b', 'B', 'p', 'Z':
		for n < len(s) && (s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z') {
			n++
		}
		return n, m.word(letter, s[:n])
	case 'z':
		for n < len(s) && n < 6 && strings.IndexByte("+-0123456789:Z", s[n]) >= 0 {
			n++
		}
		var wall, ok bool
		if m.offset, wall, ok = zoneOf(s[:n]); wall || !ok {
			return n, fmt.Errorf("%.20q is no offset such as +0100", s)
		}
		m.zoned = true
		return n, nil
	}
	size := letterSizes[letter]
	blanks := 0
	for blanks < size-1 && blanks < len(s) && s[blanks] == ' ' {
		blanks++
	}
	for n = blanks; n < len(s) && n < size && (s[n]-'0' <= 9 || letter == 's' && n == blanks && s[n] == '-'); {
		n++
	}
	v, err := strconv.ParseInt(s[blanks:n], 10, 64)
	if err != nil {
		return n, fmt.Errorf("%.20q where %%%c is expected", s, letter)
	}
	m.set(letter, v, s[blanks:n])
	return n, nil
}

// word takes a name of a day, a month, half a day or a zone.
func (m *moment) word(letter byte, s string) error {
	upper := strings.ToUpper(s)
	switch letter {
	case 'b', 'B':
		for i := time.January; i <= time.December; i++ {
			if name := i.String(); strings.EqualFold(s, name) || strings.EqualFold(s, name[:3]) {
				m.month = int(i)
				return nil
			}
		}
		return fmt.Errorf("%.20q is no month", s)
	case 'p':
		if m.half = 1 + strings.Index("AMPM", upper)/2; upper != "AM" && upper != "PM" {
			return fmt.Errorf("%.20q is not AM or PM", s)
		}
	case 'Z':
		if upper == "UTC" || upper == "GMT" || upper == "Z" {
			m.zoned = true
		} else {
			m.zone = strings.Clone(s)
		}
	}
	return nil
}

func (m *moment) set(letter byte, v int64, digits string) {
	n := int(v)
	switch letter {
	case 'Y':
		m.year = n
	case 'C':
		m.century = n
	case 'y':
		m.short = n
	case 'm':
		m.month = n
	case 'd', 'e':
		m.day = n
	case 'j':
		m.yearDay = n
	case 'H', 'k', 'I', 'l':
		m.hour = n
	case 'M':
		m.minute = n
	case 'S':
		m.second = n
	case 'N', 'f', 'L':
		m.nanos, _ = fraction(digits)
	case 's':
		m.unix, m.seconds = true, v
	}
}

// ns is the time that was said.
func (m *moment) ns() (ns int64, wall bool, err error) {
	if m.unix {
		ns, ok := decimal{whole: m.seconds}.times(1e9)
		if !ok {
			return 0, false, fmt.Errorf("%d seconds are no time", m.seconds)
		}
		return ns + m.nanos, false, nil
	}
	if m.year < 0 {
		m.year = m.short + 1900
		if m.century >= 0 {
			m.year = m.century*100 + m.short
		} else if m.short < 69 { // as POSIX says
			m.year = m.short + 2000
		}
	}
	if m.half > 0 {
		if m.hour < 1 || m.hour > 12 {
			return 0, false, fmt.Errorf("%d is no hour of a clock of 12", m.hour)
		}
		m.hour = m.hour%12 + 12*(m.half-1)
	}
	month, day := m.month, m.day
	if m.yearDay > 0 && day == 0 && inYears(m.year) {
		t := time.Date(m.year, 1, m.yearDay, 0, 0, 0, 0, time.UTC)
		if month, day = int(t.Month()), t.Day(); t.Year() != m.year {
			return 0, false, fmt.Errorf("the year %d has no day %d", m.year, m.yearDay)
		}
	}
	seconds, ok := calendar([6]int{m.year, month, day, m.hour, m.minute, m.second})
	if !ok {
		return 0, false, fmt.Errorf("there is no %d-%02d-%02d %02d:%02d:%02d", m.year, month, day, m.hour, m.minute, m.second)
	}
	if m.zone != "" {
		if m.offset, err = m.named(seconds); err != nil {
			return 0, false, err
		}
		m.zoned = true
	}
	return (seconds-m.offset)*1e9 + m.nanos, !m.zoned, nil
}

// named is the offset of the zone that was named: names such as CET are known to
// their zone alone. It is one of about that time, or else of half a year before
// or after.
func (m *moment) named(seconds int64) (offset int64, err error) {
	if m.in != nil {
		for _, days := range []int64{-1, 1, -182, 182} {
			name, offset := time.Unix(seconds+days*86400, 0).In(m.in).Zone()
			if strings.EqualFold(name, m.zone) {
				return int64(offset), nil
			}
		}
	}
	return 0, fmt.Errorf("the zone %.20q is not known: --timezone names the place that has it, such as Europe/Berlin for CET and CEST", m.zone)
}

// timePiece is a letter of strftime, or literal text.
type timePiece struct {
	letter byte // 0: literal
	text   string
}

// expand returns the pieces that a letter of strftime stands for.
func expand(letter byte) ([]timePiece, error) {
	text, ok := expanded[letter]
	if !ok {
		if _, digits := letterSizes[letter]; !digits && strings.IndexByte("aAbBpzZ", letter) < 0 {
			return nil, fmt.Errorf("%c is no letter of strftime", letter)
		}
		return []timePiece{{letter: letter}}, nil
	}
	var pieces []timePiece
	for i := 0; i < len(text); i++ {
		if text[i] != '%' || i+1 == len(text) || text[i+1] == '%' {
			pieces = append(pieces, timePiece{text: text[i : i+1]})
			if text[i] == '%' {
				i++
			}
			continue
		}
		i++
		pieces = append(pieces, timePiece{letter: text[i]})
	}
	return pieces, nil
}

// tellsTime returns why letters do not tell a time.
func tellsTime(letters string) error {
	has := func(any string) bool { return strings.ContainsAny(letters, any) }
	switch {
	case has("s"):
		return nil
	case !has("Y") && !has("y"), !has("j") && !(has("mbB") && has("de")):
		return errors.New("a time needs a year, a month and a day, as in %Y-%m-%d, or %s")
	case has("Il") && !has("p"):
		return errors.New("an hour of a clock of 12 needs AM or PM, %p")
	}
	return nil
}

// timeFormat reads times.
type timeFormat func(s string) (ns int64, wall bool, err error)

// CheckTimeFormat returns what is wrong with the TimeFormat of a Config.
func CheckTimeFormat(s string) error {
	_, err := parseTimeFormat(s, nil)
	return err
}

// parseTimeFormat reads letters of strftime after %, among them %f and %N for what
// is after the second and %L for milliseconds, or a word for a unit of Unix times.
func parseTimeFormat(s string, zone *time.Location) (timeFormat, error) {
	if s == "" {
		return nil, nil
	}
	if unit, ok := unixUnits[s]; ok {
		return func(text string) (int64, bool, error) {
			if n, ok := number(text); ok {
				if ns, ok := n.times(unit); ok {
					return ns, false, nil
				}
			}
			return 0, false, fmt.Errorf("%.100q is no time in the unit that --time-format says", text)
		}, nil
	}
	var pieces []timePiece
	letters := ""
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			pieces = append(pieces, timePiece{text: s[i : i+1]})
			continue
		}
		if i++; i == len(s) {
			return nil, badOption("time format %q ends with %%", s)
		}
		if strings.IndexByte("-_0^#", s[i]) >= 0 && i+1 < len(s) { // how it is filled up, which reading does not ask
			i++
		}
		more, err := expand(s[i])
		if err != nil {
			return nil, badOption("time format %q: %w", s, err)
		}
		for _, p := range more {
			letters += string(p.letter)
		}
		pieces = append(pieces, more...)
	}
	if err := tellsTime(letters); err != nil {
		return nil, badOption("time format %q: must be unix, unix_ms, unix_us, unix_ns or letters as of date(1): %w", s, err)
	}
	return func(text string) (int64, bool, error) { return readTime(newMoment(zone), pieces, text) }, nil
}

// readTime reads a time that has nothing after it.
func readTime(m moment, pieces []timePiece, text string) (ns int64, wall bool, err error) {
	rest := text
	for _, p := range pieces {
		n := len(p.text)
		if p.letter != 0 {
			n, err = m.take(p.letter, rest)
		} else if !strings.HasPrefix(rest, p.text) {
			err = fmt.Errorf("%q is missing", p.text)
		}
		if err != nil {
			return 0, false, fmt.Errorf("%.100q is no time as --time-format says: %w", text, err)
		}
		rest = rest[n:]
	}
	if rest != "" {
		return 0, false, fmt.Errorf("%.100q has more than the time that --time-format says", text)
	}
	if ns, wall, err = m.ns(); err != nil {
		err = fmt.Errorf("time %.100q: %w", text, err)
	}
	return ns, wall, err
}
