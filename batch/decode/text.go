package decode

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

func newText(Options) (Decoder, error) { return decoderFunc(decodeText), nil }

func decodeText(p []byte) (any, error) {
	if utf8.Valid(p) {
		return string(p), nil
	}
	return nil, fmt.Errorf("payload is not text: invalid UTF-8 at byte %d", invalidUTF8(p))
}

// invalidUTF8 returns the position of the first byte that is not UTF-8.
func invalidUTF8(p []byte) int {
	for i := 0; i < len(p); {
		r, n := utf8.DecodeRune(p[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return len(p)
}

func newRaw(Options) (Decoder, error) {
	return decoderFunc(func(p []byte) (any, error) { return Bytes(bytes.Clone(p)), nil }), nil
}

// words are what devices send for booleans and for nothing, in any case.
var words = map[string]any{
	"on": true, "true": true, "open": true, "online": true, "yes": true, "enabled": true, "connected": true,
	"off": false, "false": false, "closed": false, "offline": false, "no": false, "disabled": false, "disconnected": false,
	"null": nil, "none": nil, "unknown": nil, "unavailable": nil,
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

func newNumber(Options) (Decoder, error) { return decoderFunc(decodeNumber), nil }

// decodeNumber reads a number, such as -21.5, +3, .5, 007 or 1e3, or a word,
// with white space around it.
func decodeNumber(p []byte) (any, error) {
	p = bytes.TrimSpace(p)
	if len(p) == 0 {
		return nil, errors.New("payload is empty, not a number")
	}
	if v, ok := looseNumber(p); ok {
		return v, nil
	}
	if v, ok := word(p); ok {
		return v, nil
	}
	return nil, fmt.Errorf("payload %q is not a number and not one of the words %s", shorten(p), strings.Join(Words(), " "))
}

func word(p []byte) (any, bool) {
	if len(p) > len("disconnected") {
		return nil, false
	}
	v, ok := words[strings.ToLower(string(p))]
	return v, ok
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

// jsonNumber reads a number of JSON's grammar that is all of p.
func jsonNumber(p []byte) (any, bool) {
	s := scanner{b: p}
	raw, whole, err := s.number()
	if err != nil || len(raw) != len(p) {
		return nil, false
	}
	return number(raw, whole), true
}

func newAuto(o Options) (Decoder, error) {
	return decoderFunc(func(p []byte) (any, error) { return decodeAuto(p, o.MaxDepth) }), nil
}

// NotJSON is the error of the format auto for a payload that begins as JSON's
// objects and arrays do, and is none: it says what is wrong with the JSON.
type NotJSON struct{ error }

// decodeAuto tries JSON, then numbers and the words for booleans, then text;
// what begins with { or [ must be JSON. A word for nothing stays text here:
// nobody has said that a number is expected.
func decodeAuto(p []byte, maxDepth int) (any, error) {
	doc, err := parseJSON(p, maxDepth)
	if err == nil {
		return doc, nil
	}
	if t := bytes.TrimSpace(p); len(t) > 0 {
		if t[0] == '{' || t[0] == '[' {
			return nil, NotJSON{err}
		}
		if v, ok := looseNumber(t); ok {
			return v, nil
		}
		if v, ok := word(t); ok && v != nil {
			return v, nil
		}
	}
	if utf8.Valid(p) {
		return string(p), nil
	}
	return Bytes(bytes.Clone(p)), nil
}
