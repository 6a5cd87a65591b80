// Package format prints messages as mosquitto_sub prints them. Its invariant: a
// format string that mosquitto_sub 2.0 accepts gives the same bytes here, but
// for what would not be valid JSON or not a valid RFC 3339 time. What 2.1 has
// added is here, too.
//
// Known differences: times carry their offset as RFC 3339 wants it (%I, and tst
// in JSON, where mosquitto_sub writes "Z+0000"); JSON is valid and without loss
// whatever the message holds, see AppendJSON; hexadecimal with a width or a
// precision is that of 2.1, for 2.0 prints half the payload.
package format

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mqttetl/mqttetl"
)

// Message is a message as a client received it.
type Message struct {
	mqttetl.Message
	ID   uint16    // packet id; 0 with QoS 0
	Time time.Time // of receipt, in the zone in which it is to be printed
}

// Style is how messages are printed. The zero value prints payloads only.
type Style struct {
	Verbose bool // topic and payload; a Format goes first
	Format  *Format
	NoEOL   bool // no line end after a message
	Visible bool // control bytes that a message holds are made visible, for a terminal
}

// Append appends m as s wants it. An empty payload prints nothing at all, and
// "(null)" if s is verbose.
func (s Style) Append(dst []byte, m *Message) ([]byte, error) {
	switch {
	case s.Format != nil:
		var err error
		if dst, err = s.Format.append(dst, m, s.Visible); err != nil {
			return append(dst, s.eol()...), err
		}
	case s.Verbose && len(m.Payload) == 0:
		if s.NoEOL {
			return dst, nil
		}
		dst = append(text(dst, m.Topic, s.Visible), " (null)"...)
	case s.Verbose:
		dst = append(text(dst, m.Topic, s.Visible), ' ')
		dst = text(dst, m.Payload, s.Visible)
	case len(m.Payload) == 0:
		return dst, nil
	default:
		dst = text(dst, m.Payload, s.Visible)
	}
	return append(dst, s.eol()...), nil
}

func (s Style) eol() string {
	if s.NoEOL {
		return ""
	}
	return "\n"
}

// Format is a parsed format string.
type Format struct {
	parts  []part
	Pretty bool // JSON over several lines
}

// A part is literal text or, with a verb, something about the message.
type part struct {
	literal   []byte
	verb      byte // a letter after %; '@' with letter for strftime; 0 for a literal
	letter    byte // of strftime
	left      bool
	pad       byte
	width     int
	precision int  // -1: none
	separator byte // between groups of hexadecimal digits
}

// verbs are the letters that may follow %.
const verbs = "%ACDdEFfIjJlmPpqRrStUxX"

// separators may be between hexadecimal digits: printable ASCII but letters,
// digits and %.
const separators = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~ "

// escapes are the characters that may follow a backslash.
var escapes = map[byte]byte{'\\': '\\', '0': 0, 'a': 7, 'e': 27, 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}

// maxWidth bounds a field: more is a typing error that would cost memory.
const maxWidth = 1 << 20

// Parse parses a format string of mosquitto_sub -F.
func Parse(s string) (*Format, error) {
	f := &Format{}
	var literal []byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c != '%' && c != '@' && c != '\\' {
			literal = append(literal, c)
			continue
		}
		if i == len(s)-1 {
			return nil, fmt.Errorf("format %q ends within a sequence", s)
		}
		i++
		switch {
		case c == '\\':
			e, ok := escapes[s[i]]
			if !ok {
				return nil, fmt.Errorf("format %q: unknown sequence \\%c", s, s[i])
			}
			literal = append(literal, e)
		case c == s[i]: // %% and @@
			literal = append(literal, c)
		case c == '@':
			f.add(&literal, part{verb: '@', letter: s[i]})
		default:
			p, n, err := parameter(s[i:])
			if err != nil {
				return nil, fmt.Errorf("format %q: %w", s, err)
			}
			i += n - 1
			f.add(&literal, p)
		}
	}
	f.add(&literal, part{})
	return f, nil
}

// add appends the literal text before p, and p.
func (f *Format) add(literal *[]byte, p part) {
	if len(*literal) > 0 {
		f.parts = append(f.parts, part{literal: *literal})
		*literal = nil
	}
	if p.verb != 0 {
		f.parts = append(f.parts, p)
	}
}

// parameter parses what follows a %: flags, width, precision, separator, letter.
func parameter(s string) (p part, n int, err error) {
	p = part{pad: ' ', precision: -1, separator: ' '}
	at := func() byte {
		if n < len(s) {
			return s[n]
		}
		return 0
	}
	number := func() (v int) {
		for ; at() >= '0' && at() <= '9'; n++ {
			v = min(v*10+int(at()-'0'), maxWidth)
		}
		return v
	}
	if at() == '-' {
		p.left = true
		n++
	}
	if at() == '0' {
		p.pad = '0'
		n++
	}
	p.width = number()
	if at() == '.' {
		n++
		p.precision = number()
	}
	if n < len(s) && strings.IndexByte(separators, s[n]) >= 0 {
		p.separator = s[n]
		n++
	}
	if n == len(s) {
		return p, n, fmt.Errorf("ends within a sequence")
	}
	p.verb = at()
	if strings.IndexByte(verbs, p.verb) < 0 {
		return p, n, fmt.Errorf("unknown letter %q after %%", p.verb)
	}
	return p, n + 1, nil
}

// append appends m as f says. The error is that of a payload that is not what
// %J, %f or %d want; the rest is appended all the same.
func (f *Format) append(dst []byte, m *Message, visible bool) ([]byte, error) {
	var failed error
	for i := range f.parts {
		p := &f.parts[i]
		switch p.verb {
		case 0:
			dst = append(dst, p.literal...)
		case '@':
			dst = strftime(dst, p.letter, m.Time)
		case 'j', 'J':
			out, err := AppendJSON(nil, m, p.verb == 'J')
			if err != nil {
				failed = err
				continue
			}
			if f.Pretty {
				out = indent(out)
			}
			dst = append(dst, out...)
		case 'f', 'd':
			v, err := float(p.verb, m)
			if err != nil {
				failed = err
				continue
			}
			dst = p.float(dst, v)
		default:
			dst = p.parameter(dst, m, visible)
		}
	}
	return dst, failed
}

func (p *part) parameter(dst []byte, m *Message, visible bool) []byte {
	switch p.verb {
	case '%':
		return append(dst, '%')
	case 'l':
		return p.number(dst, len(m.Payload), true)
	case 'm':
		return p.number(dst, int(m.ID), true)
	case 'q':
		return append(dst, byte('0'+m.Flags.QoS()))
	case 'r':
		if m.Flags.Retain() {
			return append(dst, '1')
		}
		return append(dst, '0')
	case 't':
		return p.string(dst, m.Topic, visible)
	case 'I':
		return p.string(dst, []byte(m.Time.Format(time.RFC3339)), false)
	case 'U':
		return fmt.Appendf(dst, "%d.%09d", m.Time.Unix(), m.Time.Nanosecond())
	case 'p', 'x', 'X':
		return p.payload(dst, m.Payload, visible)
	}
	return p.property(dst, m.Properties, visible)
}

// property prints a property of MQTT 5, blanks in its place if there is none.
func (p *part) property(dst []byte, props mqttetl.Properties, visible bool) []byte {
	switch p.verb {
	case 'A':
		return p.numberOf(dst, props, mqttetl.TopicAlias)
	case 'E':
		return p.numberOf(dst, props, mqttetl.MessageExpiry)
	case 'F':
		return p.numberOf(dst, props, mqttetl.PayloadFormat)
	case 'S':
		return p.numberOf(dst, props, mqttetl.SubscriptionIdentifier)
	case 'P':
		return users(dst, props, visible)
	case 'D':
		v, _ := find(props, mqttetl.CorrelationData)
		return text(dst, v.Value, visible)
	case 'R':
		if v, ok := find(props, mqttetl.ResponseTopic); ok {
			return p.string(dst, v.Value, visible)
		}
		return dst
	}
	if v, ok := find(props, mqttetl.ContentType); ok {
		return p.string(dst, v.Value, visible)
	}
	return fill(dst, ' ', p.width)
}

func (p *part) numberOf(dst []byte, props mqttetl.Properties, id mqttetl.PropertyID) []byte {
	v, ok := find(props, id)
	return p.number(dst, int(v.Number), ok)
}

// find returns the first property with an id.
func find(props mqttetl.Properties, id mqttetl.PropertyID) (v mqttetl.Property, ok bool) {
	for v := range props.All() {
		if v.ID == id {
			return v, true
		}
	}
	return v, false
}

// users prints the user properties as name:value, with blanks between them.
func users(dst []byte, props mqttetl.Properties, visible bool) []byte {
	first := true
	for v := range props.All() {
		if v.ID != mqttetl.UserProperty {
			continue
		}
		if !first {
			dst = append(dst, ' ')
		}
		first = false
		dst = append(text(dst, v.Name, visible), ':')
		dst = text(dst, v.Value, visible)
	}
	return dst
}

func (p *part) number(dst []byte, v int, there bool) []byte {
	if !there {
		return fill(dst, p.pad, p.width)
	}
	s := strconv.Itoa(v)
	if p.left {
		return fill(append(dst, s...), ' ', p.width-len(s))
	}
	return append(fill(dst, p.pad, p.width-len(s)), s...)
}

// string counts bytes, as printf does.
func (p *part) string(dst, s []byte, visible bool) []byte {
	if p.precision >= 0 {
		s = s[:min(len(s), p.precision)]
	}
	if p.left {
		return fill(text(dst, s, visible), ' ', p.width-len(s))
	}
	return text(fill(dst, ' ', p.width-len(s)), s, visible)
}

// payload prints at most width bytes of the payload if there is a width, also
// in hexadecimal, where a byte takes two digits.
func (p *part) payload(dst, s []byte, visible bool) []byte {
	if p.width > 0 {
		s = s[:min(len(s), p.width)]
	}
	if p.verb != 'p' {
		return p.hex(dst, s)
	}
	if p.left {
		return fill(text(dst, s, visible), ' ', p.width-len(s))
	}
	return text(fill(dst, p.pad, p.width-len(s)), s, visible)
}

// hex prints two digits a byte. With a precision, a separator ends every group
// of so many digits, padding included, but not the last digit.
func (p *part) hex(dst, s []byte) []byte {
	const lower, upper = "0123456789abcdef", "0123456789ABCDEF"
	digits := lower
	if p.verb == 'X' {
		digits = upper
	}
	padding := p.width - 2*len(s)
	at, last := 0, 2*len(s)
	if !p.left {
		last += max(padding, 0)
	}
	put := func(c byte) {
		dst = append(dst, c)
		if at++; p.precision > 0 && at%p.precision == 0 && (at < last || len(s) == 0) {
			dst = append(dst, p.separator)
		}
	}
	if !p.left {
		for range padding {
			put(p.pad)
		}
	}
	for _, b := range s {
		put(digits[b>>4])
		put(digits[b&15])
	}
	if p.left {
		dst = fill(dst, ' ', padding)
	}
	return dst
}

func fill(dst []byte, c byte, n int) []byte {
	for range n {
		dst = append(dst, c)
	}
	return dst
}
