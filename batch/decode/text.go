package decode

import (
	"bytes"
	"fmt"
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

func newAuto(o Options) (Decoder, error) { return &autoDecoder{o}, nil }

// NotJSON is the error of the format auto for a payload that begins as JSON's
// objects and arrays do, and is none: it says what is wrong with the JSON.
type NotJSON struct{ error }

// autoDecoder tries JSON, then numbers and the words for booleans, then text;
// what begins with { or [ must be JSON. A word for nothing stays text here:
// nobody has said that a number is expected.
type autoDecoder struct{ o Options }

func (d *autoDecoder) Decode(_ string, p []byte, emit func(any) error) error {
	s := scanner{b: p, max: d.o.MaxDepth, left: d.o.budget(p)}
	doc, err := s.document()
	if err == nil {
		return emit(doc)
	}
	if isSpent(err) {
		return err
	}
	if begun := d.begin(p); len(begun) > 0 {
		if begun[0] == '{' || begun[0] == '[' {
			return d.brackets(p, s.left, err, emit)
		}
		if v, ok := looseNumber(begun); ok {
			return emit(v)
		}
		if v, ok := word(begun); ok && v != nil {
			return emit(v)
		}
	}
	if utf8.Valid(p) {
		return emit(string(p))
	}
	return emit(Bytes(bytes.Clone(p)))
}

// begin is the payload without what is left out around it.
func (d *autoDecoder) begin(p []byte) []byte {
	t := bytes.TrimSpace(p)
	if !d.o.Lenient {
		return t
	}
	if text, ok := fromUTF16(p); ok {
		t = text
	}
	if inner := trimStart(t); len(inner) > 0 && (inner[0] == '{' || inner[0] == '[') {
		return inner
	}
	return t
}

// brackets is for what begins as an object or an array, and is none.
func (d *autoDecoder) brackets(p []byte, left budget, refused error, emit func(any) error) error {
	if !d.o.Lenient {
		return NotJSON{refused}
	}
	docs, what, err := mend(p, d.o.MaxDepth, left, refused)
	if err != nil {
		return NotJSON{err}
	}
	return d.o.emitMended(docs, what, emit)
}
