package importer

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// byteArray reads an array of n whole numbers from 0 to 255, of any number if n
// is -1. So mqttetl sub and mosquitto_sub write bytes that no JSON string can hold.
func byteArray(array []byte, n int) ([]byte, bool) {
	s := scanner{p: array}
	if s.expect('[') != nil {
		return nil, false
	}
	b := make([]byte, 0, max(n, 0))
	for s.peek() != ']' || len(b) == 0 && n > 0 {
		if len(b) > 0 && s.expect(',') != nil || len(b) == n {
			return nil, false
		}
		v, err := s.value()
		if err != nil {
			return nil, false
		}
		c, err := strconv.ParseUint(string(v), 10, 8)
		if err != nil {
			return nil, false
		}
		b = append(b, byte(c))
	}
	return b, n < 0 || len(b) == n
}

// shortest is what the text has at least from which %J has made this valid
// JSON. Spaces and escapes it only takes away, but 1e3 becomes 1000, and a byte
// that is not UTF-8 the three of U+FFFD.
func shortest(value []byte) (n int) {
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	for {
		t, err := d.Token()
		if err != nil {
			return n
		}
		switch t := t.(type) {
		case json.Delim:
			n++
		case string:
			n += 2 + utf8.RuneCountInString(t)
		case json.Number:
			n += digits(t)
		case bool, nil:
			n += len("true")
		}
	}
}

// digits counts those that a number cannot do without.
func digits(n json.Number) int {
	v, err := n.Float64()
	if err != nil {
		return 1
	}
	mantissa, _, _ := strings.Cut(strconv.FormatFloat(v, 'e', -1, 64), "e")
	return len(strings.Replace(mantissa, ".", "", 1))
}
