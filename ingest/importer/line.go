package importer

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/mqttetl/mqttetl"
)

// entry is one message as a line has it.
type entry struct {
	mqttetl.Message
	time   int64  // Unix nanoseconds
	timed  bool   // the line says when
	wall   bool   // without a zone
	source string // "" if the line does not say
}

// A parser reads one line. What it returns may point into the line.
type parser func(line []byte) (entry, error)

// check refuses what could not have come from a broker. exported says that a
// topic that is not UTF-8 stands as export writes it.
func (e *entry) check(exported bool) error {
	if len(e.Payload) > maxPayload {
		return fmt.Errorf("a payload of %d bytes, MQTT has %d", len(e.Payload), maxPayload)
	}
	return checkTopic(e.Topic, exported)
}

// jsonLine is what is gathered from the members of a line.
type jsonLine struct {
	entry
	payload, base64 []byte // the values as they stand; nil if absent
	length          int    // payloadlen, -1 if absent
}

// parseJSON reads a line of NDJSON as mqttetl export and mosquitto_sub's %j and
// %J write it. Members that it does not know it passes over.
func parseJSON(line []byte) (entry, error) {
	if err := checkText(line); err != nil {
		return entry{}, err
	}
	s := scanner{p: line}
	j := jsonLine{length: -1}
	exact := false // a time with nanoseconds has been seen
	err := s.object(func(name []byte) (err error) {
		switch string(name) {
		case "time", "tst", "timestamp":
			var v []byte
			if v, err = s.scalar(); err != nil || exact && string(name) != "time" {
				return err
			}
			exact = string(name) == "time"
			err = j.setTime(string(v))
		case "topic":
			j.Topic, err = s.bytes()
		case "payload":
			j.payload, err = s.value()
		case "payload_base64":
			j.base64, err = s.text()
		case "payloadlen":
			var v []byte
			if v, err = s.scalar(); err == nil {
				j.length, err = strconv.Atoi(string(v))
			}
		case "properties":
			err = j.properties(&s)
		case "source":
			var v []byte
			v, err = s.bytes()
			j.source = string(v)
		case "qos", "retain", "dup":
			err = j.flag(&s, string(name))
		default:
			_, err = s.value()
		}
		return err
	})
	if err == nil {
		err = s.end()
	}
	if err == nil {
		err = j.finish()
	}
	if err == nil {
		err = j.check(true) // a string is UTF-8, anything else {"base64": …}
	}
	return j.entry, err
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
	if err != nil || string(v) == "null" {
		return err
	}
	j.Properties, err = mqttetl.ParsePropertiesJSON(v)
	return err
}

func (j *jsonLine) flag(s *scanner, name string) error {
	v, err := s.scalar()
	if err != nil {
		return err
	}
	return j.setFlag(name, string(v))
}

// setFlag sets qos, retain or dup; what is given twice counts as given last.
func (e *entry) setFlag(name, value string) error {
	if name == "qos" {
		q, err := parseQoS(value)
		e.Flags = e.Flags&^qosFlags | mqttetl.Flags(q)
		return err
	}
	on, err := parseBit(value)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	flag := mqttetl.FlagDup
	if name == "retain" {
		flag = mqttetl.FlagRetain
	}
	if e.Flags &^= flag; on {
		e.Flags |= flag
	}
	return nil
}

// qosFlags are the bits of the QoS.
const qosFlags = mqttetl.Flags(3)

// finish decides what the payload is. A string is its text, unless payloadlen
// says that the payload was JSON, with its quotes; an array of as many bytes as
// payloadlen says is these bytes, as %j writes what is not UTF-8; any other
// value is the payload as it stands, as %J writes it.
func (j *jsonLine) finish() (err error) {
	if j.base64 != nil {
		if j.payload != nil {
			return errors.New("both payload and payload_base64")
		}
		j.Payload, err = base64.StdEncoding.AppendDecode(nil, j.base64)
		if err != nil {
			return fmt.Errorf("payload_base64: %w", err)
		}
		return j.checkLength()
	}
	raw := j.payload
	if raw == nil || string(raw) == "null" && j.length == 0 {
		return j.checkLength()
	}
	j.Payload = raw
	if raw[0] == '"' {
		s := scanner{p: raw}
		text, err := s.text()
		if err != nil {
			return err
		}
		if j.length < 0 || j.length == len(text) || j.length != len(raw) {
			j.Payload = text
			return j.checkLength()
		}
	}
	if !json.Valid(raw) {
		return fmt.Errorf("payload: %.100q is not JSON", raw)
	}
	return j.value()
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

// piece is a letter of a text format, or literal text.
type piece struct {
	letter byte // 0: literal
	text   string
}

// parseTextFormat reads a format as mosquitto_sub -F has it, of %I or %U (time),
// %t (topic), %p, %x or %X (payload, the latter in hexadecimal), %q, %r, %l, %m
// and %%. Two letters must have text between them, and lines are told apart by
// it: only the payload may hold that text again, and only if it stands last.
func parseTextFormat(format string) (parser, error) {
	pieces, err := textPieces(format)
	if err != nil {
		return nil, err
	}
	return func(line []byte) (e entry, err error) {
		rest := line
		for i, p := range pieces {
			if p.letter == 0 {
				if !bytes.HasPrefix(rest, []byte(p.text)) {
					return e, fmt.Errorf("%q is missing behind byte %d", p.text, len(line)-len(rest))
				}
				rest = rest[len(p.text):]
				continue
			}
			value := rest
			if i+1 < len(pieces) {
				at := bytes.Index(rest, []byte(pieces[i+1].text))
				if at < 0 {
					return e, fmt.Errorf("%q is missing behind byte %d", pieces[i+1].text, len(line)-len(rest))
				}
				value = rest[:at]
			}
			rest = rest[len(value):]
			if err := e.set(p.letter, value); err != nil {
				return e, err
			}
		}
		if len(rest) > 0 {
			return e, fmt.Errorf("more behind byte %d", len(line)-len(rest))
		}
		return e, e.check(false)
	}, nil
}

// CheckFormat returns what is wrong with a format of Config.
func CheckFormat(format string) error {
	switch format {
	case "", "ndjson", "csv":
		return nil
	}
	_, err := textPieces(format)
	return err
}

func textPieces(format string) (pieces []piece, err error) {
	topic := false
	for i := 0; i < len(format); i++ {
		c := format[i]
		if c == '%' && i+1 < len(format) && format[i+1] != '%' {
			i++
			if !bytes.ContainsRune([]byte("IUtpxXqrlm"), rune(format[i])) {
				return nil, badOption("format %q: %%%c cannot be read back; known are %%I %%U %%t %%p %%x %%X %%q %%r %%l %%m", format, format[i])
			}
			if len(pieces) > 0 && pieces[len(pieces)-1].letter != 0 {
				return nil, badOption("format %q: text must stand between two letters", format)
			}
			topic = topic || format[i] == 't'
			pieces = append(pieces, piece{letter: format[i]})
			continue
		}
		if c == '%' {
			i++
		}
		if n := len(pieces); n > 0 && pieces[n-1].letter == 0 {
			pieces[n-1].text += string(c)
		} else {
			pieces = append(pieces, piece{text: string(c)})
		}
	}
	if !topic {
		return nil, badOption("format %q: must be ndjson, csv, or letters with %%t, the topic", format)
	}
	return pieces, nil
}

// set takes the value of a letter.
func (e *entry) set(letter byte, value []byte) (err error) {
	switch letter {
	case 'I', 'U':
		err = e.setTime(string(value))
	case 't':
		e.Topic = value
	case 'p':
		e.Payload = value
	case 'x', 'X':
		e.Payload, err = decodeHex(value)
	case 'q':
		return e.setFlag("qos", string(value))
	case 'r':
		return e.setFlag("retain", string(value))
	case 'l', 'm':
		_, err = strconv.ParseUint(string(value), 10, 32)
	}
	return err
}

func decodeHex(s []byte) ([]byte, error) {
	out := make([]byte, 0, len(s)/2)
	if len(s)%2 != 0 {
		return nil, errors.New("an odd number of hexadecimal digits")
	}
	for i := 0; i < len(s); i += 2 {
		v, err := strconv.ParseUint(string(s[i:i+2]), 16, 8)
		if err != nil {
			return nil, fmt.Errorf("%q is not hexadecimal", s[i:i+2])
		}
		out = append(out, byte(v))
	}
	return out, nil
}
