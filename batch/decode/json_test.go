package decode

import (
	"bytes"
	"encoding/json"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/itchyny/gojq"
	"pgregory.net/rapid"
)

func mustPaths(t testing.TB, texts ...string) []Path {
	t.Helper()
	paths := make([]Path, len(texts))
	for i, s := range texts {
		p, ok := ParsePath(s)
		if !ok {
			t.Fatalf("%s is not a simple path", s)
		}
		paths[i] = p
	}
	return paths
}

func mustNew(t testing.TB, format string, o Options) Decoder {
	t.Helper()
	d, err := New(format, o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// all returns what a decoder emits, or why that is no document.
func all(d Decoder, topic string, payload []byte) (docs []any, err error) {
	var failed []error
	err = d.Decode(topic, payload, func(doc any) error {
		docs = append(docs, doc)
		if f, ok := doc.(Failed); ok {
			failed = append(failed, f.Err)
		}
		return nil
	})
	if err == nil && len(failed) > 0 && len(failed) == len(docs) {
		return nil, failed[0]
	}
	return docs, err
}

// same compares documents; NaN equals itself.
func same(a, b any) bool {
	switch a := a.(type) {
	case float64:
		b, ok := b.(float64)
		return ok && (a == b || a != a && b != b)
	case Failed:
		b, ok := b.(Failed)
		return ok && a.Err.Error() == b.Err.Error()
	case Bytes:
		b, ok := b.(Bytes)
		return ok && bytes.Equal(a, b)
	case *big.Int:
		b, ok := b.(*big.Int)
		return ok && a.Cmp(b) == 0
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !same(a[i], b[i]) {
				return false
			}
		}
		return true
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k := range a {
			if v, ok := b[k]; !ok || !same(a[k], v) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

// TestBrokenJSON: what is not JSON is refused by both readers, with a place.
func TestBrokenJSON(t *testing.T) {
	deep := func(n int, open, shut string) string { return strings.Repeat(open, n) + strings.Repeat(shut, n) }
	for _, c := range []struct{ payload, want string }{
		{``, `payload is not JSON: it is empty`},
		{` `, `payload is not JSON: it ends too early, at byte 1`},
		{`{"a":1`, `payload is not JSON: it ends too early, at byte 6`},
		{`{"a":1}x`, `payload is not JSON: unexpected 'x' at byte 7`},
		{`{"a":1,}`, `payload is not JSON: unexpected '}' at byte 7`},
		{`{"a" 1}`, `payload is not JSON: unexpected '1' at byte 5`},
		{`{a:1}`, `payload is not JSON: unexpected 'a' at byte 1`},
		{`[1,]`, `payload is not JSON: unexpected ']' at byte 3`},
		{`[1 2]`, `payload is not JSON: unexpected '2' at byte 3`},
		{`NaN`, `payload is not JSON: unexpected 'N' at byte 0`},
		{`{"a":NaN}`, `payload is not JSON: unexpected 'N' at byte 5`},
		{`-Infinity`, `payload is not JSON: unexpected 'I' at byte 1`},
		{`nul`, `payload is not JSON: it ends too early, at byte 3`},
		{`trux`, `payload is not JSON: unexpected 'x' at byte 3`},
		{`01`, `payload is not JSON: unexpected '1' at byte 1`},
		{`1.`, `payload is not JSON: it ends too early, at byte 2`},
		{`1.e3`, `payload is not JSON: unexpected 'e' at byte 2`},
		{`1e+`, `payload is not JSON: it ends too early, at byte 3`},
		{`"abc`, `payload is not JSON: it ends too early, at byte 4`},
		{`"a\`, `payload is not JSON: it ends too early, at byte 3`},
		{`"a\x"`, `payload is not JSON: unknown escape within a string at byte 2`},
		{`"\u12`, `payload is not JSON: it ends too early, at byte 5`},
		{`"\u12g4"`, `payload is not JSON: unknown escape within a string at byte 1`},
		{"\"a\nb\"", `payload is not JSON: control byte 0x0a within a string at byte 2`},
		{"\"12345678\x01\"", `payload is not JSON: control byte 0x01 within a string at byte 9`},
		{"\"1234\x015678901234567890\"", `payload is not JSON: control byte 0x01 within a string at byte 5`},
		{"{\"a\":\"\xff\"}", `payload is not JSON: invalid UTF-8 at byte 6`},
		{"{\"a\xc3\":1}", `payload is not JSON: invalid UTF-8 at byte 3`},
		{"\xff", `payload is not JSON: unexpected byte 0xff at byte 0`},
		{"[1" + strings.Repeat("0", 1000) + "]", `payload has a number of 1001 characters at byte 1, more than 1000`},
		{deep(10_000, `[`, `]`), `payload nests deeper than 1000 levels at byte 1000`},
		{deep(10_000, `{"a":`, `}`), `payload nests deeper than 1000 levels at byte 5000`},
	} {
		_, err := all(mustNew(t, "json", Options{}), "", []byte(c.payload))
		if err == nil || err.Error() != c.want {
			t.Errorf("tree of %.20q: %v, want %s", c.payload, err, c.want)
		}
		err = NewExtractor(mustPaths(t, ".a")).Extract([]byte(c.payload), make([]Value, 1))
		if err == nil || err.Error() != c.want {
			t.Errorf("extractor of %.20q: %v, want %s", c.payload, err, c.want)
		}
	}
	if _, err := all(mustNew(t, "json", Options{}), "", []byte(deep(1000, `[`, `]`))); err != nil {
		t.Errorf("1000 levels: %v", err)
	}
	wide := "[" + strings.Repeat(`{"b":[]},`, 2000) + "1]"
	if _, err := all(mustNew(t, "json", Options{}), "", []byte(wide)); err != nil {
		t.Errorf("2000 arrays side by side: %v", err)
	}
}

// TestNumbersAreExact: integers are exact as long as they have 64 bits in a
// column, and in a document always; 1e400 is an error for who wants a float.
func TestNumbersAreExact(t *testing.T) {
	for _, c := range []struct {
		number string
		doc    any
		i      int64
		f      float64
		iErr   string
		fErr   string
	}{
		{`9007199254740993`, 9007199254740993, 9007199254740993, 9007199254740992, "", ""},
		{`9223372036854775807`, 9223372036854775807, 9223372036854775807, 9223372036854775807, "", ""},
		{`-9223372036854775808`, -9223372036854775808, -9223372036854775808, -9223372036854775808, "", ""},
		{`9223372036854775808`, bigInt("9223372036854775808"), 0, 9223372036854775808,
			"9223372036854775808 at byte 6 is beyond an integer of 64 bits", ""},
		{`-9223372036854775809`, bigInt("-9223372036854775809"), 0, -9223372036854775808,
			"-9223372036854775809 at byte 6 is beyond an integer of 64 bits", ""},
		{`18446744073709551617`, bigInt("18446744073709551617"), 0, 18446744073709551616,
			"18446744073709551617 at byte 6 is beyond an integer of 64 bits", ""},
		{`-0`, 0, 0, 0, "", ""},
		{`1e3`, 1000.0, 1000, 1000, "", ""},
		{`21.50`, 21.5, 0, 21.5, "21.50 at byte 6 is not an integer of 64 bits", ""},
		{`1e19`, 1e19, 0, 1e19, "1e19 at byte 6 is not an integer of 64 bits", ""},
		{`1e400`, json.Number("1e400"), 0, 0, "1e400 at byte 6 is beyond a 64-bit float", "1e400 at byte 6 is beyond a 64-bit float"},
		{`1e-400`, 0.0, 0, 0, "", ""},
		{`"x"`, "x", 0, 0, "x at byte 6 is not a number", "x at byte 6 is not a number"},
	} {
		payload := []byte(`{"a": ` + c.number + `}`)
		out := make([]Value, 1)
		if err := NewExtractor(mustPaths(t, ".a")).Extract(payload, out); err != nil {
			t.Fatal(err)
		}
		if i, err := out[0].Int64(); i != c.i || text(err) != c.iErr {
			t.Errorf("%s: Int64 is %d, %v", c.number, i, err)
		}
		if f, err := out[0].Float64(); f != c.f || text(err) != c.fErr {
			t.Errorf("%s: Float64 is %v, %v", c.number, f, err)
		}
		docs, err := all(mustNew(t, "json", Options{}), "", payload)
		if err != nil || !same(docs[0].(map[string]any)["a"], c.doc) {
			t.Errorf("%s: document %#v, %v", c.number, docs, err)
		}
	}
}

func bigInt(s string) *big.Int {
	n, _ := new(big.Int).SetString(s, 10)
	return n
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestParsePath(t *testing.T) {
	for s, steps := range map[string]int{
		`.`: 0, `.a`: 1, ` .a.b `: 2, `.a[0]`: 2, `.a.[0]`: 2, `.[0]`: 1, `.[0][1].b`: 3, `.["a b"]`: 1, `."a b"`: 1, `."ü".x`: 2,
		`.a?.b?[1]?`: 3, `._9`: 1,
	} {
		if p, ok := ParsePath(s); !ok || len(p.steps) != steps {
			t.Errorf("%s: %+v, %v, want %d steps", s, p, ok, steps)
		}
		if _, err := gojq.Parse(s); err != nil {
			t.Errorf("%s is a path here and not to jq: %v", s, err)
		}
	}
	for _, s := range []string{``, `a`, `..`, `.a.`, `.a..b`, `.[`, `.[-1]`, `.[]`, `.a b`, `.9`, `."a`, `.["a"`, `.[1:2]`, `.a|.b`, `.a-1`, `."\(1)"`,
		`.a??`, `?`, `.?.`, `.["a" ]x`, `.[99999999999]`, `.a"b"`} {
		if p, ok := ParsePath(s); ok {
			t.Errorf("%s is taken for a path: %+v", s, p)
		}
	}
}

// jsonText draws JSON with few names, some of them twice and escaped, so that
// paths meet something.
func jsonText(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		kind := rapid.IntRange(0, 9).Draw(t, "kind")
		space := rapid.SampledFrom([]string{"", " ", "\r\n\t"}).Draw(t, "space")
		if depth == 0 {
			kind = max(kind, 6)
		}
		switch {
		case kind < 4:
			var b strings.Builder
			for i := range rapid.IntRange(0, 5).Draw(t, "members") {
				if i > 0 {
					b.WriteString(space + ",")
				}
				name := rapid.SampledFrom([]string{`"a"`, `"b"`, `"\u0061"`, `"c d"`, `"ü"`, `"long name that has more than eight bytes"`}).Draw(t, "name")
				b.WriteString(space + name + space + ":" + jsonText(depth-1).Draw(t, "member"))
			}
			return space + "{" + b.String() + "}"
		case kind < 6:
			elements := rapid.SliceOfN(jsonText(depth-1), 0, 3).Draw(t, "elements")
			return "[" + strings.Join(elements, space+",") + space + "]"
		case kind < 7:
			p, err := json.Marshal(rapid.String().Draw(t, "string"))
			if err != nil {
				t.Fatal(err)
			}
			return string(p)
		}
		return space + rapid.SampledFrom([]string{`null`, `true`, `false`, `0`, `-12`, `21.5`, `1e400`, `1E3`, `123456789012345678901`, `""`,
			`"a\n\u00fc\ud83d\ude00\ud800"`}).Draw(t, "scalar")
	})
}

var pathText = rapid.Custom(func(t *rapid.T) string {
	steps := rapid.SliceOfN(rapid.SampledFrom([]string{`.a`, `.b`, `.["c d"]`, `."ü"`, `.[0]`, `.[1]`, `.a?`, `.[0]?`,
		`."long name that has more than eight bytes"`, `.d`, `.e`, `.f`, `.g`, `.h`}), 0, 4).Draw(t, "steps")
	if len(steps) == 0 {
		return "."
	}
	return strings.Join(steps, "")
})

// TestReadersAgree: the extractor, the tree with Path.Get, and jq on what
// encoding/json reads give the same values and the same errors.
func TestReadersAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload := []byte(jsonText(4).Draw(t, "json"))
		texts := rapid.SliceOfN(pathText, 1, 12).Draw(t, "paths")
		paths, out := mustPathsRapid(t, texts), make([]Value, len(texts))
		for i := range out {
			out[i] = Value{kind: JSON, raw: []byte("left from before")}
		}
		if err := NewExtractor(paths).Extract(payload, out); err != nil {
			t.Fatalf("%s: %v", payload, err)
		}
		doc, err := parseJSON(payload, DefaultMaxDepth)
		if err != nil {
			t.Fatal(err)
		}
		for i, p := range paths {
			agree(t, payload, p, &out[i], doc)
		}
	})
}

type failer interface {
	Helper()
	Fatalf(format string, a ...any)
}

func mustPathsRapid(t failer, texts []string) (paths []Path) {
	for _, s := range texts {
		p, ok := ParsePath(s)
		if !ok {
			t.Fatalf("%s is not a simple path", s)
		}
		paths = append(paths, p)
	}
	return paths
}

// agree compares what one path leads to.
func agree(t failer, payload []byte, p Path, v *Value, doc any) {
	t.Helper()
	got, gotErr := v.Any()
	want, wantErr := p.Get(doc)
	if text(gotErr) != text(wantErr) || !same(got, want) {
		t.Fatalf("%s of %s: extractor %#v, %v; tree %#v, %v", p, payload, got, gotErr, want, wantErr)
	}
	q, err := gojq.Parse(p.String())
	if err != nil {
		t.Fatalf("%v", err)
	}
	jq, _ := q.Run(doc).Next() // none: an optional step that does not fit
	if jqErr, failed := jq.(error); failed != (wantErr != nil) {
		if _, isText := indexed(p, doc); !isText {
			t.Fatalf("%s of %s: jq fails with %v, the path with %v", p, payload, jqErr, wantErr)
		}
	} else if !failed && !same(jq, want) {
		if _, isText := indexed(p, doc); !isText {
			t.Fatalf("%s of %s: jq %#v, the path %#v", p, payload, jq, want)
		}
	}
}

// indexed reports whether the path takes an element of a string, which jq can.
func indexed(p Path, doc any) (string, bool) {
	for i, st := range p.steps {
		v, err := Path{steps: p.steps[:i]}.Get(doc)
		if s, ok := v.(string); ok && err == nil && !st.named {
			return s, true
		}
	}
	return "", false
}

// FuzzJSON: the extractor and the tree judge as encoding/json does, but for
// invalid UTF-8 and depth, and give the same values as it and each other.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":{"b":[1,2.5,"x"]},"c":null}`, `[1e400,-0,"\ud800\u0061\n"]`, "{\"a\":\"\xff\"}", `{"a":1,"a":{"b":2}}`, `"\ud83d\ude00\u00fc\/\b\f\r\t"`,
		`[[[[[]]]]]`, `NaN`, ` 12 `, `"12345678\"12345678"`} {
		f.Add([]byte(s))
	}
	paths := mustPaths(f, `.`, `.a`, `.a.b`, `.a.b[1]`, `.a?.c`, `.c`, `.[0]`, `.[1]?`, `.["a"][0]`)
	x, out := NewExtractor(paths), make([]Value, len(paths))
	f.Fuzz(func(t *testing.T, payload []byte) {
		err := x.Extract(payload, out)
		doc, treeErr := parseJSON(payload, DefaultMaxDepth)
		if text(err) != text(treeErr) {
			t.Fatalf("extractor: %v; tree: %v", err, treeErr)
		}
		if err != nil {
			if json.Valid(payload) && utf8.Valid(payload) && !strings.HasPrefix(err.Error(), "payload nests deeper") &&
				!strings.HasPrefix(err.Error(), "payload has a number of") {
				t.Fatalf("valid JSON: %v", err)
			}
			return
		}
		d := json.NewDecoder(bytes.NewReader(payload))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if want = exact(want); !same(doc, want) {
			t.Fatalf("tree %#v, encoding/json %#v", doc, want)
		}
		for i, p := range paths {
			agree(t, payload, p, &out[i], doc)
		}
	})
}

// exact turns json.Number into what a document has.
func exact(v any) any {
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			n := bigInt(v.String())
			if n.IsInt64() {
				return int(n.Int64())
			}
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return v
	case []any:
		for i := range v {
			v[i] = exact(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = exact(v[k])
		}
	}
	return v
}
