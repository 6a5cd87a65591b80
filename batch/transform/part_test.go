package transform

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"github.com/mqttetl/mqttetl/sink/store"
)

// payloadB is a payload of Sparkplug B: metrics by alias, or by name and alias
// where they have one.
func payloadB(metrics ...metricB) string {
	var p []byte
	for _, m := range metrics {
		var b []byte
		if m.name != "" {
			b = protowire.AppendString(protowire.AppendTag(b, 1, protowire.BytesType), m.name)
			b = protowire.AppendVarint(protowire.AppendTag(b, 4, protowire.VarintType), 10)
		}
		b = protowire.AppendVarint(protowire.AppendTag(b, 2, protowire.VarintType), m.alias)
		b = protowire.AppendFixed64(protowire.AppendTag(b, 13, protowire.Fixed64Type), math.Float64bits(m.value))
		p = protowire.AppendBytes(protowire.AppendTag(p, 2, protowire.BytesType), b)
	}
	return string(p)
}

type metricB struct {
	name  string
	alias uint64
	value float64
}

// What is wrong with one document costs the others of the message nothing.
func TestOneBadDocument(t *testing.T) {
	csv := values("INTEGER .n")
	csv.Decode = "csv"
	influx := values("REAL .fields.v")
	influx.Decode = "influx"
	mapped := csv
	mapped.Map = `{n: (if .n == "x" then error("bad") else .n end)}`
	selected := csv
	selected.When = `.n != "1"`
	metrics := values("TEXT .metric", "REAL .value")
	metrics.Decode, metrics.Topic = "sparkplug_b", "spBv1.0/#"
	endless := csv
	endless.Map = `if .n == "x" then last(repeat(1)) else . end`
	for name, c := range map[string]struct {
		route          Route
		topic, payload string
		want, nulls    string
	}{
		"csv": {csv, "t", "n\n1\nx\n3\ny\nz\n", "x: 7 received 1\nx: 7 received 3\nr: rows [1,3-4] of 5: column c0: the text \"x\" is no INTEGER; column c0: the text \"y\" is no INTEGER; column c0: the text \"z\" is no INTEGER",
			"x: 7 received 1\nx: 7 received NULL\nx: 7 received 3\nx: 7 received NULL\nx: 7 received NULL\nr: column c0: the text \"x\" is no INTEGER"},
		"influx": {influx, "t", "m v=1\nm v=\"x\"\n", "x: 7 received 1.0\nr: lines [1] of 2: column c0: the text \"x\" is no REAL",
			"x: 7 received 1.0\nx: 7 received NULL\nr: column c0: the text \"x\" is no REAL"},
		"map":  {mapped, "t", "n\n1\nx\n", "x: 7 received 1\nr: rows [1] of 2: map: jq: error: bad", "x: 7 received 1\nx: 7 received NULL\nr: rows [1] of 2: map: jq: error: bad"},
		"when": {selected, "t", "n\n1\nx\n", "r: rows [1] of 2: column c0: the text \"x\" is no INTEGER", "x: 7 received NULL\nr: column c0: the text \"x\" is no INTEGER"},
		"all":  {csv, "t", "n\nx\ny\n", "r: column c0: the text \"x\" is no INTEGER", "x: 7 received NULL\nx: 7 received NULL\nr: column c0: the text \"x\" is no INTEGER"},
		"metrics": {metrics, "spBv1.0/g/NBIRTH/n", payloadB(metricB{"a", 1, 1.5}, metricB{"b", 2, math.NaN()}, metricB{"", 9, 2}, metricB{"c", 3, -2}),
			"x: 7 received \"a\" 1.5\nx: 7 received \"c\" -2.0\nr: metrics [1-2] of 4: column c1: NaN is no number that a column holds; NBIRTH of g/n: metric 2: alias 9 is not in its birth",
			"x: 7 received \"a\" 1.5\nx: 7 received \"b\" NULL\nx: 7 received NULL NULL\nx: 7 received \"c\" -2.0\nr: metrics [2] of 4: NBIRTH of g/n: metric 2: alias 9 is not in its birth"},
		"too slow": {endless, "t", "n\n1\nx\n", "r: map: the jq programs of the route took too long: more than 200ms", "x: 7 received NULL\nr: map: the jq programs of the route took too long: more than 200ms"},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{TimeLimit: limit}
			if got := apply(t, o, c.route, c.topic, c.payload); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			c.route.OnError = OnErrorNull
			if got := apply(t, o, c.route, c.topic, c.payload); got != c.nulls {
				t.Errorf("on_error: null: got\n%s\nwant\n%s", got, c.nulls)
			}
		})
	}
}

// What a dead letter is about is made of it, once it can be, and nothing else;
// what is published has numbers that no object has yet.
func TestPartIsTriedAgain(t *testing.T) {
	r := values("INTEGER .n")
	r.Decode, r.Publish = "csv", "out"
	payload := "n\n1\nx\n3\n4.5\n"
	a := applier(t, Options{Objects: true}, r)
	a.Apply(record("t", payload))
	want := "out 0: {\"c0\":1}\nout 1: {\"c0\":3}\nr: rows [1,3] of 4: "
	if got := show(a); !strings.HasPrefix(got, want) {
		t.Errorf("got %s", got)
	}
	p, ok := ParsePart(a.Failures[0].DeadLetter().Reason)
	if !ok {
		t.Fatal("the dead letter does not say what it is about")
	}
	r.Columns[0].Type = store.Real
	a = applier(t, Options{Objects: true}, r)
	a.ApplyPart(record("t", payload), p)
	if got := show(a); !strings.HasPrefix(got, "out 40000: {\"c0\":4.5}\nr: rows [1] of 4: ") {
		t.Errorf("mended for one: %s", got)
	}
	r.Columns[0].Type = store.Any
	a = applier(t, Options{Objects: true}, r)
	a.ApplyPart(record("t", payload), p)
	if got := show(a); got != "out 20000: {\"c0\":\"x\"}\nout 40000: {\"c0\":\"4.5\"}\n" {
		t.Errorf("mended for both: %s", got)
	}
	if a.Apply(record("t", payload)); len(a.Objects) != 2+4 {
		t.Errorf("%d objects", len(a.Objects))
	}
}

// A dead letter stays short: bad documents that it cannot name cost the message.
func TestScatteredDocuments(t *testing.T) {
	r := values("INTEGER .n")
	r.Decode = "csv"
	for pairs, want := range map[int]string{
		100:  "100 rows, rows [1,3,5,7,",
		5000: "0 rows, 5000 of 10000 rows, too scattered to be named: column c0: the text \"x\" is no INTEGER",
	} {
		a := applier(t, Options{}, r)
		a.Apply(record("t", "n\n"+strings.Repeat("1\nx\n", pairs)))
		got := fmt.Sprintf("%d rows, %s", a.Rows[0].Len(), a.Failures[0].DeadLetter().Reason)
		if !strings.HasPrefix(got, want) || len(got) > maxPart+2*reasonLimit {
			t.Errorf("%d: %s", pairs, got)
		}
	}
}

func TestParts(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var p Part
		in := map[int]bool{}
		n := rapid.IntRange(1, 60).Draw(r, "documents")
		for i := range n {
			if rapid.Bool().Draw(r, "lost") {
				p.add(i)
				in[i] = true
			}
		}
		if p.n == 0 {
			return
		}
		text, ok := p.text("sparkplug_b", n)
		back, isPart := ParsePart(text + ": column [1] of 3: x")
		if !ok || !isPart || back.n != len(in) {
			r.Fatalf("%s: %v, %v, %d", text, ok, isPart, back.n)
		}
		for i := -1; i <= n; i++ {
			if back.has(i) != in[i] {
				r.Errorf("%s: %d is %v", text, i, back.has(i))
			}
		}
	})
	for _, reason := range []string{"", "rows of it", "rows [1]: x", "rows [2,1] of 3: x", "rows [3-1] of 4: x", "rows [1,] of 4: x",
		"rows [99999999999999999999] of 4: x", "column a: rows [1] of 3: x"} {
		if _, ok := ParsePart(reason); ok {
			t.Errorf("%q is a part", reason)
		}
	}
}

// FuzzPart: whatever a reason says, it is no part, or one that says the same of itself.
func FuzzPart(f *testing.F) {
	for _, s := range []string{"metrics [1,5-7] of 12: x", "rows [0] of 1: ", "lines [3-2] of 4: x", "rows [1-1] of 2: x", "", "rows [00] of 1: y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, reason string) {
		p, ok := ParsePart(reason)
		if !ok {
			return
		}
		text, ok := p.text("sparkplug_b", 1)
		if !ok {
			return // longer than we write
		}
		back, ok := ParsePart(text + ": ")
		if again, _ := back.text("sparkplug_b", 1); !ok || again != text || back.n != p.n {
			t.Errorf("%q is %s of %d, then %s of %d", reason, text, p.n, again, back.n)
		}
	})
}
