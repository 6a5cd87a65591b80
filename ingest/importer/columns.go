package importer

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// fields are what a column of CSV, or a member of JSON, can mean.
var fields = []string{"time", "topic", "payload", "payload_base64", "qos", "retain", "dup", "source", "properties"}

// encodings are how a payload may be written.
var encodings = []string{"base64", "hex", "text", "json", "buffer", "python"}

// defaultNames are the names that a field has where Columns has none for it.
func defaultNames(field string) []string {
	if field == "time" {
		return []string{"time", "tst", "timestamp"}
	}
	return []string{field}
}

// column is what stands under a name.
type column struct{ field, encoding string }

// columns are those that were named, by name.
type columns map[string]column

// names says whether a column was named for a field; a payload has two fields.
func (c columns) names(field string) bool {
	for _, v := range c {
		if v.field == field || v.field == "payload" && field == "payload_base64" || v.field == "payload_base64" && field == "payload" {
			return true
		}
	}
	return false
}

// of returns the name for a field.
func (c columns) of(field string) (name string, ok bool) {
	for name, v := range c {
		if v.field == field {
			return name, true
		}
	}
	return "", false
}

// sees notes that a name stands in the file.
func (r *reader) sees(name string) {
	if !slices.Contains(r.seen, name) {
		r.seen = append(r.seen, strings.Clone(name))
	}
}

// unseen returns the names, apart from those of topic and payload, of which lines
// without are rejected, that JSON has had nowhere.
func (r *reader) unseen() (names []string) {
	for name, c := range r.columns {
		if !slices.Contains([]string{"topic", "payload", "payload_base64"}, c.field) && !slices.Contains(r.seen, name) {
			names = append(names, c.field+"="+name)
		}
	}
	slices.Sort(names)
	return names
}

// CheckColumns returns what is wrong with the Columns of a Config.
func CheckColumns(columns string) error {
	_, err := parseColumns(columns)
	return err
}

// parseColumns reads "time=ts,payload=data:base64": our word, the name, and how a
// payload is written there.
func parseColumns(s string) (columns, error) {
	c := columns{}
	if s == "" {
		return c, nil
	}
	for pair := range strings.SplitSeq(s, ",") {
		field, name, ok := strings.Cut(pair, "=")
		if !ok || !slices.Contains(fields, field) || name == "" {
			return nil, badOption("columns %q: must be field=name, the fields are %s", pair, strings.Join(fields, ", "))
		}
		name, encoding := cutEncoding(field, name)
		if name == "" {
			return nil, badOption("columns %q: there is no name before :%s", pair, encoding)
		}
		if _, twice := c.of(field); twice {
			return nil, badOption("columns %q: %s has two names", s, field)
		}
		if _, twice := c[name]; twice {
			return nil, badOption("columns %q: %s has two meanings", s, name)
		}
		c[name] = column{field, encoding}
	}
	return c, nil
}

// cutEncoding cuts off how a payload is written.
func cutEncoding(field, name string) (string, string) {
	if at := strings.LastIndexByte(name, ':'); field == "payload" && at >= 0 && slices.Contains(encodings, name[at+1:]) {
		return name[:at], name[at+1:]
	}
	return name, ""
}

// decodeText decodes a payload that is written as text.
func decodeText(encoding string, v []byte) ([]byte, error) {
	switch encoding {
	case "base64":
		return decodeBase64(v)
	case "hex":
		return decodeHex(v)
	case "buffer":
		return decodeBuffer(v)
	case "python":
		return decodePython(v)
	}
	return v, nil
}

// decodeBase64 reads either alphabet of base64 (RFC 4648), with or without padding.
func decodeBase64(v []byte) ([]byte, error) {
	encoding := base64.RawStdEncoding
	if bytes.ContainsAny(v, "-_") {
		encoding = base64.RawURLEncoding
	}
	out, err := encoding.AppendDecode([]byte{}, bytes.TrimRight(v, "="))
	if err != nil {
		return nil, fmt.Errorf("not base64: %w", err)
	}
	return out, nil
}

// decodeHex reads hexadecimal digits, in groups or not: "00ff", "0x00ff", "00 ff",
// "00:ff".
func decodeHex(v []byte) ([]byte, error) {
	for _, prefix := range []string{"0x", "0X", `\x`} { // the last is PostgreSQL's
		v = bytes.TrimPrefix(v, []byte(prefix))
	}
	if bytes.ContainsAny(v, " :-") {
		v = bytes.Map(func(r rune) rune {
			if r == ' ' || r == ':' || r == '-' {
				return -1
			}
			return r
		}, v)
	}
	out, err := hex.AppendDecode([]byte{}, v)
	if err != nil {
		return nil, fmt.Errorf("not hexadecimal: %w", err)
	}
	return out, nil
}

// decodeBuffer reads bytes as Node.js writes them: {"type":"Buffer","data":[0,255]},
// or the array alone.
func decodeBuffer(v []byte) ([]byte, error) {
	if b, ok := nodeBuffer(v); ok {
		return b, nil
	}
	if b, ok := byteArray(v, -1); ok {
		return b, nil
	}
	return nil, fmt.Errorf(`%.60q is no {"type":"Buffer","data":[…]}`, v)
}

// nodeBuffer reads what JSON.stringify makes of a Buffer.
func nodeBuffer(v []byte) (b []byte, ok bool) {
	if !bytes.Contains(v[:min(len(v), 40)], []byte(`Buffer`)) {
		return nil, false
	}
	var kind, data []byte
	s := scanner{p: v}
	err := s.object(func(name []byte) (err error) {
		switch string(name) {
		case "type":
			kind, err = s.text()
		case "data":
			data, err = s.value()
		default:
			err = s.errorf("%q", name)
		}
		return err
	})
	if err != nil || string(kind) != "Buffer" || data == nil {
		return nil, false
	}
	return byteArray(data, -1)
}
