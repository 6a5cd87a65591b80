package decode

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// Limits that hold when Options leaves them 0. A tree can be a hundred times as
// large as its payload.
const (
	DefaultMaxBytes     = 16 << 20 // of text, raw, number, csv and influx
	DefaultMaxTreeBytes = 4 << 20  // of the other formats
	DefaultMaxDepth     = 1000
)

// Options are what a format needs beside its name.
type Options struct {
	Descriptor string   // protobuf: file that protoc --include_imports -o has written
	Message    string   // protobuf: full name of the message, package.Name
	Comma      rune     // csv: 0 is a comma
	Header     []string // csv: the columns; empty: the first line of each payload names them
	Births     Births   // sparkplug_b: the memory of the decoder; nil: one in memory
	// Retry: sparkplug_b payloads that could not be decoded in their turn are
	// tried again. The births known now apply, even of dead nodes, and the
	// memory stays as it is.
	Retry bool
	// Lenient reads what is wrong in a payload as null or U+FFFD and keeps the
	// rest: see the package comment. A payload that is right is read as without.
	Lenient bool
	Mended  func(what string) // is told what Lenient has mended first in a payload; nil: nobody is

	// Late is asked now and then while one payload takes long. If it says so, the
	// error of Decode is ErrSlow. nil: nobody is asked
	Late func() bool

	MaxBytes int // of a payload; 0: DefaultMaxBytes or DefaultMaxTreeBytes. The Extractor has no such limit
	MaxDepth int // of arrays, objects, messages; 0: DefaultMaxDepth
}

// Decoder turns a payload into documents: one of most formats, one a row of
// csv, a line of influx, a metric of sparkplug_b. It is for one goroutine.
type Decoder interface {
	// Decode calls emit with each document. The document is the caller's to
	// keep and does not share memory with payload. An error of emit ends the
	// decoding and is returned as it is; any other error says in words for
	// people what is wrong with the payload, and where. Documents emitted
	// before an error count for nothing.
	Decode(topic string, payload []byte, emit func(doc any) error) error
}

// Failed is emitted in the place of a document that cannot be had while the
// others of its payload can.
type Failed struct{ Err error }

// maxFailed is how many lines of a payload may be none before all of it is
// something else.
const maxFailed = 1000

// Bytes is a value without a text: a byte string of CBOR, the payload of raw.
// A BLOB column stores it byte for byte, jq sees base64 (ForJQ), as does JSON.
type Bytes []byte

// formats is filled by the files of the formats' names.
var formats = map[string]func(Options) (Decoder, error){
	"auto": newAuto, "json": newJSON, "text": newText, "number": newNumber, "raw": newRaw,
}

// flat are the formats whose documents are about as large as what they are
// made of.
var flat = []string{"text", "raw", "number", "csv", "influx"}

// Formats lists the names that New knows.
func Formats() []string {
	var names []string
	for n := range formats {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// New returns a decoder of a format. The error is for the person who wrote the
// config: an unknown name, a descriptor file that cannot be read.
func New(format string, o Options) (Decoder, error) {
	f, ok := formats[format]
	if !ok {
		return nil, fmt.Errorf("unknown format %q, one of: %s", format, strings.Join(Formats(), ", "))
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxTreeBytes
		if slices.Contains(flat, format) {
			o.MaxBytes = DefaultMaxBytes
		}
	}
	if o.MaxDepth == 0 {
		o.MaxDepth = DefaultMaxDepth
	}
	d, err := f(o)
	if err != nil {
		return nil, err
	}
	if o.Lenient && slices.Contains(plainText, format) {
		d = &lenientText{d, o}
	}
	return limited{d, o.MaxBytes}, nil
}

func (o *Options) mended(what string) {
	if o.Mended != nil {
		o.Mended(what)
	}
}

// validText has U+FFFD for each byte that is not UTF-8.
func validText(s string) string {
	var b strings.Builder
	b.Grow(validLen(s))
	for _, r := range s {
		b.WriteRune(r)
	}
	return b.String()
}

// validLen is the length of validText.
func validLen(s string) (n int) {
	for _, r := range s {
		n += utf8.RuneLen(r)
	}
	return n
}

// plainText are the formats of text alone.
var plainText = []string{"text", "csv", "influx"}

// lenientText is for them: UTF-16 with its mark is read, what else is not UTF-8
// becomes U+FFFD.
type lenientText struct {
	Decoder
	o Options
}

func (l *lenientText) Decode(topic string, payload []byte, emit func(any) error) error {
	if text, ok := fromUTF16(payload); ok && payload[0] >= 0xfe {
		l.o.mended("the payload is UTF-16")
		payload = bytes.TrimPrefix(text, []byte("\ufeff"))
	}
	if !utf8.Valid(payload) {
		l.o.mended(fmt.Sprintf("invalid UTF-8 at byte %d reads as U+FFFD", invalidUTF8(payload)))
		text := unsafe.String(unsafe.SliceData(payload), len(payload))
		if n := validLen(text); n > len(payload)+MemoryBase/4 {
			return fmt.Errorf("payload has %d bytes with U+FFFD in place of what is not UTF-8, more than %d beyond the %d that it has", n, MemoryBase/4, len(payload))
		}
		text = validText(text)
		payload = unsafe.Slice(unsafe.StringData(text), len(text))
	}
	return l.Decoder.Decode(topic, payload, emit)
}

// limited refuses payloads before anything is built of them.
type limited struct {
	Decoder
	max int
}

func (l limited) Decode(topic string, payload []byte, emit func(any) error) error {
	if len(payload) > l.max {
		return fmt.Errorf("payload has %d bytes, more than the %d that are decoded", len(payload), l.max)
	}
	return l.Decoder.Decode(topic, payload, emit)
}

// decoderFunc is a decoder of formats that are one document a payload.
type decoderFunc func(payload []byte) (any, error)

func (f decoderFunc) Decode(_ string, payload []byte, emit func(any) error) error {
	doc, err := f(payload)
	if err != nil {
		return err
	}
	return emit(doc)
}

// ForJQ returns doc with base64 strings for Bytes, which gojq does not know.
// It changes doc's arrays and objects in place.
func ForJQ(doc any) any {
	switch v := doc.(type) {
	case Bytes:
		return base64.StdEncoding.EncodeToString(v)
	case []any:
		for i := range v {
			v[i] = ForJQ(v[i])
		}
	case map[string]any:
		for k := range v {
			switch v[k].(type) {
			case Bytes, []any, map[string]any:
				v[k] = ForJQ(v[k])
			}
		}
	}
	return doc
}
