package mqttetl

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

// drawProperties draws well-formed properties, strings of any bytes included.
func drawProperties(t *rapid.T) Properties {
	var p Properties
	text := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 20), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }))
	prefixed := func(b []byte) []byte { return append([]byte{byte(len(b) >> 8), byte(len(b))}, b...) }
	for range rapid.IntRange(0, 8).Draw(t, "properties") {
		id := rapid.SampledFrom([]PropertyID{PayloadFormat, MessageExpiry, ContentType, ResponseTopic, CorrelationData,
			SubscriptionIdentifier, TopicAlias, UserProperty}).Draw(t, "id")
		p = append(p, byte(id))
		switch id {
		case PayloadFormat:
			p = append(p, rapid.Byte().Draw(t, "n"))
		case MessageExpiry:
			p = append(p, rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "n")...)
		case TopicAlias:
			p = append(p, rapid.SliceOfN(rapid.Byte(), 2, 2).Draw(t, "n")...)
		case SubscriptionIdentifier:
			p = AppendVarInt(p, rapid.Uint32Range(0, MaxVarInt).Draw(t, "n"))
		case UserProperty:
			p = append(p, prefixed(text.Draw(t, "name"))...)
			p = append(p, prefixed(text.Draw(t, "value"))...)
		default:
			p = append(p, prefixed(text.Draw(t, "value"))...)
		}
	}
	return p
}

func TestPropertiesThroughJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawProperties(t)
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		var again Properties
		for v := range p.All() {
			again = v.Append(again)
		}
		if !bytes.Equal(again, p) {
			t.Fatalf("%x became %x property by property", p, again)
		}
		text := p.AppendJSON(nil)
		q, err := ParsePropertiesJSON(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if len(q) != len(p) || q.Check() != nil {
			t.Fatalf("%x became %x", p, q)
		}
		if again := q.AppendJSON(nil); !bytes.Equal(again, text) {
			t.Fatalf("%s became %s", text, again)
		}
	})
}

func TestPropertiesJSONForms(t *testing.T) {
	want := []byte{0x26, 0, 1, 'a', 0, 1, 'b', 0x26, 0, 1, 'c', 0, 1, 'd'}
	for _, s := range []string{
		`{"user-properties":[["a","b"],["c","d"]]}`,
		`{"user-properties":{"a":"b","c":"d"}}`,
		` { "user-properties" : [ {"a":"b"} , {"c":"d"} ] } `,
		`{"user-properties":[["a",{"base64":"Yg=="}],["c","d"]]}`,
	} {
		if got, err := ParsePropertiesJSON([]byte(s)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %x, %v", s, got, err)
		}
	}
	if got, err := ParsePropertiesJSON([]byte(`{"correlation-data":"not base64!"}`)); err != nil || string(got[3:]) != "not base64!" {
		t.Errorf("correlation data: %q, %v", got, err)
	}
}

func TestPropertiesJSONRefused(t *testing.T) {
	for _, s := range []string{
		``, `null`, `[]`, `{`, `{"content-type":"x"`, `{"content-type":1}`, `{"unknown":1}`, `{"topic-alias":65536}`, `{"payload-format-indicator":-1}`,
		`{"message-expiry-interval":1.5}`, `{"user-properties":1}`, `{"user-properties":[["a"]]}`, `{"user-properties":[["a","b","c"]]}`,
		`{"user-properties":["a"]}`, `{"content-type":{"hex":"00"}}`, `{"content-type":{"base64":"?"}}`, `{"subscription-identifier":[268435456]}`, `{}{}`, `{} x`,
	} {
		if p, err := ParsePropertiesJSON([]byte(s)); !errors.Is(err, ErrProperties) {
			t.Errorf("%s: %x, %v", s, p, err)
		}
	}
}

func FuzzParsePropertiesJSON(f *testing.F) {
	f.Add([]byte(`{"content-type":"a","user-properties":[["a",{"base64":"/w=="}]],"subscription-identifier":[1,2]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePropertiesJSON(text)
		if err != nil {
			return
		}
		if err := p.Check(); err != nil {
			t.Fatalf("%q became %x: %v", text, p, err)
		}
	})
}
