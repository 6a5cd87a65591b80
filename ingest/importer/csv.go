package importer

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/mqttetl/mqttetl"
)

// OptionError is what a command line asks for and cannot be.
type OptionError struct{ Err error }

func (e OptionError) Error() string { return e.Err.Error() }
func (e OptionError) Unwrap() error { return e.Err }

func badOption(format string, args ...any) error { return OptionError{fmt.Errorf(format, args...)} }

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

// separators may stand between the columns of a CSV of which nothing is said.
const separators = ",;\t|"

// separatorOf finds what stands between the columns, by a header that has the
// topic's; 0 if it has none.
func (r *reader) separatorOf(header []byte) byte {
	name, named := r.columns.of("topic")
	for _, sep := range []byte(separators) {
		names, err := splitCSV(nil, header, sep)
		if err != nil || len(names) < 2 {
			continue
		}
		if named && columnOf(names, name, false) >= 0 || !named && columnOf(names, "topic", true) >= 0 {
			return sep
		}
	}
	return 0
}

// columnOf returns the place of a name in a header; -1 if it is not there. loose
// passes over case, for names that the user has not given.
func columnOf(names [][]byte, want string, loose bool) int {
	return slices.IndexFunc(names, func(n []byte) bool {
		n = bytes.TrimSpace(n)
		return string(n) == want || loose && strings.EqualFold(string(n), want)
	})
}

// table are the columns of a CSV.
type table struct {
	*reader
	names    [][]byte
	columns  []column // what stands in each; no field: nothing
	sep      byte
	exported bool // it has the header of export
	padded   bool // blanks stand around its names, and so around its values
	row      [][]byte
}

// newTable finds the columns under a header. A field is in the column that
// was named for it or, if none was, in the one of its own name.
func (r *reader) newTable(header []byte, sep byte) (*table, error) {
	names, err := splitCSV(nil, bytes.Clone(header), sep)
	if err != nil {
		return nil, err
	}
	return r.tableOf(names, header, sep)
}

// exportHeader is the header of what mqttetl export writes.
const exportHeader = "seq,time,topic,source,qos,retain,dup,payload,payload_base64,properties"

func (r *reader) tableOf(names [][]byte, header []byte, sep byte) (t *table, err error) {
	t = &table{reader: r, names: names, columns: make([]column, len(names)), sep: sep, exported: string(header) == exportHeader}
	t.padded = slices.ContainsFunc(names, func(n []byte) bool { return len(bytes.Trim(n, " ")) < len(n) })
	has := map[string]bool{"topic": len(r.topic) > 0}
	for _, field := range fields {
		at, encoding, err := t.find(field)
		if err != nil {
			return nil, withSeparator(err, header, sep)
		}
		if at >= 0 && t.exported && encoding == "" && field == "payload" {
			encoding = "text"
		}
		if at >= 0 {
			t.columns[at] = column{field, encoding}
			has[field] = true
		}
	}
	switch {
	case !has["topic"]:
		err = badOption("there is no column for the topic in %.200q; --columns topic=… names it, --topic gives one", header)
	case !has["payload"] && !has["payload_base64"]:
		err = badOption("there is no column for the payload in %.200q; --columns payload=… names it", header)
	}
	if err != nil {
		return nil, withSeparator(err, header, sep)
	}
	return t, nil
}

// find returns the place of a field's column, -1 if there is none, and how a
// payload is written in it.
func (t *table) find(field string) (at int, encoding string, err error) {
	if name, named := t.reader.columns.of(field); named {
		if at = columnOf(t.names, name, false); at < 0 {
			return at, "", badOption("there is no column %q in %.200q", name, bytes.Join(t.names, []byte{t.sep}))
		}
		return at, t.reader.columns[name].encoding, nil
	}
	if t.reader.columns.names(field) { // the payload is elsewhere
		return -1, "", nil
	}
	for _, name := range defaultNames(field) {
		at = slices.IndexFunc(t.names, func(n []byte) bool {
			own, e := cutEncoding(field, strings.TrimSpace(string(n)))
			if !strings.EqualFold(own, name) {
				return false
			}
			encoding = e
			return true
		})
		if at < 0 {
			continue
		}
		if columnOf(t.names[at+1:], name, true) >= 0 {
			return at, "", badOption("there are two columns %q; --header names all columns by their order", name)
		}
		return at, encoding, nil
	}
	return -1, "", nil
}

// parse reads a row.
func (t *table) parse(line []byte) (e entry, err error) {
	if t.row, err = splitCSV(t.row[:0], line, t.sep); err != nil {
		return e, err
	}
	if len(t.row) != len(t.columns) {
		return e, fmt.Errorf("%d fields, the header has %d", len(t.row), len(t.columns))
	}
	for i, v := range t.row {
		if t.padded {
			if v = bytes.TrimSpace(v); len(v) > 0 && v[0] == '"' {
				return e, fmt.Errorf("%s: a blank before a quote", t.columns[i].field)
			}
		}
		if err := t.cell(&e, t.columns[i], v); err != nil {
			return e, fmt.Errorf("%s: %w", t.columns[i].field, err)
		}
	}
	return e, t.check(&e, t.exported)
}

// CheckHeader returns what is wrong with the Header of a Config.
func CheckHeader(header string) error {
	if header == "" {
		return nil
	}
	_, err := headerNames(header)
	return err
}

// headerNames reads the names of the columns of a CSV that has no header.
func headerNames(header string) ([][]byte, error) {
	names, err := splitCSV(nil, []byte(header), ',')
	if err != nil || strings.ContainsAny(header, "\r\n") {
		return nil, badOption("header %q: must be the names of the columns with commas between, as in time,topic,payload", header)
	}
	return names, nil
}

// withSeparator adds what the header seems to be separated by.
func withSeparator(err error, header []byte, sep byte) error {
	if bytes.IndexByte(header, sep) >= 0 {
		return err
	}
	for _, other := range []string{";", "\t", "|", ","} {
		if bytes.Contains(header, []byte(other)) {
			return mqttetl.WithHint(err, fmt.Sprintf("--separator '%s' if that is between the columns", strings.Trim(strconv.Quote(other), `"`)))
		}
	}
	return err
}

// cell takes the value of a column.
func (r *reader) cell(e *entry, c column, v []byte) (err error) {
	switch c.field {
	case "time":
		if len(v) > 0 {
			err = r.setTime(e, string(v))
		}
	case "topic":
		e.Topic = v
	case "payload":
		if c.encoding == "" {
			if err = readTwoWays(v, "NAME"); err != nil {
				return err
			}
		}
		if len(v) > 0 || e.Payload == nil {
			e.Payload, err = decodeText(c.encoding, v)
		}
	case "payload_base64":
		if len(v) > 0 {
			e.Payload, err = decodeBase64(v)
		}
	case "source":
		e.source = string(v)
	case "properties":
		if len(v) > 0 {
			e.Properties, err = parseProperties(v)
		}
	case "qos":
		if len(v) > 0 {
			err = e.setFlag(c.field, string(v))
		}
	case "retain", "dup":
		err = e.setFlag(c.field, string(v))
	}
	return err
}
