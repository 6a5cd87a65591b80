package decode

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/mqttetl/mqttetl/internal/jsonstring"
)

// text reads a string and takes its escapes away. A string may hold bytes that
// JSON forbids; what is not UTF-8 becomes U+FFFD.
func (m *mender) text(quote byte) string {
	if quote == '\'' {
		m.note("single quotes at byte %d", m.i)
	}
	m.i++
	raw := slices.Grow(m.raw[:0], bytes.IndexByte(m.b[m.i:], quote)+1)
	defer func() { m.raw = raw }()
	for m.i < len(m.b) {
		c := m.b[m.i]
		n := 1
		switch {
		case c == quote:
			m.i++
			return string(unescaped(raw[:0], raw)) // no escape is shorter than what it means
		case c == '\\':
			raw, n = m.escape(raw)
		case c < utf8.RuneSelf:
			if c < 0x20 && m.what == "" {
				m.note("control byte 0x%02x within a string at byte %d", c, m.i)
			}
			raw = append(raw, c)
		default:
			var r rune
			if r, n = utf8.DecodeRune(m.b[m.i:]); r == utf8.RuneError && n == 1 {
				raw = m.growReplaced(raw, quote)
				if m.what == "" { // the arguments of a note are allocated, for each byte here
					m.note("invalid UTF-8 at byte %d reads as U+FFFD", m.i)
				}
			}
			raw = utf8.AppendRune(raw, r)
		}
		m.i += n
	}
	m.cut = true
	return ""
}

// escape appends the escape sequence that comes next, or what its bytes are if
// it is none.
func (m *mender) escape(raw []byte) ([]byte, int) {
	rest := m.b[m.i:]
	if n := jsonstring.EscapeLen(rest); n > 0 {
		return append(raw, rest[:n]...), n
	}
	if m.what == "" {
		m.note("unknown escape within a string at byte %d", m.i)
	}
	if len(rest) > 1 && rest[1] == '\'' {
		return append(raw, '\''), 2
	}
	return append(raw, `\\`...), 1
}

// growReplaced makes room for three bytes in the place of each up to the quote.
func (m *mender) growReplaced(raw []byte, quote byte) []byte {
	if cap(raw)-len(raw) >= utf8.UTFMax {
		return raw
	}
	most := 3 * (bytes.IndexByte(m.b[m.i:], quote) + 2)
	if m.left.take(2*(most+len(raw))) != nil { // and once more as a string
		m.i = len(m.b)
		return raw
	}
	raw = slices.Grow(raw, most)
	return raw
}

// bare reads what has no quotes: a number, a word, or nothing at all.
func (m *mender) bare() (any, error) {
	start, end := m.i, m.i
	for end < len(m.b) && strings.IndexByte("\"{[:,]}", m.b[end]) < 0 {
		end++
	}
	token := bytes.TrimSpace(m.b[start:end])
	m.i = end
	if end == len(m.b) { // it may have gone on
		m.cut = true
		return nil, nil
	}
	m.whole++
	if v, ok := jsonNumber(token); ok {
		return v, nil
	}
	v, ok := bareWord(token)
	if !ok && len(token) > 0 {
		v, ok = looseNumber(token)
	}
	if !ok && strings.IndexByte("\"{[:", m.b[end]) >= 0 {
		return nil, m.unexpected()
	}
	if !ok {
		m.whole--
	}
	switch w := string(token); {
	case w == "true", w == "false", w == "null":
	case w == "":
		m.note("a value is missing at byte %d: it reads as null", start)
	default:
		m.note("%s at byte %d reads as %s", shorten(token), start, nameOf(v))
	}
	return v, nil
}

// bareWord reads a word that other languages write into JSON.
func bareWord(w []byte) (v any, known bool) {
	switch strings.ToLower(string(w[:min(len(w), 16)])) {
	case "true":
		return true, true
	case "false":
		return false, true
	case "null", "none", "nil", "undefined":
		return nil, true
	}
	return nil, len(w) < 32 && NotFinite(string(w))
}

var notFinite = regexp.MustCompile(`(?i)^[-+]?(nan|nan\([a-z0-9]*\)|inf|infinity|1\.#(inf|ind|qnan|snan)[0-9]*)$`)

// NotFinite says whether a text is what printf writes for a number that is
// none: nan, -inf, Infinity, 1.#QNAN.
func NotFinite(s string) bool { return len(s) < 32 && notFinite.MatchString(s) }
