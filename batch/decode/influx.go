package decode

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

func init() { formats["influx"] = newInflux }

// newInflux decodes InfluxDB line protocol, an object a line:
// {measurement, tags, fields, time}. time is as written, in whatever unit the
// sender uses, null if the line has none.
func newInflux(o Options) (Decoder, error) { return &influxDecoder{o}, nil }

type influxDecoder struct{ o Options }

func (d *influxDecoder) Decode(_ string, payload []byte, emit func(any) error) error {
	if !utf8.Valid(payload) {
		return fmt.Errorf("payload is not line protocol: invalid UTF-8 at byte %d", invalidUTF8(payload))
	}
	s := influxScanner{s: string(payload), line: 1, o: &d.o}
	bad := 0
	for s.nextLine() {
		s.left = budget{left: MemoryBase}.until(d.o.Late)
		doc, err := s.point()
		if err != nil {
			err = fmt.Errorf("payload is not line protocol: line %d: %w", s.line, err)
			if bad++; bad == maxFailed {
				return err
			}
			s.skipLine()
			doc = Failed{err}
		}
		if err := emit(doc); err != nil {
			return err
		}
	}
	return nil
}

type influxScanner struct {
	s    string
	i    int
	line int
	o    *Options
	left budget // of the line
}

// nextLine goes to the next point, over empty lines and comments.
func (s *influxScanner) nextLine() bool {
	for s.i < len(s.s) {
		switch s.s[s.i] {
		case '\n':
			s.line++
			s.i++
		case ' ', '\t', '\r':
			s.i++
		case '#':
			for s.i < len(s.s) && s.s[s.i] != '\n' {
				s.i++
			}
		default:
			return true
		}
	}
	return false
}

// skipLine skips the rest of the line.
func (s *influxScanner) skipLine() {
	for !s.atEnd() {
		s.i++
	}
}

// at reports whether c comes next, and takes it.
func (s *influxScanner) at(c byte) bool {
	if s.i < len(s.s) && s.s[s.i] == c {
		s.i++
		return true
	}
	return false
}

// atEnd reports whether the line ends here.
func (s *influxScanner) atEnd() bool {
	return s.i == len(s.s) || s.s[s.i] == '\n' || s.s[s.i] == '\r' && (s.i+1 == len(s.s) || s.s[s.i+1] == '\n')
}

// token reads up to an unescaped byte of stops or the end of the line. A
// backslash escapes the bytes of special and stands for itself elsewhere.
func (s *influxScanner) token(what, stops, special string) (string, error) {
	start, escaped := s.i, false
	for !s.atEnd() && strings.IndexByte(stops, s.s[s.i]) < 0 {
		if s.s[s.i] == '\\' && s.i+1 < len(s.s) && strings.IndexByte(special, s.s[s.i+1]) >= 0 {
			escaped = true
			s.i++
		}
		s.i++
	}
	t := s.s[start:s.i]
	if t == "" {
		return "", fmt.Errorf("%s is missing", what)
	}
	if escaped {
		t = unescapeInflux(t, special)
	}
	return t, nil
}

func unescapeInflux(t, special string) string {
	var b strings.Builder
	b.Grow(len(t))
	for i := 0; i < len(t); i++ {
		if t[i] == '\\' && i+1 < len(t) && strings.IndexByte(special, t[i+1]) >= 0 {
			i++
		}
		b.WriteByte(t[i])
	}
	return b.String()
}

func (s *influxScanner) spaces() {
	for s.at(' ') {
	}
}

// point reads a line: measurement[,tag=value…] field=value[,…] [time].
func (s *influxScanner) point() (any, error) {
	measurement, err := s.token("the measurement", ", ", ", ")
	if err != nil {
		return nil, err
	}
	tags, fields := map[string]any{}, map[string]any{}
	for s.at(',') {
		if err := s.member(len(tags)); err != nil {
			return nil, err
		}
		name, err := s.name("tag")
		if err != nil {
			return nil, err
		}
		if tags[name], err = s.token("its value", ",= ", ",= "); err != nil {
			err = fmt.Errorf("tag %s: %w", shorten(name), err)
			return nil, err
		}
	}
	s.spaces()
	for more := true; more; more = s.at(',') {
		if err := s.member(len(fields)); err != nil {
			return nil, err
		}
		name, err := s.name("field")
		if err != nil {
			return nil, err
		}
		if fields[name], err = s.value(); err != nil {
			return nil, fmt.Errorf("field %s: %w", shorten(name), err)
		}
	}
	s.spaces()
	var time any
	if !s.atEnd() {
		t, _ := s.token("", " ", "")
		n, err := strconv.ParseInt(t, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q where the timestamp is expected", shorten(t))
		}
		time = int(n)
		if s.spaces(); !s.atEnd() {
			return nil, errors.New("something follows the timestamp")
		}
	}
	return map[string]any{"measurement": measurement, "tags": tags, "fields": fields, "time": time}, nil
}

// member takes the cost of the n-th tag or field.
func (s *influxScanner) member(n int) error {
	if err := s.left.member(n); err != nil {
		return err
	}
	return s.left.take(2 * textCost)
}

// name reads the name of a tag or field, and the equals sign.
func (s *influxScanner) name(what string) (string, error) {
	name, err := s.token("the name of a "+what, ",= ", ",= ")
	if err == nil && !s.at('=') {
		err = fmt.Errorf("%s %s has no value", what, shorten(name))
	}
	return name, err
}

// value reads the value of a field.
func (s *influxScanner) value() (any, error) {
	if s.at('"') {
		return s.quoted()
	}
	t, err := s.token("its value", ", ", "")
	if err != nil {
		return nil, err
	}
	switch t {
	case "t", "T", "true", "True", "TRUE":
		return true, nil
	case "f", "F", "false", "False", "FALSE":
		return false, nil
	}
	switch t[len(t)-1] {
	case 'i':
		n, err := strconv.ParseInt(t[:len(t)-1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not an integer of 64 bits", shorten(t))
		}
		return int(n), nil
	case 'u':
		n, err := strconv.ParseUint(t[:len(t)-1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not an unsigned integer of 64 bits", shorten(t))
		}
		return fromUint(n), nil
	}
	if s.o.Lenient && NotFinite(t) {
		s.o.mended(t + " reads as null")
		return nil, nil
	}
	f, err := strconv.ParseFloat(t, 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) || strings.ContainsAny(t, "xX_pP") {
		return nil, fmt.Errorf("%q is not a number, a boolean or a quoted string", shorten(t))
	}
	return f, nil
}

// quoted reads a string behind its quote; it may have line ends in it.
func (s *influxScanner) quoted() (any, error) {
	start := s.i
	for ; s.i < len(s.s); s.i++ {
		switch s.s[s.i] {
		case '\\':
			s.i++
		case '\n':
			s.line++
		case '"':
			t := unescapeInflux(s.s[start:s.i], `"\`)
			s.i++
			return t, nil
		}
	}
	s.i = len(s.s) // not beyond it, as after a backslash
	return nil, errors.New("a string without its closing quote")
}
