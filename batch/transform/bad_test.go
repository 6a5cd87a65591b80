package transform

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/sink/store"
)

// values is a route with columns of one path each: "INTEGER .a", …
func values(columns ...string) Route {
	r := Route{Name: "r", Topic: "t", Decode: "json", Table: "x"}
	for i, c := range columns {
		kind, path, _ := strings.Cut(c, " ")
		t, err := store.ParseColumnType(kind)
		if err != nil {
			panic(err)
		}
		r.Columns = append(r.Columns, Column{fmt.Sprintf("c%d", i), t, path})
	}
	return r
}

// withJQ is the route with a condition that always holds and needs jq, so that
// a tree is built.
func withJQ(r Route) Route {
	r.When = "true or ."
	return r
}

// Whatever comes, it is a row, or a reason that a person understands; with jq
// and without it.
func TestBadInput(t *testing.T) {
	for name, c := range map[string]struct {
		column, payload, want string
	}{
		"broken JSON":            {"REAL .a", `{"a":1`, "r: payload is not JSON: it ends too early, at byte 6"},
		"blanks":                 {"REAL .a", ` `, "r: payload is not JSON: it ends too early, at byte 1"},
		"duplicate keys":         {"REAL .a", `{"a":1,"a":2}`, "x: 7 received 2.0"},
		"NaN":                    {"REAL .a", `{"a":NaN}`, "x: 7 received NULL"},
		"1e400":                  {"REAL .a", `{"a":1e400}`, "r: column c0: the number 1e400 is beyond REAL"},
		"1e400 as text":          {"TEXT .a", `{"a":1e400}`, `x: 7 received "1e400"`},
		"2^53+1":                 {"INTEGER .a", `{"a":9007199254740993}`, "x: 7 received 9007199254740993"},
		"2^63-1":                 {"INTEGER .a", `{"a":9223372036854775807}`, "x: 7 received 9223372036854775807"},
		"2^63":                   {"INTEGER .a", `{"a":9223372036854775808}`, "r: column c0: the number 9223372036854775808 is beyond INTEGER"},
		"2^63 as REAL":           {"REAL .a", `{"a":9223372036854775808}`, "x: 7 received 9223372036854775808.0"},
		"2^64 as ANY":            {"ANY .a", `{"a":18446744073709551616}`, `x: 7 received "18446744073709551616"`},
		"invalid UTF-8":          {"TEXT .a", "{\"a\":\"\xff\"}", "x: 7 received \"\ufffd\""},
		"scalar for an object":   {"REAL .a", `21.5`, `r: column c0: .a: looks for "a" in a number`},
		"... where that is fine": {"REAL .a?", `21.5`, "x: 7 received NULL"},
		"object for a scalar":    {"REAL .a", `{"a":{"b":1}}`, "r: column c0: an object is no REAL"},
		"array for a scalar":     {"INTEGER .a", `{"a":[1]}`, "r: column c0: an array is no INTEGER"},
		"missing":                {"REAL .a", `{"b":1}`, "r: column c0: there is no .a"},
		"missing below":          {"REAL .a.b[2].c", `{"a":{"b":[1]}}`, "r: column c0: there is no .a.b[2].c"},
		"missing, with ?":        {"REAL .a?", `{"b":1}`, "x: 7 received NULL"},
		"null":                   {"REAL .a", `{"a":null}`, "x: 7 received NULL"},
		"empty text":             {"REAL .a", `{"a":" "}`, "x: 7 received NULL"},
		"text for a number":      {"REAL .a", `{"a":"on"}`, `r: column c0: the text "on" is no REAL`},
		"number in text":         {"INTEGER .a", `{"a":" 21 "}`, "x: 7 received 21"},
		"infinity in text":       {"REAL .a", `{"a":"inf"}`, "x: 7 received NULL"},
		"... where it is text":   {"TEXT .a", `{"a":"inf"}`, `x: 7 received "inf"`},
		"number before NUL":      {"REAL .a", `{"a":"21.5\u0000"}`, "x: 7 received 21.5"},
		"1e400 in text":          {"REAL .a", `{"a":"1e400"}`, "r: column c0: the number 1e400 is beyond REAL"},
		"1.10 alone as text":     {"TEXT .", ` 1.10 `, `x: 7 received "1.10"`},
		"12E4 alone as text":     {"TEXT .", `12E4`, `x: 7 received "12E4"`},
		"true alone as text":     {"TEXT .", `true`, `x: 7 received "true"`},
		"hexadecimal":            {"REAL .a", `{"a":"0x10"}`, `r: column c0: the text "0x10" is no REAL`},
		"fraction":               {"INTEGER .a", `{"a":21.5}`, "r: column c0: 21.5 has a fraction, which INTEGER cannot hold: make the column REAL and rerun the route, or round in jq"},
		"whole":                  {"INTEGER .a", `{"a":21.0}`, "x: 7 received 21"},
		"boolean":                {"INTEGER .a", `{"a":true}`, "x: 7 received 1"},
		"boolean as text":        {"TEXT .a", `{"a":false}`, `x: 7 received "false"`},
		"number as text":         {"TEXT .a", `{"a":21.50}`, `x: 7 received "21.5"`},
		"object as text":         {"TEXT .a", `{"a":{"c": 1, "b":[ ]}}`, `x: 7 received "{\"b\":[],\"c\":1}"`},
		"text as bytes":          {"BLOB .a", `{"a":"é"}`, "x: 7 received xc3a9"},
		"number as bytes":        {"BLOB .a", `{"a":1}`, "r: column c0: the number 1 is no BLOB"},
		"any":                    {"ANY .a", `{"a":"\u0041\n"}`, `x: 7 received "A\n"`},
	} {
		t.Run(name, func(t *testing.T) {
			plain := apply(t, Options{}, values(c.column), "t", c.payload)
			if !strings.HasPrefix(plain, c.want) {
				t.Errorf("got  %s\nwant %s", plain, c.want)
			}
			if tree := apply(t, Options{}, withJQ(values(c.column)), "t", c.payload); tree != plain {
				t.Errorf("with jq     %s\nwithout it %s", tree, plain)
			}
			nulls := values(c.column)
			nulls.OnError = OnErrorNull
			got := apply(t, Options{}, nulls, "t", c.payload)
			if failed := strings.HasPrefix(plain, "r: "); failed && got != "x: 7 received NULL\n"+plain || !failed && got != plain {
				t.Errorf("on_error: null gives %s", got)
			}
		})
	}
}

func TestDeepAndLargePayloads(t *testing.T) {
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	for _, r := range []Route{values("REAL .a?"), withJQ(values("REAL .a?"))} {
		if got := apply(t, Options{}, r, "t", deep); !strings.Contains(got, "deep") {
			t.Errorf("10,000 levels: %.200s", got)
		}
		huge := string(bytes.Repeat([]byte(" "), 200<<20)) + "{}"
		begun := time.Now()
		if got := apply(t, Options{}, r, "t", huge); !strings.Contains(got, "r: payload has 209715202 bytes, more than the") {
			t.Errorf("200 MB: %.200s", got)
		}
		if took := time.Since(begun); took > 5*time.Second {
			t.Errorf("200 MB took %v", took)
		}
	}
}

// limit is a short TimeLimit.
const limit = 200 * time.Millisecond

// An endless program costs its time and nothing else, and not for every record.
func TestEndlessPrograms(t *testing.T) {
	for name, program := range map[string]string{
		"endless":      "last(repeat(1))",
		"grows":        "[range(1e12)] | length",
		"many results": "range(1e12)",
		"recursive":    "def f: f + 1; f",
	} {
		t.Run(name, func(t *testing.T) {
			r := values("REAL .")
			r.Map = program
			other := values("REAL .a")
			other.Name, other.Table = "other", "y"
			a := applier(t, Options{TimeLimit: limit}, r, other)
			begun := time.Now()
			const n = 20
			for range n {
				a.Apply(record("t", `{"a":1}`))
			}
			if took := time.Since(begun); took > 10*maxStrikes*limit {
				t.Errorf("%d records took %v", n, took)
			}
			if len(a.Failures) != n || a.Rows[0].Len() != 0 || a.Rows[1].Len() != n {
				t.Fatalf("%d failures, %d and %d rows", len(a.Failures), a.Rows[0].Len(), a.Rows[1].Len())
			}
			first, last := a.Failures[0].Err.Error(), a.Failures[n-1].Err.Error()
			if name == "many results" {
				if last != "map: more than 10000 results" {
					t.Errorf("first %s, last %s", first, last)
				}
				return
			}
			// What grows may come to the bound of memory before that of time.
			tooMuch := name != "endless" && strings.Contains(first, "needed too much memory")
			if !tooMuch && !strings.Contains(first, "took too long: more than 200ms") || !strings.Contains(last, "suspended") {
				t.Errorf("first %s, last %s", first, last)
			}
		})
	}
}

// A suspended route is tried again.
func TestSuspensionEnds(t *testing.T) {
	r := values("REAL .")
	r.Map = `if . == 1 then last(repeat(1)) else . end`
	a := applier(t, Options{TimeLimit: limit}, r)
	for range maxStrikes + 1 {
		a.Apply(record("t", "1"))
	}
	a.Apply(record("t", "2"))
	if a.Rows[0].Len() != 0 {
		t.Error("not suspended")
	}
	a.routes[0].until = time.Now() // as if it had passed
	a.Apply(record("t", "2"))
	a.Apply(record("t", "2"))
	if a.Rows[0].Len() != 2 || a.routes[0].strikes != 0 {
		t.Errorf("%d rows, %d strikes", a.Rows[0].Len(), a.routes[0].strikes)
	}
}

func TestResultsAreLimited(t *testing.T) {
	r := values("TEXT .")
	r.Map = `range(10) | "x" * 4000000`
	if got := apply(t, Options{}, r, "t", "1"); !strings.Contains(got, "larger than") {
		t.Errorf("got %.200s", got)
	}
}

// What is gathered is bounded, if whoever gathers heeds Full.
func TestFull(t *testing.T) {
	for name, payload := range map[string]string{"rows": `[range(10000)]`, "text": `["x" * 1000000]`} {
		r := values("TEXT .")
		r.Map = payload + "[]"
		a := applier(t, Options{}, r)
		n := 0
		for ; !a.Full() && n < 1000; n++ {
			a.Apply(record("t", "1"))
		}
		if n < 2 || n > 100 || len(a.Failures) > 0 {
			t.Errorf("%s: full after %d records, %v", name, n, a.Failures)
		}
		if a.Reset(); a.Full() {
			t.Errorf("%s: full after Reset", name)
		}
	}
}

// The program sees nothing but the message.
func TestProgramsSeeOnlyTheMessage(t *testing.T) {
	t.Setenv("SECRET", "s")
	for program, want := range map[string]string{
		`env.SECRET`: "the environment", `$ENV.SECRET`: "the environment", `input`: "input", `now`: "the time",
		`"a" | localtime`: "time zone", `def f: now; f`: "the time", `[.[] | select(now > .)]`: "the time", `debug`: "standard error",
	} {
		r := values("REAL .")
		r.Map = program
		if _, err := Compile([]Route{r}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", program, err)
		}
	}
}

// A panic is a failure of the record.
func TestPanic(t *testing.T) {
	a := applier(t, Options{}, values("REAL .a"))
	a.routes[0].found = nil // makes the extractor index out of range
	a.Apply(record("t", `{"a":1}`))
	if got := show(a); !strings.Contains(got, "internal error") {
		t.Errorf("got %s", got)
	}
}
