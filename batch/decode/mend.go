package decode

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// mender reads what devices write for JSON and is none. It runs after the
// scanner has refused a payload, so it cannot change what JSON means. What is
// whole keeps its value; what is not a value of JSON is null, never a guess.
type mender struct {
	scanner
	what  string // was mended first
	whole int    // values that are what they say
	raw   []byte // of the text at hand
	cut   bool   // the payload has ended within the document
}

// mend reads a payload that is no JSON because of refused. It returns its
// documents, of which a payload can hold several, and what was mended first. left
// is what the first reader has left of the budget.
func mend(p []byte, maxDepth int, left budget, refused error) (docs []any, what string, err error) {
	m := &mender{scanner: scanner{b: p, max: maxDepth, left: left}}
	if text, ok := fromUTF16(p); ok {
		m.b = text
		m.note("the payload is UTF-16")
	}
	if m.i = len(m.b) - len(trimStart(m.b)); m.i > 0 && len(bytes.TrimSpace(m.b[:m.i])) > 0 {
		m.note("a byte order mark or NUL is before the JSON")
	}
	m.b = m.trimEnd()
	doc, err := m.document()
	switch {
	case err != nil:
		return nil, "", err
	case m.whole == 0:
		return nil, "", refused // nothing of it is known
	}
	if _, isText := doc.(string); isText {
		if _, more := m.space(); more {
			return nil, "", refused // "t":21.5} has lost its beginning
		}
	}
	docs = append(docs, doc)
	for !m.cut && m.more() {
		at := m.i
		next, err := m.document()
		if err != nil || m.cut {
			m.note("what follows the JSON at byte %d is left out", at)
			break
		}
		docs = append(docs, next)
	}
	return docs, m.what, nil
}

// note keeps what is mended, if it is the first.
func (m *mender) note(format string, args ...any) {
	if m.what == "" {
		m.what = fmt.Sprintf(format, args...)
	}
}

// isBlank is white space, and what devices send around a text by mistake.
func isBlank(r rune) bool {
	return r == 0 || r == '\ufeff' || r == '\u00a0' || r == ' ' || r >= '\t' && r <= '\r'
}

// Trim returns a text without what devices send around it by mistake: white
// space, NUL, a byte order mark.
func Trim(s string) string { return strings.TrimFunc(s, isBlank) }

func trimStart(b []byte) []byte { return bytes.TrimLeftFunc(b, isBlank) }

// trimEnd returns the payload without the NUL of a C string and white space.
func (m *mender) trimEnd() []byte {
	b := bytes.TrimRightFunc(m.b, isBlank)
	if len(bytes.TrimSpace(m.b[len(b):])) > 0 {
		m.note("NUL follows the JSON at byte %d", len(b))
	}
	return b
}

// fromUTF16 returns the text of what must be UTF-16: it has the mark of it, or
// begins with a bracket of two bytes.
func fromUTF16(p []byte) ([]byte, bool) {
	if len(p) < 2 {
		return nil, false
	}
	var order binary.ByteOrder = binary.LittleEndian
	switch first := binary.BigEndian.Uint16(p); first {
	case 0xfffe, '{' << 8, '[' << 8:
	case 0xfeff, '{', '[':
		order = binary.BigEndian
	default:
		return nil, false
	}
	text := make([]byte, 0, len(p)/2+len(p)/16)
	for ; len(p) >= 2; p = p[2:] {
		r := rune(order.Uint16(p))
		if utf16.IsSurrogate(r) {
			low := rune(0)
			if len(p) >= 4 {
				low = rune(order.Uint16(p[2:]))
			}
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				p = p[2:]
			}
		}
		text = utf8.AppendRune(text, r)
	}
	return text, true
}

// document reads what stands at the top.
func (m *mender) document() (any, error) {
	if c, ok := m.space(); ok && c != '{' && c != '[' && c != '"' {
		return m.bareDocument()
	}
	v, err := m.value()
	if err == nil && m.cut {
		m.note("the JSON ends too early, at byte %d", len(m.b))
	}
	return v, err
}

// bareDocument is a word alone: only what must be meant for JSON is.
func (m *mender) bareDocument() (any, error) {
	word := string(m.b[m.i:min(len(m.b), m.i+32)])
	v, known := bareWord(m.b[m.i:])
	if !known || !NotFinite(word) && !slices.Contains([]string{"None", "True", "False"}, word) {
		return nil, m.unexpected()
	}
	m.note("%q reads as %v", shorten(m.b[m.i:]), nameOf(v))
	m.i = len(m.b)
	m.whole++
	return v, nil
}

func nameOf(v any) string {
	if v == nil {
		return "null"
	}
	return fmt.Sprint(v)
}

// more finds the next document. What else follows is left out.
func (m *mender) more() bool {
	c, ok := m.space()
	if ok && c == ',' {
		m.i++
		c, ok = m.space()
	}
	switch {
	case !ok:
		return false
	case c != '{' && c != '[':
		m.note("what follows the JSON at byte %d is left out", m.i)
		return false
	}
	m.note("a second document begins at byte %d", m.i)
	return true
}

// space skips blanks and returns the byte after them, false at the end.
func (m *mender) space() (byte, bool) {
	for m.i < len(m.b) {
		switch c := m.b[m.i]; c {
		case ' ', '\n', '\t', '\r':
		case 0, '\v', '\f':
			m.note("control byte 0x%02x at byte %d is left out", c, m.i)
		default:
			return c, true
		}
		m.i++
	}
	return 0, false
}

// bareCost is that of a value without quotes, with the words for what was wrong with it.
const bareCost = 320

func (m *mender) value() (any, error) {
	c, ok := m.space()
	switch {
	case !ok:
		m.cut = true
		return nil, nil
	case c == '{':
		return m.object()
	case c == '[':
		return m.array()
	case c == '"', c == '\'':
		s := m.text(c)
		if err := m.spend(0); err != nil {
			return nil, err
		}
		if m.cut {
			return nil, nil
		}
		m.whole++
		return s, m.spend(textCost + len(s))
	}
	if err := m.spend(bareCost); err != nil {
		return nil, err
	}
	return m.bare()
}

func (m *mender) object() (any, error) {
	if err := m.open(); err != nil {
		return nil, err
	}
	if err := m.spend(objectCost); err != nil {
		return nil, err
	}
	doc := map[string]any{}
	for comma := true; ; {
		c, ok := m.space()
		switch {
		case !ok:
			m.cut = true
			return doc, nil
		case c == '}':
			if comma && len(doc) > 0 {
				m.note("a comma too many before byte %d", m.i)
			}
			m.close(len(doc))
			return doc, nil
		case c == ',':
			if comma {
				m.note("a comma too many at byte %d", m.i)
			}
			comma = true
			m.i++
			continue
		case !comma && c != '"':
			return nil, m.unexpected()
		case !comma:
			m.note("a comma is missing at byte %d", m.i)
		}
		if err := m.memberOf(doc); err != nil || m.cut {
			return doc, err
		}
		comma = false
	}
}

// close reads the bracket that ends n members or elements.
func (m *mender) close(n int) {
	m.i++
	m.depth--
	if n == 0 {
		m.whole++
	}
}

// memberOf reads a member of doc. One whose name is cut off is left out, one
// whose value is cut off is null.
func (m *mender) memberOf(doc map[string]any) error {
	name, err := m.name()
	if err != nil || m.cut {
		return err
	}
	c, ok := m.space()
	if !ok {
		m.cut = true
		return nil
	}
	if c != ':' {
		return m.unexpected()
	}
	m.i++
	m.space()
	start := m.i
	v, err := m.value()
	if err == nil {
		err = m.memberCost(len(doc), []byte(name))
	}
	if err != nil {
		return err
	}
	if _, whole := v.(int); whole {
		if f, ok := m.decimalComma(start); ok {
			v = f
		}
	}
	doc[name] = v
	return nil
}

// bareName is a name without quotes. One of digits alone is what follows a
// decimal comma, unless a colon follows.
var bareName = regexp.MustCompile(`^[A-Za-z_$0-9][A-Za-z_$0-9.-]*`)

func (m *mender) name() (string, error) {
	if c := m.b[m.i]; c == '"' || c == '\'' {
		return m.text(c), nil
	}
	name := bareName.Find(m.b[m.i:])
	if len(name) == 0 {
		return "", m.unexpected()
	}
	if end := m.i + len(name); end == len(m.b) && name[0] <= '9' && name[0] >= '0' {
		return "", m.unexpected()
	}
	m.note("the name %s at byte %d has no quotes", shorten(name), m.i)
	m.i += len(name)
	return string(name), nil
}

// afterComma are digits that are neither a name nor a value.
var afterComma = regexp.MustCompile(`^,([0-9]+)[ \t\r\n]*[,}]`)

// decimalComma takes the fraction of a number that was written "t":21,5.
func (m *mender) decimalComma(start int) (float64, bool) {
	found := afterComma.FindSubmatch(m.b[m.i:])
	if found == nil {
		return 0, false
	}
	text := string(bytes.TrimSpace(m.b[start:m.i])) + "," + string(found[1])
	dotted, ok := withoutComma(text)
	if !ok {
		return 0, false
	}
	f, err := strconv.ParseFloat(dotted, 64)
	if err != nil {
		return 0, false
	}
	m.note("%s at byte %d has a decimal comma", shorten(text), start)
	m.i += 1 + len(found[1])
	return f, true
}

func (m *mender) array() (any, error) {
	if err := m.open(); err != nil {
		return nil, err
	}
	if err := m.spend(textCost); err != nil {
		return nil, err
	}
	var doc growing
	for comma := true; ; {
		c, ok := m.space()
		switch {
		case !ok:
			m.cut = true
			return doc.array(), nil
		case c == ']':
			if comma && doc.n > 0 {
				m.note("a comma too many before byte %d", m.i)
			}
			m.close(doc.n)
			return doc.array(), nil
		case c == ',':
			if comma {
				m.note("an element is missing at byte %d: it reads as null", m.i)
				doc.add(nil)
				if err := m.spend(elementCost); err != nil {
					return nil, err
				}
			}
			comma = true
			m.i++
			continue
		case !comma:
			return nil, m.unexpected()
		}
		v, err := m.value()
		if err == nil {
			err = m.spend(elementCost)
		}
		if err != nil {
			return doc.array(), err
		}
		doc.add(v)
		if m.cut {
			return doc.array(), nil
		}
		comma = false
	}
}
