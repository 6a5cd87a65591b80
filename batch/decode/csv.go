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
	seen := map[string]bool{}
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
			return fmt.Errorf("payload is not CSV: its header has %q twice", name)
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

func fieldCSV(f string) any {
	if f == "" {
		return nil
	}
	return f
}
