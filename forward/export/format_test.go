package export

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/mqttetl/mqttetl"
)

func drawRecord(t *rapid.T) mqttetl.Record {
	raw := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 0, 40), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) }))
	return mqttetl.Record{
		Seq: mqttetl.Seq(rapid.Uint64().Draw(t, "seq")), Time: rapid.Int64Range(-6e18, 6e18).Draw(t, "time"),
		Source: rapid.String().Draw(t, "source"),
		Message: mqttetl.Message{Topic: raw.Draw(t, "topic"), Payload: raw.Draw(t, "payload"),
			Flags:      mqttetl.Flags(rapid.IntRange(0, 15).Draw(t, "flags"))&^3 | mqttetl.Flags(rapid.IntRange(0, 2).Draw(t, "qos")),
			Properties: rapid.SampledFrom([]mqttetl.Properties{nil, {1, 1}, {0x26, 0, 1, 'a', 0, 1, 0xff}}).Draw(t, "properties")},
	}
}

// What encoding/json reads is the record.
func TestJSONIsReadAsItWasWritten(t *testing.T) {
	enc := &JSON{}
	rapid.Check(t, func(t *rapid.T) {
		r := drawRecord(t)
		line := enc.Append(nil, &r)
		var got struct {
			Tst, Time, Source string
			Topic             any
			QoS, Retain, Dup  int
			Payloadlen        int
			Payload           *string
			Base64            []byte `json:"payload_base64"`
			Seq               uint64
			Properties        json.RawMessage
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' {
			t.Fatalf("not one line: %q", line)
		}
		at, err := time.Parse(time.RFC3339Nano, got.Time)
		if err != nil || !at.Equal(r.When()) {
			t.Fatalf("time %s, want %v", got.Time, r.When())
		}
		if tst, err := time.Parse("2006-01-02T15:04:05.000000-0700", got.Tst); err != nil || !tst.Equal(r.When().Truncate(time.Microsecond)) && r.Time >= 0 {
			t.Fatalf("tst %s, want %v", got.Tst, r.When())
		}
		payload := got.Base64
		if got.Payload != nil {
			payload = []byte(*got.Payload)
		}
		topic, isText := got.Topic.(string)
		if !isText {
			raw, _ := base64.StdEncoding.DecodeString(got.Topic.(map[string]any)["base64"].(string))
			topic = string(raw)
		}
		if !bytes.Equal(payload, r.Payload) || got.Payloadlen != len(r.Payload) || topic != string(r.Topic) ||
			mqttetl.Seq(got.Seq) != r.Seq || got.QoS != r.Flags.QoS() || (got.Retain == 1) != r.Flags.Retain() || (got.Dup == 1) != r.Flags.Dup() {
			t.Fatalf("%s is not %+v", line, r)
		}
		if utf8.ValidString(r.Source) && got.Source != r.Source {
			t.Fatalf("source %q, want %q", got.Source, r.Source)
		}
		if (len(r.Properties) > 0) != (got.Properties != nil) {
			t.Fatalf("properties %s", got.Properties)
		}
	})
}

func TestCSVIsReadAsItWasWritten(t *testing.T) {
	enc := &CSV{}
	rapid.Check(t, func(t *rapid.T) {
		r := drawRecord(t)
		r.Topic = bytes.ReplaceAll(r.Topic, []byte("\r"), nil)
		r.Source = strings.ReplaceAll(r.Source, "\r", "")
		rows, err := csv.NewReader(bytes.NewReader(enc.Append([]byte(CSVHeader), &r))).ReadAll()
		if err != nil || len(rows) != 2 {
			t.Fatalf("%d rows, %v", len(rows), err)
		}
		row := rows[1]
		payload := []byte(row[7])
		if row[8] != "" {
			payload, _ = base64.StdEncoding.DecodeString(row[8])
		}
		if !bytes.Equal(payload, r.Payload) || row[2] != string(r.Topic) || row[3] != r.Source || row[0] != fmt.Sprint(uint64(r.Seq)) {
			t.Fatalf("%q is not %+v", row, r)
		}
	})
}

func TestTimesBeforeTheEpoch(t *testing.T) {
	var c clock
	for ns, want := range map[int64]string{
		-1: "1969-12-31T23:59:59.999999999", 0: "1970-01-01T00:00:00.000000000", 1e9 - 1: "1970-01-01T00:00:00.999999999",
		-1e9: "1969-12-31T23:59:59.000000000", -1e9 - 1: "1969-12-31T23:59:58.999999999",
	} {
		if got := string(c.append(nil, ns, 9)); got != want {
			t.Errorf("%d: %s, want %s", ns, got, want)
		}
	}
}

// chunks is a Source of numbered records. It uses memory again as soon as it may.
type chunks struct {
	left, size int
	ring       [Ahead][]mqttetl.Record
	turn       int
}

var errBroken = errors.New("broken")

func (c *chunks) Next(context.Context) ([]mqttetl.Record, error) {
	if c.left == 0 {
		return nil, io.EOF
	}
	if c.left < 0 {
		return nil, errBroken
	}
	c.turn = (c.turn + 1) % Ahead
	recs := slices.Grow(c.ring[c.turn][:0], c.size)[:min(c.size, c.left)]
	c.ring[c.turn] = recs
	for i := range recs {
		recs[i].Seq = mqttetl.Seq(c.left - i)
	}
	c.left -= len(recs)
	return recs, nil
}

func TestLinesKeepsTheOrder(t *testing.T) {
	var out bytes.Buffer
	n, err := Lines(t.Context(), &out, &chunks{left: 10000, size: 7}, func() Encoder { return &JSON{} })
	if err != nil || n != 10000 {
		t.Fatalf("%d lines, %v", n, err)
	}
	d := json.NewDecoder(&out)
	for want := 10000; want > 0; want-- {
		var got struct{ Seq int }
		if err := d.Decode(&got); err != nil || got.Seq != want {
			t.Fatalf("record %d, want %d, %v", got.Seq, want, err)
		}
	}
}

// waiting encodes every hundredth record only when all else that can be done
// meanwhile has been done.
type waiting struct{ JSON }

func (w *waiting) Append(dst []byte, r *mqttetl.Record) []byte {
	if r.Seq%100 == 0 {
		<-time.After(time.Second) // of synctest's clock
	}
	return w.JSON.Append(dst, r)
}

// What is still to be encoded is not overwritten, however far reading gets ahead.
func TestLinesReadsNoFurtherThanAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		n, err := Lines(t.Context(), &out, &chunks{left: 2000, size: 7}, func() Encoder { return &waiting{} })
		if err != nil || n != 2000 {
			t.Fatalf("%d lines, %v", n, err)
		}
		d := json.NewDecoder(&out)
		for want := 2000; want > 0; want-- {
			var got struct{ Seq int }
			if err := d.Decode(&got); err != nil || got.Seq != want {
				t.Fatalf("record %d, want %d, %v", got.Seq, want, err)
			}
		}
	})
}

type fullDisk struct{ left int }

func (w *fullDisk) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func TestLinesEndsWithTheFirstError(t *testing.T) {
	if _, err := Lines(t.Context(), io.Discard, &chunks{left: -1, size: 7}, func() Encoder { return &JSON{} }); !errors.Is(err, errBroken) {
		t.Errorf("a source that breaks: %v", err)
	}
	if _, err := Lines(t.Context(), &fullDisk{5000}, &chunks{left: 100000, size: 7}, func() Encoder { return &JSON{} }); !errors.Is(err, errBroken) {
		t.Errorf("a full disk: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Lines(ctx, io.Discard, &chunks{left: 1 << 40, size: 7}, func() Encoder { return &JSON{} }); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
