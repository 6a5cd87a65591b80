package importer

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// spread says whether JSON is not an object a line, but an array of objects, or
// objects over several lines as programs print them for people, or several in a line.
func spread(head []byte) bool {
	text := bytes.TrimLeft(head, " \t\r\n")
	first, _, more := bytes.Cut(text, []byte("\n"))
	first = bytes.TrimRight(first, " \t\r")
	return bytes.HasPrefix(text, []byte("[")) || more && bytes.IndexByte([]byte("{[,:"), first[len(first)-1]) >= 0 ||
		severalObjects(first)
}

// severalObjects says whether a line goes on after its first object with another.
func severalObjects(line []byte) bool {
	s := scanner{p: line}
	_, err := s.value()
	return err == nil && s.peek() == '{'
}

// looksLikeJSON says whether a text begins as an object or an array of objects.
func looksLikeJSON(head []byte) bool {
	text := bytes.TrimLeft(head, " \t\r\n")
	if bytes.HasPrefix(text, []byte("[")) {
		text = bytes.TrimLeft(text[1:], " \t\r\n")
		return len(text) == 0 || bytes.IndexByte([]byte("{[]"), text[0]) >= 0
	}
	return bytes.HasPrefix(text, []byte("{"))
}

// unwrapper turns such JSON into NDJSON: the white space between values is left
// out, and so is the array around the objects; all other bytes stay as they are.
// Its lines are the same at each reading, so that a position in them can be kept.
type unwrapper struct {
	r      *bufio.Reader
	out    []byte // made and not read yet
	at     int
	array  bool // within the array around the objects
	depth  int  // of brackets within a value
	value  bool // within a value
	text   bool // within a string
	escape bool // after a backslash
	err    error
}

// unwrapSize is about how much is made at a time.
const unwrapSize = 64 << 10

func (u *unwrapper) Read(p []byte) (int, error) {
	for u.at == len(u.out) {
		if u.err != nil {
			return 0, u.err
		}
		u.out, u.at = u.out[:0], 0
		u.fill()
	}
	n := copy(p, u.out[u.at:])
	u.at += n
	return n, nil
}

func (u *unwrapper) fill() {
	for len(u.out) < unwrapSize {
		if u.text && !u.escape {
			u.passText()
		}
		c, err := u.r.ReadByte()
		if err != nil {
			if u.err = err; errors.Is(err, io.EOF) && u.array && !u.value {
				u.out = append(u.out, unendedArray+"\n"...)
			}
			return
		}
		u.take(c)
	}
}

// passText takes what has been read up to what ends a string or stands for
// something else in it.
func (u *unwrapper) passText() {
	p, _ := u.r.Peek(u.r.Buffered()) // no more than there is
	n := 0
	for n < len(p) && p[n] != '"' && p[n] != '\\' && p[n] != '\n' {
		n++
	}
	u.out = append(u.out, p[:n]...)
	u.r.Discard(n)
}

// unendedArray is the line that stands for the missing end of an array.
const unendedArray = "]"

func (u *unwrapper) take(c byte) {
	switch {
	case u.text:
		u.inText(c)
	case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		if u.value && u.depth == 0 { // of what is no object
			u.end()
		}
	case !u.value && c == '[' && !u.array:
		u.array = true
	case !u.value && c == ']' && u.array:
		u.array = false
	case u.depth == 0 && c == ',' && (u.array || !u.value):
		if u.value {
			u.end()
		}
	case u.depth == 0 && c == ']' && u.array:
		u.end()
		u.array = false
	default:
		u.inValue(c)
	}
}

func (u *unwrapper) inText(c byte) {
	switch {
	case c == '\n': // no string of JSON: what follows is another value
		u.end()
		return
	case u.escape:
		u.escape = false
	case c == '\\':
		u.escape = true
	case c == '"':
		u.text = false
	}
	u.out = append(u.out, c)
}

func (u *unwrapper) inValue(c byte) {
	u.value = true
	u.out = append(u.out, c)
	switch c {
	case '"':
		u.text = true
	case '{', '[':
		u.depth++
	case '}', ']':
		if u.depth--; u.depth <= 0 {
			u.end()
		}
	}
}

// end ends a value, and its line.
func (u *unwrapper) end() {
	u.out = append(u.out, '\n')
	u.value, u.text, u.escape, u.depth = false, false, false, 0
}
