package importer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/mqttetl/mqttetl/internal/mosquitto/format"
)

// ownTracks is the name of the format of OwnTracks Recorder's .rec files: a time, a
// topic below that of the device, * for that itself, in 18 bytes, and the payload.
const ownTracks = "owntracks"

// below is the letter of a topic below the given one.
const below = 'o'

// readable are the letters of mosquitto_sub -F that can be read back.
const readable = "IUtpxXqrlmjJ" + ofProperties

// textFormat reads what mosquitto_sub -F, or another program, has printed by a
// format. A value ends where the text after its letter begins; only the payload
// may hold that text, and only if it stands last.
type textFormat struct {
	*reader
	pieces []format.Part
	known  int  // so many pieces at the beginning show where a message begins; 0: none do
	front  int  // so many stand before the payload; len(pieces) if it is not among them
	breaks int  // line feeds of the format itself
	exact  bool // %l stands before %p, which stands last but for text
	// encoding is how %p is written, "" if nothing was said.
	encoding string
}

// newTextFormat reads a format string.
func (r *reader) newTextFormat(s string) (*textFormat, error) {
	if s == ownTracks {
		return &textFormat{reader: r, known: 2, front: 4, pieces: []format.Part{
			{Verb: 'I'}, {Literal: "\t"}, {Verb: below, Left: true, Pad: ' ', Width: 18}, {Literal: "\t"}, {Verb: 'p'}}}, nil
	}
	f, err := format.Parse(s)
	if err != nil {
		return nil, OptionError{err}
	}
	t := &textFormat{reader: r, encoding: r.columns["%p"].encoding}
	if t.pieces, err = plainPieces(f.Parts()); err == nil {
		err = t.check()
	}
	if err != nil {
		return nil, badOption("format %q: %w", s, err)
	}
	t.measure()
	return t, nil
}

// plainPieces takes apart the letters of strftime that stand for others, and puts
// literal text together.
func plainPieces(parts []format.Part) (pieces []format.Part, err error) {
	add := func(p format.Part) {
		if n := len(pieces); p.Verb == 0 && n > 0 && pieces[n-1].Verb == 0 {
			pieces[n-1].Literal += p.Literal
			return
		}
		pieces = append(pieces, p)
	}
	for _, p := range parts {
		switch p.Verb {
		case '%':
			add(format.Part{Literal: "%"})
		case '@':
			letters, err := expand(p.Letter)
			if err != nil {
				return nil, err
			}
			for _, l := range letters {
				if l.letter == 0 {
					add(format.Part{Literal: l.text})
				} else {
					add(format.Part{Verb: '@', Letter: l.letter})
				}
			}
		default:
			add(p)
		}
	}
	return pieces, nil
}

// ends says whether the end of a value is known without the text after it.
func ends(p *format.Part) bool {
	return p.Verb == 0 || p.Verb == '@' || p.Verb == 'q' || p.Verb == 'r'
}

// check returns why a format cannot be read back.
func (t *textFormat) check() error {
	letters, times := "", ""
	for i := range t.pieces {
		p := &t.pieces[i]
		switch p.Verb {
		case 0:
			continue
		case '@':
			times += string(p.Letter)
		default:
			if strings.IndexByte(readable, p.Verb) < 0 {
				return fmt.Errorf("%%%c cannot be read back; known are @ and the letters of strftime, and %%%s", p.Verb, strings.Join(strings.Split(readable, ""), " %"))
			}
		}
		if i+1 < len(t.pieces) && !ends(p) && t.pieces[i+1].Verb != 0 {
			return fmt.Errorf("text must stand between two letters")
		}
		if strings.IndexByte("jJ", p.Verb) >= 0 && p.Verb != 0 && i+1 < len(t.pieces) {
			return fmt.Errorf("%%%c must stand last", p.Verb)
		}
		letters += string(p.Verb)
	}
	switch {
	case strings.ContainsAny(letters, "jJ"):
	case !strings.ContainsAny(letters, "pxX"):
		return fmt.Errorf("must be ndjson, csv, owntracks, or letters with the payload, %%p")
	case !strings.Contains(letters, "t") && len(t.topic) == 0:
		return fmt.Errorf("has no topic: %%t, or --topic gives one")
	case strings.Contains(letters, "t") && len(t.topic) > 0:
		return fmt.Errorf("has %%t, so that --topic is for no line")
	}
	if times != "" {
		return tellsTime(times)
	}
	if t.times != nil && !strings.ContainsAny(letters, "IUjJ") {
		return fmt.Errorf("has no time, %%I, that --time-format could be for")
	}
	return nil
}

// measure finds out which pieces show where a message begins.
func (t *textFormat) measure() {
	t.front = len(t.pieces)
	recognized, length, open := false, false, true
	for i, p := range t.pieces {
		t.breaks += strings.Count(p.Literal, "\n")
		if strings.IndexByte("pxXjJ", p.Verb) >= 0 && p.Verb != 0 && i < t.front {
			t.front = i
			t.exact = length && p.Verb == 'p' && p.Width == 0 && i+2 >= len(t.pieces)
		}
		length = length || p.Verb == 'l'
		open = open && p.Verb != 't' && i < t.front && !strings.Contains(p.Literal, "\n")
		recognized = recognized || p.Verb != 0 || strings.TrimSpace(p.Literal) != ""
		if open && recognized {
			t.known = i + 1
		}
	}
}

// headSize is how much of a line is looked at to find out whether it is the
// beginning of a message.
const headSize = 4096

// begins says whether a line can be the beginning of a message: by what shows it
// or, in a format that has nothing to show it, by what stands before the payload.
func (t *textFormat) begins(head []byte) bool {
	pieces := t.known
	if pieces == 0 && t.breaks > 0 {
		return true
	}
	if pieces == 0 {
		pieces = t.front
	}
	s := textScan{f: t, rest: head, length: -1}
	err := s.read(pieces)
	if err == nil && t.known == 0 && len(s.e.Topic)+len(t.topic) == 0 && t.front > 0 {
		err = errNoTopic
	}
	if err == nil && t.known == 0 && len(s.e.Topic) > 0 {
		err = checkTopic(s.e.Topic, false)
	}
	return err == nil || s.short && len(head) >= headSize
}

// opensJSON says whether the payload of a line is the beginning of an object or
// array of JSON.
func (t *textFormat) opensJSON(line []byte) bool {
	e, err := t.parse(line)
	p := bytes.TrimLeft(e.Payload, " \t")
	return err == nil && len(p) > 0 && (p[0] == '{' || p[0] == '[') && !json.Valid(p)
}

// need is how long the text of a message is that begins with a line, if its
// payload has its length before it; else -1.
func (t *textFormat) need(line []byte) int {
	if !t.exact {
		return -1
	}
	s := textScan{f: t, rest: line, length: -1}
	if s.read(t.front) != nil {
		return -1
	}
	n := len(line) - len(s.rest) + s.length
	for _, p := range t.pieces[t.front+1:] {
		n += len(p.Literal)
	}
	return n
}

// parse reads a message.
func (t *textFormat) parse(text []byte) (entry, error) {
	s := textScan{f: t, rest: text, length: -1}
	err := s.read(len(t.pieces))
	if err == nil && len(s.rest) > 0 {
		err = fmt.Errorf("more after byte %d", len(text)-len(s.rest))
	}
	if err == nil && s.moment != nil {
		s.e.timed = true
		s.e.time, s.e.wall, err = s.moment.ns()
	}
	if err == nil {
		err = t.payload(&s)
	}
	if err == nil {
		err = t.reader.check(&s.e, false)
	}
	return s.e, err
}

// payload decodes %p, and compares it with its length.
func (t *textFormat) payload(s *textScan) (err error) {
	if t.front < len(t.pieces) && t.pieces[t.front].Verb == 'p' {
		if t.encoding == "" && s.length < 0 {
			if err = readTwoWays(s.e.Payload, "%p"); err != nil {
				err = fmt.Errorf("payload: %w", err)
			}
		} else if s.e.Payload, err = decodeText(t.encoding, s.e.Payload); err != nil {
			err = fmt.Errorf("payload: %w", err)
		}
	}
	if err == nil && s.length >= 0 && s.length != len(s.e.Payload) {
		err = fmt.Errorf("a payload of %d bytes, %%l says %d", len(s.e.Payload), s.length)
	}
	return err
}

// textScan is the reading of a text by a format.
type textScan struct {
	f      *textFormat
	e      entry
	moment *moment
	rest   []byte
	length int    // %l, -1: not said
	timed  string // the time that has been read
	short  bool   // what was missing may stand after the text
}

// read reads so many pieces.
func (s *textScan) read(pieces int) (err error) {
	whole := len(s.rest)
	for i := range pieces {
		p := &s.f.pieces[i]
		n := 0
		switch {
		case p.Verb == 0:
			if n = len(p.Literal); !bytes.HasPrefix(s.rest, []byte(p.Literal)) {
				return fmt.Errorf("%q is missing after byte %d", p.Literal, whole-len(s.rest))
			}
		case p.Verb == '@':
			if s.moment == nil {
				m := newMoment(s.f.zone)
				s.moment = &m
			}
			n, err = s.moment.take(p.Letter, string(s.rest[:min(len(s.rest), 40)]))
		default:
			if n, err = s.extent(i); err == nil {
				err = s.set(p, s.rest[:n])
			} else {
				err = fmt.Errorf("%w after byte %d", err, whole-len(s.rest))
			}
		}
		if err != nil {
			return err
		}
		s.rest = s.rest[n:]
	}
	return nil
}

// extent is how long the value of a letter is.
func (s *textScan) extent(i int) (n int, err error) {
	pieces, p := s.f.pieces, &s.f.pieces[i]
	payload := strings.IndexByte("pxX", p.Verb) >= 0
	switch {
	case p.Verb == 'p' && s.length >= 0 && p.Width == 0 && s.length <= len(s.rest):
		return s.length, nil
	case i+1 == len(pieces):
		return len(s.rest), nil
	case pieces[i+1].Verb != 0: // of a letter that ends by itself
		return min(1, len(s.rest)), nil
	case payload && i+2 == len(pieces) && bytes.HasSuffix(s.rest, []byte(pieces[i+1].Literal)):
		return len(s.rest) - len(pieces[i+1].Literal), nil
	}
	next := []byte(pieces[i+1].Literal)
	if p.Verb == 'I' || p.Verb == 'U' {
		return s.timeExtent(next)
	}
	from := min(p.Width, len(s.rest))
	if n = bytes.Index(s.rest[from:], next); n < 0 {
		s.short = true
		return 0, fmt.Errorf("%q is missing", next)
	}
	return from + n, nil
}

// timeSize is the longest text that is taken for a time.
const timeSize = 64

// timeExtent finds the end of a time, which may hold the text that stands after it.
func (s *textScan) timeExtent(next []byte) (n int, err error) {
	good, first := -1, -1
	for end := min(len(s.rest), timeSize); n <= end; n++ {
		at := bytes.Index(s.rest[n:], next)
		if at < 0 || n+at > timeSize {
			break
		}
		n += at
		if first < 0 {
			first = n
		}
		var e entry
		text := string(bytes.TrimSpace(s.rest[:n]))
		if s.f.setTime(&e, text) == nil {
			good, s.timed = n, text
			s.e.time, s.e.timed, s.e.wall = e.time, e.timed, e.wall
		} else if good >= 0 {
			break
		}
		if good == n && !zoneFollows(s.rest[n+len(next):]) {
			break
		}
	}
	switch {
	case good >= 0:
		return good, nil
	case first >= 0:
		return first, nil // says why it is none
	}
	s.short = len(s.rest) < timeSize
	return 0, fmt.Errorf("%q is missing", next)
}

// zoneFollows says whether a text begins as a zone does.
func zoneFollows(s []byte) bool {
	if len(s) < 3 {
		return false
	}
	_, digits := digitsOf(string(s[1:3]), 2)
	return (s[0] == '+' || s[0] == '-') && digits || string(s[:3]) == "UTC" || string(s[:3]) == "GMT" || string(s[1:2]) == "M"
}

// set takes the value of a letter.
func (s *textScan) set(p *format.Part, value []byte) (err error) {
	e := &s.e
	value, cut := unpad(p, value)
	if cut {
		return fmt.Errorf("%%%c may have been cut at %d bytes, which the format says", p.Verb, len(value))
	}
	switch p.Verb {
	case 'I', 'U':
		value = bytes.TrimSpace(value)
		if s.timed == string(value) && s.timed != "" { // timeExtent has read it
			return nil
		}
		return s.f.setTime(e, string(value))
	case 't':
		e.Topic = value
	case below:
		e.Topic = s.f.topic
		if string(value) != "*" {
			e.Topic = fmt.Appendf(nil, "%s/%s", s.f.topic, value)
		}
	case 'p':
		e.Payload = value
	case 'x', 'X':
		if p.Precision > 0 { // any character may stand between groups of digits
			value = bytes.Map(hexOnly, value)
		}
		e.Payload, err = decodeHex(value)
	case 'j', 'J':
		return s.json(value)
	case 'q':
		return e.setFlag("qos", string(value))
	case 'r':
		return e.setFlag("retain", string(value))
	case 'l':
		s.length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
		if s.length < 0 || err != nil {
			return fmt.Errorf("%q is no length", value)
		}
	case 'm':
		_, err = strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 32)
	default:
		e.Properties, err = appendLetter(e.Properties, p.Verb, value)
	}
	return err
}

// hexOnly keeps hexadecimal digits.
func hexOnly(r rune) rune {
	if r >= '0' && r <= '9' || r|0x20 >= 'a' && r|0x20 <= 'f' {
		return r
	}
	return -1
}

// json takes a message that is JSON, and keeps the time that stood before it.
func (s *textScan) json(value []byte) error {
	before := s.e
	e, err := s.f.parseJSON(value)
	if !e.timed {
		e.time, e.timed, e.wall = before.time, before.timed, before.wall
	}
	if len(before.Topic) > 0 {
		e.Topic = before.Topic
	}
	s.e = e
	return err
}

// unpad takes away what fills a value up to its width. cut says that the value may
// have been longer.
func unpad(p *format.Part, value []byte) (v []byte, cut bool) {
	payload := strings.IndexByte("pxX", p.Verb) >= 0
	if p.Precision >= 0 && p.Verb == 't' && len(value) >= p.Width {
		return value, len(value) == p.Precision
	}
	if p.Width == 0 || len(value) < p.Width || p.Verb == 'D' || p.Verb == 'P' {
		return value, false
	}
	if len(value) > p.Width {
		return value, payload && p.Verb != 'p' && len(value) == 2*p.Width
	}
	switch {
	case p.Left:
		v = bytes.TrimRight(value, " ")
	case payload, strings.IndexByte("tICR", p.Verb) >= 0:
		v = bytes.TrimLeft(value, " ")
	default:
		v = bytes.TrimLeft(value, string(p.Pad))
	}
	return v, payload && len(v) == len(value)
}
