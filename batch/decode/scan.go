package decode

import (
	"fmt"
	"unicode/utf8"

	"github.com/mqttetl/mqttetl/internal/jsonstring"
)

// scanner walks JSON (RFC 8259) from left to right. Its methods stand in front
// of what they read, behind white space, and end directly behind it.
type scanner struct {
	b     []byte
	i     int
	depth int
	max   int    // depth
	left  budget // of the tree, where one is built
}

// unexpected is the error of a byte that JSON does not allow here.
func (s *scanner) unexpected() error {
	if s.i >= len(s.b) {
		if len(s.b) == 0 {
			return fmt.Errorf("payload is not JSON: it is empty")
		}
		return fmt.Errorf("payload is not JSON: it ends too early, at byte %d", len(s.b))
	}
	r, n := utf8.DecodeRune(s.b[s.i:])
	if r == utf8.RuneError && n == 1 {
		return fmt.Errorf("payload is not JSON: unexpected byte 0x%02x at byte %d", s.b[s.i], s.i)
	}
	return fmt.Errorf("payload is not JSON: unexpected %q at byte %d", r, s.i)
}

// peek skips white space and returns the byte behind it, 0 at the end.
func (s *scanner) peek() byte {
	for s.i < len(s.b) {
		c := s.b[s.i]
		if c > ' ' || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			return c
		}
		s.i++
	}
	return 0
}

// end checks that only white space is left.
func (s *scanner) end() error {
	s.peek()
	if s.i < len(s.b) {
		return s.unexpected()
	}
	return nil
}

// open takes the bracket of an array or object.
func (s *scanner) open() error {
	s.depth++
	if s.depth > s.max {
		return fmt.Errorf("payload nests deeper than %d levels at byte %d", s.max, s.i)
	}
	s.i++
	return nil
}

// element goes to the next element of an array, behind '[' or an element; false
// behind the end of the array.
func (s *scanner) element(first bool) (bool, error) {
	return s.next(first, ']')
}

// next goes behind the comma, or behind the bracket that closes.
func (s *scanner) next(first bool, closing byte) (bool, error) {
	c := s.peek()
	if c == closing {
		s.i++
		s.depth--
		return false, nil
	}
	if first {
		return true, nil
	}
	if c != ',' {
		return false, s.unexpected()
	}
	s.i++
	s.peek()
	return true, nil
}

// member goes to the next value of an object, behind '{' or a value, and
// returns its name without quotes; ok is false behind the end of the object.
func (s *scanner) member(first bool) (name []byte, escaped, ok bool, err error) {
	if ok, err = s.next(first, '}'); !ok || err != nil {
		return nil, false, false, err
	}
	if s.i >= len(s.b) || s.b[s.i] != '"' {
		return nil, false, false, s.unexpected()
	}
	name, escaped, err = s.str()
	if err != nil {
		return nil, false, false, err
	}
	if s.peek() != ':' {
		return nil, false, false, s.unexpected()
	}
	s.i++
	s.peek()
	return name, escaped, true, nil
}

// str reads a string and returns what is between its quotes.
func (s *scanner) str() (raw []byte, escaped bool, err error) {
	start := s.i + 1
	at, escaped, fault := jsonstring.Scan(s.b, start)
	switch fault {
	case jsonstring.OK:
		s.i = at + 1
		return s.b[start:at:at], escaped, nil
	case jsonstring.Escape:
		s.i = min(at+1, len(s.b))
		return nil, false, s.escapeError(at)
	case jsonstring.Control:
		return nil, false, fmt.Errorf("payload is not JSON: control byte 0x%02x within a string at byte %d", s.b[at], at)
	case jsonstring.NotUTF8:
		return nil, false, fmt.Errorf("payload is not JSON: invalid UTF-8 at byte %d", at)
	}
	s.i = len(s.b)
	return nil, false, s.unexpected()
}

// unescaped appends the text of a string that str has returned.
func unescaped(to, raw []byte) []byte {
	text, _ := jsonstring.Unescape(to, raw) // half a surrogate pair is U+FFFD
	return text
}

func (s *scanner) escapeError(at int) error {
	if at+6 > len(s.b) && (at+1 >= len(s.b) || s.b[at+1] == 'u') {
		s.i = len(s.b)
		return s.unexpected()
	}
	return fmt.Errorf("payload is not JSON: unknown escape within a string at byte %d", at)
}

// maxNumber bounds the time that a long integer takes, which grows with the
// square of its length.
const maxNumber = 1000

// number reads a number; whole means without fraction and exponent.
func (s *scanner) number() (raw []byte, whole bool, err error) {
	b, i := s.b, s.i
	if i < len(b) && b[i] == '-' {
		i++
	}
	n := digits(b, i)
	if n == i || b[i] == '0' && n > i+1 {
		s.i = i
		if n > i {
			s.i++
		}
		return nil, false, s.unexpected()
	}
	whole, i = true, n
	if i < len(b) && b[i] == '.' {
		whole = false
		if n = digits(b, i+1); n == i+1 {
			s.i = n
			return nil, false, s.unexpected()
		}
		i = n
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		whole = false
		i++
		if i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		if n = digits(b, i); n == i {
			s.i = n
			return nil, false, s.unexpected()
		}
		i = n
	}
	if i-s.i > maxNumber {
		return nil, false, fmt.Errorf("payload has a number of %d characters at byte %d, more than %d", i-s.i, s.i, maxNumber)
	}
	raw, s.i = b[s.i:i:i], i
	return raw, whole, nil
}

// digits returns where the digits from i on end.
func digits(b []byte, i int) int {
	for i < len(b) && b[i]-'0' <= 9 {
		i++
	}
	return i
}

// word reads true, false or null.
func (s *scanner) word(w string) error {
	for k := range len(w) {
		if s.i >= len(s.b) || s.b[s.i] != w[k] {
			return s.unexpected()
		}
		s.i++
	}
	return nil
}

// scalar reads a value that is no array and no object.
func (s *scanner) scalar(c byte) (v Value, err error) {
	v.pos = s.i
	switch c {
	case '"':
		v.kind = String
		v.raw, v.escaped, err = s.str()
		return v, err
	case 't':
		v.kind, err = Bool, s.word("true")
	case 'f':
		v.kind, err = Bool, s.word("false")
	case 'n':
		v.kind, err = Null, s.word("null")
	default:
		var whole bool
		v.raw, whole, err = s.number()
		v.kind = Float
		if whole {
			v.kind = Int
		}
		return v, err
	}
	v.raw = s.b[v.pos:s.i:s.i]
	return v, err
}

// skip checks a value that nobody wants.
func (s *scanner) skip() error {
	switch c := s.peek(); c {
	case '{':
		if err := s.open(); err != nil {
			return err
		}
		for first := true; ; first = false {
			_, _, ok, err := s.member(first)
			if !ok || err != nil {
				return err
			}
			if err := s.skip(); err != nil {
				return err
			}
		}
	case '[':
		if err := s.open(); err != nil {
			return err
		}
		for first := true; ; first = false {
			ok, err := s.element(first)
			if !ok || err != nil {
				return err
			}
			if err := s.skip(); err != nil {
				return err
			}
		}
	case '"':
		_, _, err := s.str()
		return err
	default:
		_, err := s.scalar(c)
		return err
	}
}
