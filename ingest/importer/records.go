package importer

import (
	"bytes"
	"errors"
	"io"
)

// errTorn: JSON that goes on in lines which the format does not tell from messages.
var errTorn = errors.New("a payload of JSON that continues in the lines after it: only a format that begins with a time, or has %l before %p, can tell them from messages")

// line returns what the next message stands in: a line, or several.
func (m *Importer) line() ([]byte, error) {
	switch {
	case m.table != nil:
		return m.row()
	case m.text != nil:
		return m.textLines()
	}
	line, err := m.lines.next()
	return withoutReturn(line), err
}

func withoutReturn(line []byte) []byte { return bytes.TrimSuffix(line, []byte("\r")) }

// row returns the next line of CSV, with those that a quoted field goes on in.
// A quote that does not close costs its own line only: those after it are read
// again as lines of their own.
func (m *Importer) row() ([]byte, error) {
	line, err := m.lines.next()
	if errors.Is(err, io.EOF) && m.unclosed {
		m.at.Open = openField
	}
	if err != nil {
		return nil, err
	}
	sep := m.table.sep
	if open, _ := openQuote(line, sep, false); !open {
		return withoutReturn(line), nil
	}
	m.lines.keep(line)
	for open, bad := true, false; open; {
		if line, err = m.lines.next(); err != nil {
			break
		}
		if open, bad = openQuote(line, sep, true); bad || m.lines.kept() > maxLine {
			return withoutReturn(m.lines.back()), nil
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		m.unclosed = true
		return withoutReturn(m.lines.back()), nil
	case err != nil:
		m.lines.whole() // is passed over
		return nil, err
	}
	return withoutReturn(m.lines.whole()), nil
}

// beginning says how the beginning of a message is known on resuming; nil: each
// line is one.
func (m *Importer) beginning() func(head []byte) bool {
	if m.text == nil {
		return nil
	}
	return m.text.begins
}

// textLines returns the next line of a text format, with those that its payload
// goes on in: up to its length if that is said, else up to the next line that
// begins as a message does.
func (m *Importer) textLines() ([]byte, error) {
	line, err := m.lines.next()
	if err != nil {
		m.begins = false
		if errors.Is(err, io.EOF) && m.last {
			m.at.Open = openPayload
			if m.lines.open != 0 {
				m.at.Open = openPayloadLine
			}
		}
		return nil, err
	}
	begins := m.begins || m.text.begins(line[:min(len(line), headSize)])
	if m.begins = false; !begins {
		return withoutReturn(line), nil
	}
	if need := m.text.need(line); need >= 0 {
		return m.ofLength(line, need)
	}
	kept := false
	keep := func() {
		if !kept {
			m.lines.keep(line)
			line, kept = m.lines.text(), true
		}
	}
	for n := 0; ; n++ {
		if !m.lines.near() {
			keep()
		}
		head, more, err := m.lines.ahead()
		if err == nil && m.ends(line, n, head, more) {
			break
		}
		keep()
		if err == nil {
			_, err = m.lines.next()
		}
		if err == nil && m.lines.kept() > maxLine {
			err = errLong
		}
		if err != nil { // is passed over
			m.lines.whole()
			return nil, err
		}
	}
	if kept {
		line = m.lines.whole()
	}
	return withoutReturn(line), nil
}

// ends says whether a message ends after n lines that have been added to its
// first one, before a line that begins so.
func (m *Importer) ends(first []byte, n int, next []byte, more bool) bool {
	t := m.text
	m.last = !more && t.known > 0
	switch {
	case !more:
		return true
	case t.known > 0:
		m.begins = t.begins(next)
		return m.begins
	case n < t.breaks:
		return false
	case t.breaks > 0:
		return true
	}
	if t.begins(next) || !m.torn && !t.opensJSON(first) {
		return true
	}
	m.torn = true
	return false
}

// ofLength returns a message of so many bytes that begins with a line, or the line
// alone if no line ends there.
func (m *Importer) ofLength(line []byte, need int) ([]byte, error) {
	if len(line) == need {
		return line, nil
	}
	if len(line) > need || need > maxLine {
		return withoutReturn(line), nil
	}
	m.lines.keep(line)
	for len(m.lines.text()) < need {
		if _, err := m.lines.next(); errors.Is(err, io.EOF) {
			return withoutReturn(m.lines.back()), nil
		} else if err != nil {
			m.lines.whole() // is passed over
			return nil, err
		}
	}
	switch text := m.lines.text(); {
	case len(text) == need:
		return m.lines.whole(), nil
	case string(text[need:]) == "\r":
		return m.lines.whole()[:need], nil
	}
	return withoutReturn(m.lines.back()), nil
}
