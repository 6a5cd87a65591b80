package decode

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// words are what devices send for booleans and for nothing, in any case.
var words = map[string]any{
	"on": true, "true": true, "open": true, "online": true, "yes": true, "enabled": true, "connected": true,
	"off": false, "false": false, "closed": false, "offline": false, "no": false, "disabled": false, "disconnected": false,
	"null": nil, "none": nil, "unknown": nil, "unavailable": nil, "nan": nil, "inf": nil,
}

// Words lists the words that the format number reads besides numbers.
func Words() []string {
	var w []string
	for k := range words {
		w = append(w, k)
	}
	slices.Sort(w)
	return w
}

func word(p []byte) (any, bool) {
	if len(p) > len("disconnected") {
		return nil, false
	}
	v, ok := words[strings.ToLower(string(p))]
	return v, ok || NotFinite(string(p))
}

func newNumber(o Options) (Decoder, error) {
	return decoderFunc(func(p []byte) (any, error) { return decodeNumber(p, &o) }), nil
}

// decodeNumber reads a number, such as -21.5, +3, .5, 007 or 1e3, or a word,
// with white space around it.
func decodeNumber(p []byte, o *Options) (any, error) {
	t := bytes.TrimSpace(p)
	if o.Lenient {
		t = bytes.TrimFunc(p, isBlank)
	}
	if len(t) == 0 {
		return nil, errors.New("payload is empty, not a number")
	}
	if v, ok := numberOrWord(t); ok {
		if len(t) < len(bytes.TrimSpace(p)) {
			o.mended("NUL or a byte order mark is around " + shorten(t))
		}
		return v, nil
	}
	if o.Lenient {
		if v, what, ok := mendNumber(t); ok {
			o.mended(what)
			return v, nil
		}
	}
	return nil, fmt.Errorf("payload %q is not a number and not one of the words %s", shorten(t), strings.Join(Words(), " "))
}

func numberOrWord(t []byte) (any, bool) {
	if v, ok := looseNumber(t); ok {
		return v, true
	}
	return word(t)
}

// clearUnits are those that may stand after a number and are left out. There is
// one for each quantity, but for temperatures: a device that sends 950 W and then 1.2 kW would
// have two kinds of numbers in one column.
var clearUnits = []string{
	"%", "%rh", "% rh", "c", "°c", "f", "°f", "degc", "degf", "°", "v", "a", "w", "kwh", "hz", "hpa", "ppm", "lx", "lux", "db", "dbm", "s", "m/s",
	"mm", "µg/m³", "μg/m³", "ug/m3", "l/min", "rpm", "bpm",
}

var withUnit = regexp.MustCompile(`^([-+]?[0-9][0-9.,]*(?:[eE][-+]?[0-9]+)?)[ \x{a0}]*([^0-9 \x{a0}].{0,10})$`)

// MendNumber reads a number with a decimal comma or a unit, and says which it
// was. Words are none.
func MendNumber(s string) (v any, what string, ok bool) {
	if v, what, ok = mendNumber([]byte(Trim(s))); ok {
		switch v.(type) {
		case nil, bool:
			return nil, "", false
		}
	}
	return v, what, ok
}

// mendNumber reads a number in quotes, with a decimal comma, or with a unit.
func mendNumber(t []byte) (v any, what string, ok bool) {
	if len(t) == 0 || len(t) > 64 {
		return nil, "", false
	}
	what = fmt.Sprintf("%q is read as a number", shorten(t))
	if q := t[0]; len(t) > 2 && (q == '"' || q == '\'') && t[len(t)-1] == q {
		if t = bytes.TrimFunc(t[1:len(t)-1], isBlank); len(t) == 0 {
			return nil, "", false
		}
	}
	text := string(t)
	if !utf8.Valid(t) || strings.ContainsRune(text, utf8.RuneError) { // the degree sign of Latin-1, alone or as read from JSON
		text = strings.Replace(strings.ToValidUTF8(text, "\ufffd"), "\ufffd", "°", 1)
	}
	if f := withUnit.FindStringSubmatch(text); f != nil && slices.Contains(clearUnits, strings.ToLower(f[2])) {
		text, what = f[1], fmt.Sprintf("the unit of %q is left out", shorten(t))
	}
	if strings.Contains(text, ",") {
		if text, ok = withoutComma(text); !ok {
			return nil, "", false
		}
	}
	v, ok = numberOrWord([]byte(text))
	return v, what, ok
}

var decimalComma = regexp.MustCompile(`^[-+]?([0-9]+),([0-9]+)$`)

// withoutComma writes a point for a decimal comma. A comma before three digits
// may stand for thousands: 1,234 is not read.
func withoutComma(s string) (string, bool) {
	f := decimalComma.FindStringSubmatch(s)
	if f == nil || len(f[2]) == 3 && len(f[1]) <= 3 && f[1][0] != '0' {
		return "", false
	}
	return strings.Replace(s, ",", ".", 1), true
}

// looseNumber reads what JSON's grammar allows, and a plus, leading zeros and
// an empty integral part.
func looseNumber(p []byte) (any, bool) {
	neg := false
	switch p[0] {
	case '-':
		neg = true
		fallthrough
	case '+':
		p = p[1:]
		if len(p) == 0 || p[0] == '-' { // one sign
			return nil, false
		}
	}
	for len(p) > 1 && p[0] == '0' && p[1]-'0' <= 9 {
		p = p[1:]
	}
	strict := make([]byte, 0, len(p)+2)
	if neg {
		strict = append(strict, '-')
	}
	if len(p) > 0 && p[0] == '.' {
		strict = append(strict, '0')
	}
	return jsonNumber(append(strict, p...))
}

// Number reads a text that is a number as JSON writes it.
func Number(s string) (any, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || digits[0]-'0' > 9 || len(digits) > 1 && digits[0] == '0' && digits[1]-'0' <= 9 {
		return nil, false // without the cost of an error
	}
	return jsonNumber([]byte(s))
}

// jsonNumber reads a number of JSON's grammar that is all of p.
func jsonNumber(p []byte) (any, bool) {
	s := scanner{b: p}
	raw, whole, err := s.number()
	if err != nil || len(raw) != len(p) {
		return nil, false
	}
	return number(raw, whole), true
}
