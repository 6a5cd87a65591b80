package mqttetl

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// FuzzDecodeRecords: whatever stands on the disk, decoding is an error or
// gives records that encode to the same again.
func FuzzDecodeRecords(f *testing.F) {
	var b Batch
	b.Append(1_700_000_000_000_000_000, Message{Topic: []byte("a/b"), Payload: []byte("payload"), Flags: 1})
	b.Append(1_600_000_000_000_000_000, Message{Topic: []byte("a"), Properties: Properties{1, 1}, Flags: 2 | FlagRetain})
	f.Add(b.Bytes(), b.Len())
	f.Add([]byte{}, 0)
	f.Add([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1}, 1)
	f.Fuzz(func(t *testing.T, p []byte, n int) {
		recs, err := DecodeRecords(nil, p, n, 7, "source")
		if err != nil {
			if !errors.Is(err, ErrEncoding) || len(recs) != 0 {
				t.Fatalf("%d records, %v", len(recs), err)
			}
			return
		}
		var again Batch
		for i, r := range recs {
			if r.Seq != 7+Seq(i) || r.Source != "source" {
				t.Fatalf("record %d: %+v", i, r)
			}
			again.Append(r.Time, r.Message)
		}
		back, err := DecodeRecords(nil, again.Bytes(), again.Len(), 7, "source")
		if err != nil || again.Len() != n || !slices.EqualFunc(back, recs, sameRecord) {
			t.Fatalf("encoded again: %v\n%+v\n%+v", err, back, recs)
		}
	})
}

func sameRecord(a, b Record) bool {
	return a.Seq == b.Seq && a.Time == b.Time && a.Flags == b.Flags && bytes.Equal(a.Topic, b.Topic) &&
		bytes.Equal(a.Properties, b.Properties) && bytes.Equal(a.Payload, b.Payload)
}

// FuzzProperties: what Check accepts is walked to its end, is the same when it
// is put together again, and comes back from its JSON.
func FuzzProperties(f *testing.F) {
	var p Properties
	for _, v := range []Property{
		{ID: PayloadFormat, Number: 1}, {ID: MessageExpiry, Number: 60}, {ID: TopicAlias, Number: 3}, {ID: SubscriptionIdentifier, Number: 268_435_455},
		{ID: ContentType, Value: []byte("text")}, {ID: CorrelationData, Value: []byte{0, 0xff}}, {ID: UserProperty, Name: []byte("a"), Value: []byte("\xff")},
	} {
		p = v.Append(p)
	}
	f.Add([]byte(p))
	f.Add([]byte{byte(ContentType), 0xff, 0xff})
	f.Fuzz(func(t *testing.T, p []byte) {
		var again Properties
		for v := range Properties(p).All() {
			again = v.Append(again)
		}
		err := Properties(p).Check()
		if (err == nil) != (walked(p) == len(p)) || err != nil && !errors.Is(err, ErrProperties) {
			t.Fatalf("Check: %v, %d of %d bytes walked", err, walked(p), len(p))
		}
		if err != nil || len(p) == 0 {
			return
		}
		if again.Check() != nil || len(slices.Collect(again.All())) != len(slices.Collect(Properties(p).All())) {
			t.Fatalf("%x put together again is %x", p, again)
		}
		text := Properties(p).AppendJSON(nil)
		back, err := ParsePropertiesJSON(text)
		if err != nil || back.Check() != nil {
			t.Fatalf("%x is %s in JSON: %v", p, text, err)
		}
	})
}

// walked is how much of p is well formed.
func walked(p Properties) (n int) {
	for n < len(p) {
		_, k := p[n:].next()
		if k == 0 {
			break
		}
		n += k
	}
	return n
}
