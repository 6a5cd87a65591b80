package importer

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// jsonLine is what is gathered from the members of a line.
type jsonLine struct {
	entry
	r               *reader
	s               scanner
	exact           bool   // a time with nanoseconds has been seen
	payload, base64 []byte // the values as they stand; nil if absent
	encoding        string // of the payload, if one was named
	length          int    // payloadlen, -1 if absent
}

// parseJSON reads a line of NDJSON as mqttetl export and mosquitto_sub's %j and
// %J write it, or with members that were named. Others it passes over.
func (r *reader) parseJSON(line []byte) (entry, error) {
	if err := checkText(line); err != nil {
		return entry{}, err
	}
	if string(line) == unendedArray {
		return entry{}, errors.New("the array around the objects does not end: the file is cut short")
	}
	j := jsonLine{r: r, s: scanner{p: line, made: r.made[:0]}, length: -1}
	member := j.member
	if len(r.columns) > 0 {
		member = func(name []byte) error { return j.namedMember("", name) }
	}
	err := j.s.object(member)
	r.made = j.s.made
	if err == nil {
		err = j.s.end()
	}
	if err == nil {
		err = j.finish()
	}
	if err == nil {
		err = r.check(&j.entry, true) // a string is UTF-8, anything else {"base64": …}
	}
	if errors.Is(err, errNoPayload) || errors.Is(err, errNoTopic) {
		err = r.missing(err, line)
	}
	return j.entry, err
}

// member reads a member that has the name of a field.
func (j *jsonLine) member(name []byte) error {
	switch string(name) {
	case "time", "tst", "timestamp":
		if j.exact && string(name) != "time" {
			_, err := j.s.value()
			return err
		}
		j.exact = string(name) == "time"
		return j.field("time")
	case "topic":
		return j.field("topic")
	case "payload":
		return j.field("payload")
	case "qos":
		return j.field("qos")
	case "retain":
		return j.field("retain")
	case "payload_base64", "payloadlen", "properties", "source", "dup":
		return j.field(string(name))
	}
	_, err := j.s.value()
	return err
}

// namedMember is member where names were given, which may be those of members
// of members, with points between.
func (j *jsonLine) namedMember(within string, name []byte) error {
	path := within + string(name)
	if c, ok := j.r.columns[path]; ok {
		j.r.sees(path)
		j.encoding = cmp.Or(c.encoding, j.encoding)
		return j.field(c.field)
	}
	if j.s.peek() == '{' && j.r.leadsTo(path+".") {
		return j.s.object(func(name []byte) error { return j.namedMember(path+".", name) })
	}
	field := string(name)
	if field == "tst" || field == "timestamp" {
		field = "time"
	}
	if within != "" || j.r.columns.names(field) {
		_, err := j.s.value()
		return err
	}
	return j.member(name)
}

// leadsTo says whether a name begins so.
func (r *reader) leadsTo(prefix string) bool {
	for name := range r.columns {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// field reads the value of a field. null is a payload, of any other field none.
func (j *jsonLine) field(field string) (err error) {
	s := &j.s
	if field == "payload" {
		j.payload, err = s.value()
		return err
	}
	if s.peek() == 'n' && bytes.HasPrefix(s.p[s.i:], []byte("null")) {
		s.i += len("null")
		return nil
	}
	var v []byte
	switch field {
	case "topic":
		j.Topic, err = s.bytes()
	case "payload_base64":
		j.base64, err = s.text()
	case "properties":
		err = j.properties(s)
	case "source":
		v, err = s.bytes()
		j.source = string(v)
	case "time":
		if v, err = s.scalar(); err == nil && len(v) > 0 {
			err = j.r.setTime(&j.entry, string(v))
		}
	case "payloadlen":
		if v, err = s.scalar(); err == nil {
			j.length, err = strconv.Atoi(string(v))
		}
	default:
		if v, err = s.scalar(); err == nil {
			err = j.setFlag(field, string(v))
		}
	}
	return err
}

// errNoPayload: a line does not say what was published.
var errNoPayload = errors.New("no payload")

// missing says, of a line without a payload or a topic, what it has instead.
func (r *reader) missing(why error, line []byte) error {
	field := "payload"
	if errors.Is(why, errNoTopic) {
		field = "topic"
	}
	named, isNamed := r.columns.of(field)
	var names []string
	messages := false
	s := scanner{p: line}
	_ = s.object(func(name []byte) error { // was read before
		messages = messages || string(name) == "messages" && s.peek() == '['
		if isNamed || !slices.Contains(fields, string(name)) {
			names = append(names, string(name))
		}
		_, err := s.value()
		return err
	})
	list := strings.Join(names[:min(len(names), 10)], ", ")
	switch {
	case messages:
		return fmt.Errorf("%w: the messages are an array in it, and are read from: jq -c '.. | .messages? | arrays[]' FILE | mqttetl import -", why)
	case isNamed:
		return fmt.Errorf("%w: it has no %q, which --columns names, but %.200s", why, named, list)
	case field == "topic" && list == "":
		return fmt.Errorf("%w: --topic gives one", why)
	case field == "topic":
		return fmt.Errorf("%w: --columns topic=… names its member of %.200s, --topic gives one", why, list)
	case list == "":
		return why
	}
	return fmt.Errorf("%w: --columns payload=… names its member of %.200s", why, list)
}

// scalar reads a string or a literal as text.
func (s *scanner) scalar() ([]byte, error) {
	if s.peek() == '"' {
		return s.text()
	}
	return s.value()
}

// bytes reads a string, or {"base64": "…"}.
func (s *scanner) bytes() (b []byte, err error) {
	if s.peek() != '{' {
		return s.text()
	}
	err = s.object(func(name []byte) error {
		if string(name) != "base64" {
			return s.errorf("%q where a string is expected", name)
		}
		v, err := s.text()
		if err == nil {
			b, err = base64.StdEncoding.AppendDecode(nil, v)
		}
		return err
	})
	return b, err
}

func (j *jsonLine) properties(s *scanner) error {
	v, err := s.value()
	if err != nil {
		return err
	}
	j.Properties, err = parseProperties(v)
	return err
}

// finish decides what the payload is.
func (j *jsonLine) finish() (err error) {
	switch {
	case j.base64 != nil && j.payload != nil && string(j.payload) != "null":
		return errors.New("both payload and payload_base64")
	case j.base64 != nil:
		if j.Payload, err = decodeBase64(j.base64); err != nil {
			return fmt.Errorf("payload_base64: %w", err)
		}
		return j.checkLength()
	case j.payload == nil && j.length != 0:
		return errNoPayload
	case j.payload == nil:
		return nil
	case j.encoding != "":
		if err = j.decode(); err != nil {
			return fmt.Errorf("payload: %w", err)
		}
		return j.checkLength()
	}
	return j.asItStands()
}

// asItStands takes a payload of which nothing was said. A string is its text,
// unless payloadlen says that the payload was JSON, with its quotes; an array of
// as many bytes as payloadlen says is these bytes, as %j writes what is not UTF-8;
// any other value is the payload as it stands, as %J writes it.
func (j *jsonLine) asItStands() error {
	raw := j.payload
	if string(raw) == "null" && j.length <= 0 {
		if j.length < 0 {
			return errors.New("payload null: empty with --columns payload=payload:text, the text null with payload=payload:json")
		}
		return nil
	}
	j.Payload = raw
	if raw[0] == '"' {
		text, err := j.unquote()
		if err != nil {
			return err
		}
		if j.length < 0 {
			if err = readTwoWays(text, "NAME"); err != nil {
				return fmt.Errorf("payload: %w", err)
			}
		}
		if j.length < 0 || j.length == len(text) || j.length != len(raw) {
			j.Payload = text
			return j.checkLength()
		}
	}
	if !json.Valid(raw) {
		return fmt.Errorf("payload: %.100q is not JSON", raw)
	}
	if _, ok := nodeBuffer(raw); ok && j.length < 0 {
		return errors.New("payload: bytes as Node.js writes them with --columns payload=payload:buffer, this JSON with payload=payload:json")
	}
	return j.value()
}

// unquote returns the text of a payload that is a string.
func (j *jsonLine) unquote() ([]byte, error) {
	s := scanner{p: j.payload, made: j.r.made}
	text, err := s.text()
	j.r.made = s.made
	return text, err
}

// decode takes a payload that is written as Columns says.
func (j *jsonLine) decode() (err error) {
	raw := j.payload
	text := raw[0] == '"'
	switch {
	case string(raw) == "null" && j.encoding == "text":
		return nil
	case text && j.encoding != "json":
		if raw, err = j.unquote(); err != nil {
			return err
		}
		if j.encoding == "base64" || j.encoding == "hex" || j.encoding == "python" {
			raw, err = decodeText(j.encoding, raw)
		}
	case j.encoding == "base64", j.encoding == "hex":
		err = fmt.Errorf("%.60q is no string of %s", raw, j.encoding)
	case !json.Valid(raw):
		err = fmt.Errorf("%.100q is not JSON", raw)
	case j.encoding == "buffer":
		if raw[0] == '{' || raw[0] == '[' {
			raw, err = decodeBuffer(raw)
		}
	}
	j.Payload = raw
	return err
}

// value decides about a payload that is valid JSON and no string.
func (j *jsonLine) value() error {
	if j.length < 0 || j.length >= len(j.Payload) {
		return nil // %J writes no spaces, 1.50 as 1.5 and \u00e9 as one letter: the payload may have been longer
	}
	// Two bytes or more of JSON make one element, so no text is taken for bytes.
	if b, ok := byteArray(j.Payload, j.length); ok {
		j.Payload = b
		return nil
	}
	if least := shortest(j.Payload); j.length < least {
		return fmt.Errorf("a payload of JSON that has %d bytes at least, payloadlen says %d", least, j.length)
	}
	return nil
}

func (j *jsonLine) checkLength() error {
	if j.length >= 0 && j.length != len(j.Payload) {
		return fmt.Errorf("a payload of %d bytes, payloadlen says %d", len(j.Payload), j.length)
	}
	return nil
}
