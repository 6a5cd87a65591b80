// Package jsonstring reads strings of JSON (RFC 8259 §7) in place.
//
// Its invariant: what it takes is what encoding/json takes, and nothing is copied but
// strings with escapes, when they are asked for.
package jsonstring

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf16"
	"unicode/utf8"
)

// Fault is what is wrong with a string.
type Fault uint8

// The faults. OK is none.
const (
	OK      Fault = iota
	Unended       // the text ends before the string
	Control       // a control byte, which must be escaped
	Escape        // a backslash that begins no escape, or not all of one
	NotUTF8
)

const (
	ones  = 0x0101010101010101
	highs = 0x8080808080808080
)

// special has the high bit of the first byte in w that is a quote, a backslash,
// a control byte or not ASCII. Bits above that one may be wrong.
func special(w uint64) uint64 {
	quote := w ^ ones*'"'
	slash := w ^ ones*'\\'
	return ((quote - ones) | (slash - ones) | (w - ones*0x20) | w) & highs
}

// Scan reads the string whose text begins at b[i], after its quote. It returns
// where the closing quote is, or the byte at fault, and whether the text has escapes.
func Scan(b []byte, i int) (at int, escaped bool, fault Fault) {
	for i < len(b) {
		if i+8 <= len(b) {
			if m := special(binary.LittleEndian.Uint64(b[i:])); m == 0 {
				i += 8
				continue
			} else {
				i += bits.TrailingZeros64(m) / 8
			}
		}
		switch c := b[i]; {
		case c == '"':
			return i, escaped, OK
		case c == '\\':
			escaped = true
			n := EscapeLen(b[i:])
			if n == 0 {
				return i, true, Escape
			}
			i += n
		case c < 0x20:
			return i, escaped, Control
		case c < utf8.RuneSelf:
			i++
		default:
			r, n := utf8.DecodeRune(b[i:])
			if r == utf8.RuneError && n == 1 {
				return i, escaped, NotUTF8
			}
			i += n
		}
	}
	return len(b), escaped, Unended
}

// EscapeLen returns the length of the escape sequence that b starts with, 0 if
// it is none.
func EscapeLen(b []byte) int {
	if len(b) < 2 {
		return 0
	}
	switch b[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(b); ok {
			return 6
		}
	}
	return 0
}

// Unescape appends the text of a string that Scan has accepted. Half a surrogate pair
// is U+FFFD, as encoding/json has it, and whole is false then.
func Unescape(to, raw []byte) (text []byte, whole bool) {
	whole = true
	for i := 0; i < len(raw); {
		if raw[i] != '\\' {
			to = append(to, raw[i])
			i++
			continue
		}
		switch c := raw[i+1]; c {
		case 'u':
			r, _ := hex4(raw[i:])
			i += 6
			if utf16.IsSurrogate(r) {
				low, ok := hex4(raw[i:])
				if r = utf16.DecodeRune(r, low); ok && r != utf8.RuneError {
					i += 6
				} else {
					r, whole = utf8.RuneError, false
				}
			}
			to = utf8.AppendRune(to, r)
			continue
		case 'b':
			to = append(to, '\b')
		case 'f':
			to = append(to, '\f')
		case 'n':
			to = append(to, '\n')
		case 'r':
			to = append(to, '\r')
		case 't':
			to = append(to, '\t')
		default: // quote, slash and backslash stand for themselves
			to = append(to, c)
		}
		i += 2
	}
	return to, whole
}

// hex4 reads \uXXXX at the front of b.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	for _, c := range b[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
