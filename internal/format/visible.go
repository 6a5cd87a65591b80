package format

import (
	"fmt"
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
