package importer

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/forward/format"
)

// csvFields are what a column can mean.
var csvFields = []string{"time", "topic", "payload", "payload_base64", "qos", "retain", "dup", "source", "properties"}

// OptionError is what a command line asks for and cannot be.
type OptionError struct{ Err error }

func (e OptionError) Error() string { return e.Err.Error() }
func (e OptionError) Unwrap() error { return e.Err }

func badOption(format string, args ...any) error { return OptionError{fmt.Errorf(format, args...)} }

// CheckColumns returns what is wrong with the Columns of a Config.
func CheckColumns(columns string) error {
	_, err := parseColumns(columns)
	return err
}

// ParseSeparator reads the Separator of a Config: one character of ASCII, or \t.
func ParseSeparator(s string) (byte, error) {
	switch {
	case s == `\t`:
		return '\t', nil
	case len(s) != 1 || s[0] >= 0x80 || s[0] < ' ' && s[0] != '\t' || s[0] == '"':
		return 0, badOption("separator %q: must be one character such as ; or \\t", s)
	}
	return s[0], nil
}

// parseColumns reads "time=ts,topic=t": our word, and the name of the column.
func parseColumns(s string) (map[string]string, error) {
	m := map[string]string{}
	if s == "" {
		return m, nil
	}
	for pair := range strings.SplitSeq(s, ",") {
		field, column, ok := strings.Cut(pair, "=")
		if !ok || !slices.Contains(csvFields, field) || column == "" {
			return nil, badOption("columns %q: must be field=column, the fields are %s", pair, strings.Join(csvFields, ", "))
		}
		m[field] = column
	}
	return m, nil
}

// newCSV makes a parser for lines under the header. A field is in the column
// that columns names or, if it names none for it, in the one of its own name.
func newCSV(header []byte, columns map[string]string, sep byte) (parser, error) {
	names, err := splitCSV(nil, header, sep)
	if err != nil {
		return nil, err
	}
	fields := make([]string, len(names))
	topic := false
	for _, field := range csvFields {
		want, named := columns[field]
		if !named {
			want = field
		}
		at := slices.IndexFunc(names, func(n []byte) bool { return string(n) == want })
		if at < 0 && named {
			return nil, withSeparator(badOption("there is no column %q in %.200q", want, header), header, sep)
		}
		if at >= 0 {
			fields[at] = field
			topic = topic || field == "topic"
		}
	}
	if !topic {
		return nil, withSeparator(badOption("there is no column for the topic in %.200q; --columns topic=… names it", header), header, sep)
	}
	exported := string(header)+"\n" == format.CSVHeader
	var row [][]byte
	return func(line []byte) (e entry, err error) {
		if row, err = splitCSV(row[:0], line, sep); err != nil {
			return e, err
		}
		if len(row) != len(fields) {
			return e, fmt.Errorf("%d fields, the header has %d", len(row), len(fields))
		}
		for i, v := range row {
			if err := e.column(fields[i], v); err != nil {
				return e, fmt.Errorf("%s: %w", fields[i], err)
			}
		}
		return e, e.check(exported)
	}, nil
}

// withSeparator adds what the header seems to be separated by.
func withSeparator(err error, header []byte, sep byte) error {
	if bytes.IndexByte(header, sep) >= 0 {
		return err
	}
	for _, other := range []string{";", "\t", "|", ","} {
		if bytes.Contains(header, []byte(other)) {
			return mqttetl.WithHint(err, fmt.Sprintf("--separator '%s' if that stands between the columns", strings.Trim(strconv.Quote(other), `"`)))
		}
	}
	return err
}

// column takes the value of a field.
func (e *entry) column(field string, v []byte) (err error) {
	switch field {
	case "time":
		if len(v) > 0 {
			err = e.setTime(string(v))
		}
	case "topic":
		e.Topic = v
	case "payload":
		if len(v) > 0 || e.Payload == nil {
			e.Payload = v
		}
	case "payload_base64":
		if len(v) > 0 {
			e.Payload, err = base64.StdEncoding.AppendDecode(nil, v)
		}
	case "source":
		e.source = string(v)
	case "properties":
		if len(v) > 0 {
			e.Properties, err = mqttetl.ParsePropertiesJSON(v)
		}
	case "qos":
		if len(v) > 0 {
			err = e.setFlag(field, string(v))
		}
	case "retain", "dup":
		err = e.setFlag(field, string(v))
	}
	return err
}

// openQuote says whether a line ends within a quoted field, which then goes on in
// the next one; within says that it began in one. bad: there is text behind a
// closing quote, so that one of the quotes was none.
func openQuote(line []byte, sep byte, within bool) (open, bad bool) {
	if bytes.IndexByte(line, '"') < 0 {
		return within, false
	}
	for {
		if !within {
			if len(line) == 0 || line[0] != '"' { // a quote elsewhere is a character
				at := bytes.IndexByte(line, sep)
				if at < 0 {
					return false, false
				}
				line = line[at+1:]
				continue
			}
			line = line[1:]
		}
		at := bytes.IndexByte(line, '"')
		if at < 0 {
			return true, false
		}
		line = line[at+1:]
		switch {
		case len(line) == 0 || string(line) == "\r":
			return false, false
		case line[0] == '"':
			line, within = line[1:], true
		case line[0] != sep:
			return false, true
		default:
			line, within = line[1:], false
		}
	}
}

// splitCSV appends the fields of a line (RFC 4180), which sep stands between.
func splitCSV(dst [][]byte, line []byte, sep byte) ([][]byte, error) {
	for {
		if len(line) == 0 || line[0] != '"' {
			at := bytes.IndexByte(line, sep)
			if at < 0 {
				return append(dst, line), nil
			}
			dst, line = append(dst, line[:at:at]), line[at+1:]
			continue
		}
		field, rest, err := quoted(line[1:])
		if err != nil {
			return dst, err
		}
		dst = append(dst, field)
		if len(rest) == 0 {
			return dst, nil
		}
		if rest[0] != sep {
			return dst, errors.New("text behind a closing quote")
		}
		line = rest[1:]
	}
}

// quoted reads a field behind its opening quote, and the closing one.
func quoted(s []byte) (field, rest []byte, err error) {
	for i := 0; i < len(s); i++ {
		if s[i] != '"' {
			continue
		}
		if i+1 < len(s) && s[i+1] == '"' {
			return doubled(s, i)
		}
		return s[:i:i], s[i+1:], nil
	}
	return nil, nil, errors.New("a quote that does not close")
}

// doubled goes on copying from the first doubled quote on.
func doubled(s []byte, i int) (field, rest []byte, err error) {
	field = append(field, s[:i]...)
	for ; i < len(s); i++ {
		if s[i] == '"' {
			if i+1 >= len(s) || s[i+1] != '"' {
				return field, s[i+1:], nil
			}
			i++
		}
		field = append(field, s[i])
	}
	return nil, nil, errors.New("a quote that does not close")
}
