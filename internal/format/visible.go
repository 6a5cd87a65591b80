package format

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// text appends what a message holds: as it is or, for a terminal, visible.
func text(dst, s []byte, visible bool) []byte {
	if !visible {
		return append(dst, s...)
	}
	return Visible(dst, s)
}

// Visible appends s so that a terminal shows it and does not obey it: tabs, line
// ends and printable characters stay, every other byte becomes \xNN.
func Visible(dst, s []byte) []byte {
	for len(s) > 0 {
		r, n := utf8.DecodeRune(s)
		if r == '\n' || r == '\t' || unicode.IsPrint(r) && (r != utf8.RuneError || n > 1) {
			dst = append(dst, s[:n]...)
		} else {
			for _, b := range s[:n] {
				dst = fmt.Appendf(dst, `\x%02x`, b)
			}
		}
		s = s[n:]
	}
	return dst
}

// lineEnds makes of the characters that Visible leaves what stands in one line.
var lineEnds = strings.NewReplacer("\n", `\x0a`, "\t", `\x09`)

// Line is s such that a terminal does not obey it and no line of a table or of a
// list is broken by it.
func Line(s string) string { return lineEnds.Replace(string(Visible(nil, []byte(s)))) }

// OneLine keeps the parts of a joined or suggesting error on one line, and what
// a broker, a file name or a topic put into it from a terminal that obeys it.
func OneLine(err error) string {
	return Line(strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; "))
}
