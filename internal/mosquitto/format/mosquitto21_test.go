package format

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl"
)

// print prints a message with a payload by a format, without a line end.
func print(t *testing.T, f, payload string) (string, error) {
	t.Helper()
	parsed, err := Parse(f)
	if err != nil {
		t.Fatal(err)
	}
	m := &Message{Message: mqttetl.Message{Topic: []byte("t"), Payload: []byte(payload)}, Time: time.Unix(1, 2)}
	got, err := Style{Format: parsed, NoEOL: true}.Append(nil, m)
	return string(got), err
}

// TestHexadecimalOf21: what mosquitto_sub 2.1 prints; the rows to %X are from
// its manual and its source.
func TestHexadecimalOf21(t *testing.T) {
	for f, want := range map[string]string{
		"%x":      "6d657373616765",
		"%.1x":    "6 d 6 5 7 3 7 3 6 1 6 7 6 5",
		"%.2x":    "6d 65 73 73 61 67 65",
		"%.3x":    "6d6 573 736 167 65",
		"%.4x":    "6d65 7373 6167 65",
		"%.2:x":   "6d:65:73:73:61:67:65",
		"%.2-X":   "6D-65-73-73-61-67-65",
		"%.2 x":   "6d 65 73 73 61 67 65",
		"%.0x":    "6d657373616765",
		"%.99x":   "6d657373616765",
		"%:x":     "6d657373616765",
		"%18x":    "    6d657373616765",
		"%-18x":   "6d657373616765    ",
		"%018x":   "00006d657373616765",
		"%014X":   "6D657373616765",
		"%3x":     "6d6573",
		"%1X":     "6D",
		"%018.2x": "00 00 6d 65 73 73 61 67 65",
		"%18.2x":  "      6d 65 73 73 61 67 65",
		"%-18.2x": "6d 65 73 73 61 67 65    ",
		"%9p|%3p": "  message|mes",
	} {
		if got, err := print(t, f, "message"); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", f, got, err, want)
		}
	}
	if got, _ := print(t, "%06.2x|%.2x|%6x", ""); got != "00 00 00 ||      " {
		t.Errorf("empty payload: %q", got)
	}
	for _, f := range []string{"%.2", "%.2:", "%:", "%.2:Z", "%.2::x"} {
		if _, err := Parse(f); err == nil {
			t.Errorf("%s is a format", f)
		}
	}
}

// TestNumbersInPayloads: %f and %d of 2.1 are C's %f of four and eight bytes.
func TestNumbersInPayloads(t *testing.T) {
	single := func(v float64) string {
		return string(binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v))))
	}
	double := func(v float64) string { return string(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v))) }
	for _, c := range []struct{ format, payload, want string }{
		{"%.3f", "\xf4\xfd\x34\x3f", "0.707"},
		{"%.3d", "\x58\x39\xb4\xc8\x76\xbe\x05\x40", "2.718"},
		{"%f", single(1.5), "1.500000"},
		{"%.0d", double(2.5), "2"},
		{"%10.2d|", double(-1.25), "     -1.25|"},
		{"%010.2d|", double(-1.25), "-000001.25|"},
		{"%-10.2d|", double(-1.25), "-1.25     |"},
		{"%3.4d", double(math.Pi), "3.1416"},
		{"%.1f", single(math.Copysign(0, -1)), "-0.0"},
		{"%06d|%06d", double(math.Inf(-1)), "  -inf|  -inf"},
		{"%f", single(math.NaN()), "nan"},
		{"%d", double(1e22), "10000000000000000000000.000000"},
	} {
		if got, err := print(t, c.format, c.payload); got != c.want || err != nil {
			t.Errorf("%s of %q: %q, %v, want %q", c.format, c.payload, got, err, c.want)
		}
	}
	for f, payload := range map[string]string{"a%fb": "12345", "a%db": "four", "a%.2fb": ""} {
		got, err := print(t, f, payload)
		if got != "ab" || err == nil || !strings.Contains(err.Error(), "on topic t") {
			t.Errorf("%s of %q: %q, %v", f, payload, got, err)
		}
	}
}

// TestRepeatedPropertiesInJSON: no object has a member twice.
func TestRepeatedPropertiesInJSON(t *testing.T) {
	user := func(name, value string) mqttetl.Property {
		return mqttetl.Property{ID: mqttetl.UserProperty, Name: []byte(name), Value: []byte(value)}
	}
	subscription := func(n uint32) mqttetl.Property {
		return mqttetl.Property{ID: mqttetl.SubscriptionIdentifier, Number: n}
	}
	for want, props := range map[string][]mqttetl.Property{
		`{"user-properties":{"a":"1"}}`:                                          {user("a", "1")},
		`{"user-properties":{"a":"1","b":"1"}}`:                                  {user("a", "1"), user("b", "1")},
		`{"user-properties":[{"a":"1"},{"a":"1"}]}`:                              {user("a", "1"), user("a", "1")},
		`{"user-properties":[{"a":"1"},{"b":"2"},{"c":"3"},{"b":"4"}]}`:          {user("a", "1"), user("b", "2"), user("c", "3"), user("b", "4")},
		`{"user-properties":[{"":"1"},{"":"2"}]}`:                                {user("", "1"), user("", "2")},
		`{"user-properties":[{"` + "\ufffd" + `":"1"},{"` + "\ufffd" + `":""}]}`: {user("\xff", "1"), user("\xfe", "")},
		`{"correlation-data":[255,0],"user-properties":{"a":[128]}}`:             {{ID: mqttetl.CorrelationData, Value: []byte("\xff\x00")}, user("a", "\x80")},
		`{"subscription-identifier":7}`:                                          {subscription(7)},
		`{"subscription-identifier":[7,8],"user-properties":{"a":"1"}}`:          {subscription(7), user("a", "1"), subscription(8)},
	} {
		m := &Message{Message: mqttetl.Message{Topic: []byte("t")}, Time: time.Unix(1, 2)}
		for _, p := range props {
			m.Properties = p.Append(m.Properties)
		}
		out, err := AppendJSON(nil, m, false)
		if err != nil || !json.Valid(out) || !strings.Contains(string(out), `"properties":`+want+`,`) {
			t.Errorf("%s, %v, want %s", out, err, want)
		}
		var read struct{ Properties json.RawMessage }
		if err := json.Unmarshal(out, &read); err != nil {
			t.Fatal(err)
		}
		if _, err := mqttetl.ParsePropertiesJSON(read.Properties); err != nil {
			t.Errorf("%s is not read back: %v", read.Properties, err)
		}
	}
}
