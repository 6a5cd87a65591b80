// Package visible makes text such that a terminal shows it and does not obey it.
package visible

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Append appends s so that a terminal shows it and does not obey it: tabs, line
// ends and printable characters stay, every other byte becomes \xNN.
func Append(dst, s []byte) []byte {
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

// Text is s such that a terminal shows it and does not obey it.
func Text(s string) string { return string(Append(nil, []byte(s))) }

// lineEnds makes of the characters that Append leaves what is in one line.
var lineEnds = strings.NewReplacer("\n", `\x0a`, "\t", `\x09`)

// Line is s such that a terminal does not obey it and no line of a table or of a
// list is broken by it.
func Line(s string) string { return lineEnds.Replace(Text(s)) }

// OneLine keeps the parts of a joined or suggesting error on one line, and what
// a broker, a file name or a topic put into it from a terminal that obeys it.
func OneLine(err error) string {
	return Line(strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' }), "; "))
}
