package importer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/internal/jsonstring"
)

// scanner reads JSON (RFC 8259) of one line in place: strings without escapes
// are slices of it. encoding/json takes five times as long.
type scanner struct {
	p []byte
	i int
	// made holds the strings that had escapes; what is returned may point into it.
	made []byte
}

// maxDepth bounds the nesting of values.
const maxDepth = 512

func (s *scanner) errorf(format string, args ...any) error {
	return fmt.Errorf("byte %d: %s", s.i+1, fmt.Sprintf(format, args...))
}

// peek passes over white space and returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	for ; s.i < len(s.p); s.i++ {
		switch s.p[s.i] {
		case ' ', '\t', '\r', '\n':
		default:
			return s.p[s.i]
		}
	}
	return 0
}

// expect takes one byte.
func (s *scanner) expect(c byte) error {
	if got := s.peek(); got != c {
		if s.i >= len(s.p) {
			return s.errorf("the line ends where %q is expected", c)
		}
		return s.errorf("%q where %q is expected", got, c)
	}
	s.i++
	return nil
}

// object reads an object; member is called behind each name and reads the value.
func (s *scanner) object(member func(name []byte) error) error {
	if err := s.expect('{'); err != nil {
		return err
	}
	if s.peek() == '}' {
		s.i++
		return nil
	}
	for {
		name, err := s.text()
		if err == nil {
			err = s.expect(':')
		}
		if err == nil {
			err = member(name)
		}
		if err != nil {
			return err
		}
		if s.peek() != ',' {
			return s.expect('}')
		}
		s.i++
	}
}

// text reads a string.
func (s *scanner) text() ([]byte, error) {
	if err := s.expect('"'); err != nil {
		return nil, err
	}
	begin := s.i
	at, escaped, fault := jsonstring.Scan(s.p, begin)
	for fault == jsonstring.NotUTF8 { // checkText says so
		at, escaped, fault = scanOn(s.p, at, escaped)
	}
	if s.i = at; fault != jsonstring.OK {
		return nil, s.faulty(fault)
	}
	s.i++
	raw := s.p[begin:at:at]
	if !escaped {
		return raw, nil
	}
	from, whole := len(s.made), false
	if s.made, whole = jsonstring.Unescape(s.made, raw); !whole {
		return nil, s.errorf("half a surrogate pair")
	}
	return s.made[from:len(s.made):len(s.made)], nil
}

// scanOn goes on after a byte that is not UTF-8.
func scanOn(p []byte, at int, was bool) (int, bool, jsonstring.Fault) {
	at, escaped, fault := jsonstring.Scan(p, at+1)
	return at, escaped || was, fault
}

// faulty is the error of the string at whose fault the scanner is.
func (s *scanner) faulty(fault jsonstring.Fault) error {
	switch {
	case fault == jsonstring.Control:
		return s.errorf("control byte %#02x in a string", s.p[s.i])
	case fault == jsonstring.Escape && s.i+1 < len(s.p):
		return s.errorf("not an escape of JSON")
	}
	return s.errorf("a string does not end")
}

// value passes over any value and returns it as it stands. It sees to strings
// and brackets only: what else is wrong within, a reader of the value finds.
func (s *scanner) value() ([]byte, error) {
	s.peek()
	begin := s.i
	err := s.skip(0)
	return s.p[begin:s.i], err
}

func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return s.errorf("nested more than %d deep", maxDepth)
	}
	switch s.peek() {
	case '"':
		return s.passText()
	case '{':
		return s.object(func([]byte) error { return s.skip(depth + 1) })
	case '[':
		return s.array(depth)
	}
	begin := s.i
	for s.i < len(s.p) && literalByte(s.p[s.i]) {
		s.i++
	}
	if s.i == begin {
		return s.errorf("a value is missing")
	}
	return nil
}

// passText passes over a string, whose escapes a reader of it checks.
func (s *scanner) passText() error {
	for s.i++; s.i < len(s.p); s.i++ {
		switch c := s.p[s.i]; {
		case c == '"':
			s.i++
			return nil
		case c == '\\':
			s.i++
		case c < 0x20:
			return s.errorf("control byte %#02x in a string", c)
		}
	}
	return s.errorf("a string does not end")
}

func (s *scanner) array(depth int) error {
	s.i++
	if s.peek() == ']' {
		s.i++
		return nil
	}
	for {
		if err := s.skip(depth + 1); err != nil {
			return err
		}
		if s.peek() != ',' {
			return s.expect(']')
		}
		s.i++
	}
}

// literalByte says whether c may stand in a number, true, false or null, or in
// the NaN and Infinity of others.
func literalByte(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '-' || c == '+' || c == '.'
}

// end sees to it that nothing follows.
func (s *scanner) end() error {
	if s.peek() != 0 || s.i < len(s.p) {
		return s.errorf("more after the end of the object")
	}
	return nil
}

// checkText refuses a line that is not UTF-8, with the place of the first byte
// that is not.
func checkText(line []byte) error {
	if utf8.Valid(line) {
		return nil
	}
	for i := 0; i < len(line); {
		r, n := utf8.DecodeRune(line[i:])
		if r == utf8.RuneError && n == 1 {
			return fmt.Errorf("byte %d (%#02x) is not UTF-8: iconv -f LATIN1 -t UTF-8 FILE | mqttetl import -, if that is what the file is in", i+1, line[i])
		}
		i += n
	}
	return nil
}

// checkBeginning refuses files that are text in another encoding.
func checkBeginning(p []byte) error {
	if len(p) < 2 {
		return nil
	}
	name := ""
	switch mark := binary.BigEndian.Uint16(p); {
	case mark == 0xfffe || mark == 0xfeff:
		name = "UTF-16"
	case len(p) >= 4 && p[1] == 0 && p[3] == 0 && p[0] != 0 && p[2] != 0:
		name = "UTF-16LE"
	case len(p) >= 4 && p[0] == 0 && p[2] == 0 && p[1] != 0 && p[3] != 0:
		name = "UTF-16BE"
	default:
		return nil
	}
	return mqttetl.WithHint(errors.New("the file is UTF-16, and UTF-8 is read here"), "iconv -f "+name+" -t UTF-8 FILE | mqttetl import -")
}
