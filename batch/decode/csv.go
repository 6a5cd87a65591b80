package decode

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"
)

func init() { formats["csv"] = newCSV }

// newCSV decodes RFC 4180, an object a row: fields by the names of the header,
// as text whatever they look like, an empty field as null. CSV has no types:
// who asks for a value knows which one it is.
func newCSV(o Options) (Decoder, error) {
	if o.Comma == 0 {
		o.Comma = ','
	}
	if !utf8.ValidRune(o.Comma) || slices.Contains([]rune{'"', '\r', '\n', utf8.RuneError}, o.Comma) {
		return nil, fmt.Errorf("%q cannot separate csv fields", o.Comma)
	}
	if name, ok := twice(o.Header); ok {
		return nil, fmt.Errorf("csv header has %q twice", name)
	}
	return &csvDecoder{o.Comma, o.Header}, nil
}

type csvDecoder struct {
	comma  rune
	header []string
}

// twice returns a name that is there more than once.
func twice(names []string) (string, bool) {
	seen := make(map[string]bool, len(names))
	for _, n := range names {
		if seen[n] {
			return n, true
		}
		seen[n] = true
	}
	return "", false
}

func (d *csvDecoder) Decode(_ string, payload []byte, emit func(any) error) error {
	if !utf8.Valid(payload) {
		return fmt.Errorf("payload is not CSV: invalid UTF-8 at byte %d", invalidUTF8(payload))
	}
	if d.tooWide(payload) {
		return fmt.Errorf("payload is refused: a row has more than %d fields or %d bytes", maxFields, maxRow)
	}
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(payload, []byte("\ufeff"))))
	r.Comma, r.ReuseRecord = d.comma, true
	header := d.header
	if len(header) == 0 {
		row, err := r.Read()
		if err == io.EOF {
			return errors.New("payload is not CSV: it has no header line")
		}
		if err != nil {
			return fmt.Errorf("payload is not CSV: %w", err)
		}
		header = slices.Clone(row)
		if name, ok := twice(header); ok {
			return fmt.Errorf("payload is not CSV: its header has %q twice", shorten(name))
		}
	}
	r.FieldsPerRecord = len(header)
	bad := 0
	for {
		row, err := r.Read()
		if err == io.EOF {
			return nil
		}
		if errors.Is(err, csv.ErrFieldCount) || errors.As(err, new(*csv.ParseError)) { // the next row is another matter
			if errors.Is(err, csv.ErrFieldCount) {
				line, _ := r.FieldPos(0)
				err = fmt.Errorf("line %d has %d fields, the header %d", line, len(row), len(header))
			}
			err = fmt.Errorf("payload is not CSV: %w", err)
			if bad++; bad == maxFailed {
				return err
			}
			if err := emit(Failed{err}); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("payload is not CSV: %w", err)
		}
		doc := make(map[string]any, len(header))
		for i, name := range header {
			doc[name] = fieldCSV(row[i])
		}
		if err := emit(doc); err != nil {
			return err
		}
	}
}

// Bounds of a row: what encoding/csv and a document take for a comma each is fifty
// times as large, and what they take for a byte eleven times.
const (
	maxFields = 50_000
	maxRow    = 1 << 20
)

// tooWide says whether a row has more fields than that, by the rules of
// encoding/csv: it would read all of the row first.
func (d *csvDecoder) tooWide(p []byte) bool {
	comma := []byte(string(d.comma))
	if len(p) <= maxRow && bytes.Count(p, comma) < maxFields {
		return false
	}
	row := len(p)            // what was left at its beginning
	fields, start := 1, true // of a field
	for len(p) > 0 {
		switch {
		case start && p[0] == '"':
			if p = afterQuote(p[1:]); !bytes.HasPrefix(p, comma) { // the end of the row, or an error that ends it
				p = p[min(uint(len(p)), uint(bytes.IndexByte(p, '\n'))):]
			}
			start = false
			continue
		case p[0] == '\n':
			if row-len(p) > maxRow {
				return true
			}
			row, fields, start = len(p)-1, 1, true
		case bytes.HasPrefix(p, comma):
			fields, start = fields+1, true
			p = p[len(comma)-1:]
		default:
			start = false
		}
		if p = p[1:]; fields > maxFields {
			return true
		}
	}
	return row > maxRow
}

// afterQuote is what follows the quote that closes a field.
func afterQuote(p []byte) []byte {
	for {
		i := bytes.IndexByte(p, '"')
		if i < 0 {
			return nil
		}
		if p = p[i+1:]; len(p) == 0 || p[0] != '"' {
			return p
		}
		p = p[1:]
	}
}

func fieldCSV(f string) any {
	if f == "" {
		return nil
	}
	return f
}
