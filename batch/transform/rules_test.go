package transform

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/mqttetl/mqttetl"
	"github.com/mqttetl/mqttetl/sink/store"
)

func TestTopics(t *testing.T) {
	for _, c := range []struct{ pattern, topic, want string }{
		{"a/b", "a/b", "[]"}, {"a/b", "a/c", "no"}, {"a/b", "a", "no"}, {"a/b", "a/b/c", "no"},
		{"a/{x}", "a/b", "[b]"}, {"a/{x}", "a/", "[]"}, {"a/{x}", "a/b/c", "no"}, {"{x}/{y}", "a/b", "[a b]"},
		{"+/{y}", "a/b", "[b]"}, {"a/#", "a", "[]"}, {"a/#", "a/b/c", "[]"}, {"#", "a", "[]"}, {"{x}/#", "a/b", "[a]"},
		{"a/{x...}", "a/b/c", "[b/c]"}, {"a/{x...}", "a/b", "[b]"}, {"a/{x...}", "a", "no"},
		{"{x...}/state", "a/b/state", "[a/b]"}, {"{x...}/state", "state", "no"},
		{"a/...", "a/b/c", "[]"}, {"a/...", "a", "no"}, {".../set", "a/b/set", "[]"}, {".../set", "set", "no"}, {"a/.../{y}", "a/b/c/d", "[d]"}, {".../set", "$SYS/set", "no"},
		{"a/....", "a/b", "no"}, {"a/....", "a/....", "[]"}, {"a/{x...}/{y}", "a/b/c/d", "[b/c d]"},
		{"{x}", "$SYS", "no"}, {"#", "$SYS/a", "no"}, {"$SYS/{x}", "$SYS/a", "[a]"},
	} {
		p, err := parsePattern(c.pattern)
		must(t, err)
		got := "no"
		if values, ok := p.match(c.topic); ok {
			got = fmt.Sprint(values)
		}
		if got != c.want {
			t.Errorf("%s, %s: got %s, want %s", c.pattern, c.topic, got, c.want)
		}
	}
	for _, bad := range []string{"", "a+", "a/#/b", "{a}{b}", "{}", "{1}", "{a}/{a}", "{a...}/{b...}", "{a...}/#", ".../...", ".../#", ".../{a...}", "a/{b"} {
		if _, err := parsePattern(bad); err == nil {
			t.Errorf("%q is a pattern", bad)
		}
	}
}

// A pattern without names of several levels matches what the filter matches
// that one gets by writing + for its names.
func TestTopicsMatchAsFiltersDo(t *testing.T) {
	levels := rapid.SampledFrom([]string{"a", "b", "", "$c"})
	wild := rapid.SampledFrom([]string{"a", "b", "", "+", "{x}", "#"})
	rapid.Check(t, func(r *rapid.T) {
		var pattern, filter []string
		for range rapid.IntRange(1, 4).Draw(r, "levels") {
			l := wild.Draw(r, "level")
			if l == "{x}" && slices.Contains(pattern, l) {
				l = "+"
			}
			pattern, filter = append(pattern, l), append(filter, strings.Replace(l, "{x}", "+", 1))
			if l == "#" {
				break
			}
		}
		topic := strings.Join(rapid.SliceOfN(levels, 1, 4).Draw(r, "topic"), "/")
		s := strings.Join(pattern, "/")
		if s == "" {
			r.Skip("no pattern")
		}
		p, err := parsePattern(s)
		if err != nil {
			r.Fatal(err)
		}
		_, got := p.match(topic)
		if want := mqttetl.Filter(strings.Join(filter, "/")).Matches([]byte(topic)); got != want {
			r.Errorf("%s, %s: %v, the filter %v", s, topic, got, want)
		}
	})
}

func TestTimes(t *testing.T) {
	for _, c := range []struct{ format, zone, json, want string }{
		{"", "", `1767642776`, "2026-01-05T19:52:56Z"},
		{"", "", `1767642776.25`, "2026-01-05T19:52:56.25Z"},
		{"", "", `1767642776123`, "2026-01-05T19:52:56.123Z"},
		{"", "", `1767642776123456`, "2026-01-05T19:52:56.123456Z"},
		{"", "", `1767642776123456789`, "2026-01-05T19:52:56.123456789Z"},
		{"", "", `"1767642776"`, "2026-01-05T19:52:56Z"},
		{"", "", `0`, "1970-01-01T00:00:00Z"},
		{"", "", `-1`, "1969-12-31T23:59:59Z"},
		{"", "", `"2026-01-05T19:52:56.5Z"`, "2026-01-05T19:52:56.5Z"},
		{"", "", `"2026-01-05T20:52:56+01:00"`, "2026-01-05T19:52:56Z"},
		{"", "", `"2026-01-05 20:52:56+0100"`, "2026-01-05T19:52:56Z"},
		{"", "Europe/Berlin", `"2026-01-05T20:52:56"`, "2026-01-05T19:52:56Z"},
		{"", "Europe/Berlin", `"2026-07-05 20:52:56"`, "2026-07-05T18:52:56Z"},
		{"", "", `"2026-01-05"`, "2026-01-05T00:00:00Z"},
		{"", "Europe/Berlin", `"2026-03-29T01:59:59"`, "2026-03-29T00:59:59Z"},
		{"", "Europe/Berlin", `"2026-03-29T02:30:00"`, `time "2026-03-29T02:30:00" does not exist in Europe/Berlin: the clocks go forward over it`},
		{"", "Europe/Berlin", `"2026-03-29T03:00:00"`, "2026-03-29T01:00:00Z"},
		{"", "Europe/Berlin", `"2025-10-26T02:30:00"`, "2025-10-26T01:30:00Z"},    // twice; received later: the second
		{"", "America/New_York", `"2026-11-01T01:30:00"`, "2026-11-01T05:30:00Z"}, // twice; received before: the first
		{"", "Pacific/Apia", `"2011-12-30T12:00:00"`, `time "2011-12-30T12:00:00" does not exist in Pacific/Apia: the clocks go forward over it`},
		{"", "", `"yesterday"`, `"yesterday" is no time of the format auto`},
		{"", "", `""`, "there is no time, and no fallback"},
		{"", "", `true`, `is no time of the format auto`},
		{"", "", `{"a":1}`, `is no time of the format auto`},
		{"", "", `"9999-01-01T00:00:00Z"`, "is beyond the years 1678 to 2261"},
		{"", "", `1e300`, "is beyond the years 1678 to 2261"},
		{"rfc3339", "", `"2026-01-05T19:52:56Z"`, "2026-01-05T19:52:56Z"},
		{"rfc3339", "", `1767642776`, `"1767642776" is no time of the format rfc3339`},
		{"unix", "", `1767642776123`, "is beyond the years"},
		{"unix", "", `"1767642776.5"`, "2026-01-05T19:52:56.5Z"},
		{"unix_ms", "", `5`, "1970-01-01T00:00:00.005Z"},
		{"unix_us", "", `5`, "1970-01-01T00:00:00.000005Z"},
		{"unix_ns", "", `5`, "1970-01-01T00:00:00.000000005Z"},
		{"02.01.2006 15:04", "Europe/Berlin", `"05.01.2026 20:52"`, "2026-01-05T19:52:00Z"},
		{"02.01.2006 15:04 -0700", "Europe/Berlin", `"05.01.2026 20:52 +0200"`, "2026-01-05T18:52:00Z"},
		{"%d.%m.%Y %H:%M", "Europe/Berlin", `"05.01.2026 20:52"`, "2026-01-05T19:52:00Z"},
		{"%d.%m.%Y %H:%M %z", "Europe/Berlin", `"05.01.2026 20:52 +0200"`, "2026-01-05T18:52:00Z"},
		{"%d.%m.%Y", "", `"5/1"`, `"5/1" is no time of the format %d.%m.%Y`},
	} {
		r := values("ANY .t?")
		r.Time = Time{Path: ".t", Format: c.format, Timezone: c.zone, Fallback: FallbackNone, NotBefore: "any"}
		for _, r := range []Route{r, withJQ(r)} {
			a := applier(t, Options{}, r)
			a.Apply(record("t", `{"t":`+c.json+`}`))
			got := ""
			if a.Rows[0].Len() == 1 {
				got = time.Unix(0, a.Rows[0].Row(0)[1].Int()).UTC().Format(time.RFC3339Nano)
			} else {
				got = a.Failures[0].Err.Error()
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("format %q, zone %q, %s (when: %s): got %s, want %s", c.format, c.zone, c.json, r.When, got, c.want)
			}
		}
	}
}

func TestTimeFallback(t *testing.T) {
	for fallback, want := range map[string]string{
		"": "x: 7 received 1", FallbackReceived: "x: 7 received 1", FallbackNone: "r: column time: there is no time, and no fallback",
	} {
		for _, payload := range []string{`{"a":1}`, `{"a":1,"t":null}`} {
			r := values("INTEGER .a")
			r.Time = Time{Path: ".t", Fallback: fallback}
			for _, r := range []Route{r, withJQ(r)} {
				if got := apply(t, Options{}, r, "t", payload); got != want {
					t.Errorf("fallback %q: got %s", fallback, got)
				}
			}
		}
	}
	// With a map, what it makes may have its own time.
	r := values("INTEGER .v")
	r.Map, r.Time.NotBefore = ".[]", "1970-01-01"
	if got := apply(t, Options{}, r, "t", `[{"v":1,"time":5},{"v":2}]`); got != "x: 7 5000000000 1\nx: 7 received 2" {
		t.Errorf("got %s", got)
	}
}

// A route makes the same rows whether an Extractor or a tree gives its values.
func TestPlainIsAsJQ(t *testing.T) {
	leaf := rapid.SampledFrom([]string{`1`, `-2.5`, `"x"`, `"7"`, `""`, `null`, `true`, `[]`, `{}`, `[1,"a"]`, `{"a":{"b":2}}`, `9007199254740993`, `1e400`, `"\u00e9\n"`})
	paths := []string{".a", ".a?", ".b.a", ".b.a?", ".b[0]", ".b[1]?", ".", ".a.a.b?", ".a // 0", `.b.a // "x"`, ".a//null", ". // -1.5"}
	kinds := []string{"INTEGER", "REAL", "TEXT", "BLOB", "ANY"}
	whens := []string{"", ".a", ".a != null", ".a == null", `.a == "x"`, ".b == 1", ".a != true"}
	rapid.Check(t, func(r *rapid.T) {
		var columns []string
		for range rapid.IntRange(1, 3).Draw(r, "columns") {
			columns = append(columns, rapid.SampledFrom(kinds).Draw(r, "type")+" "+rapid.SampledFrom(paths).Draw(r, "path"))
		}
		plain := values(columns...)
		plain.OnError = rapid.SampledFrom([]string{"", OnErrorNull}).Draw(r, "on_error")
		plain.When = rapid.SampledFrom(whens).Draw(r, "when")
		plain.Decode = rapid.SampledFrom([]string{"json", "auto"}).Draw(r, "decode")
		tree := plain
		tree.When = "true or ." // a tree, and jq
		if plain.When != "" {
			tree.When = "(" + plain.When + ") | ."
		}
		payload := fmt.Sprintf(`{"a":%s,"b":%s}`, leaf.Draw(r, "a"), leaf.Draw(r, "b"))
		if rapid.IntRange(0, 5).Draw(r, "scalar") == 0 {
			payload = leaf.Draw(r, "payload")
		}
		if !applier(t, Options{}, plain).routes[0].plain || applier(t, Options{}, tree).routes[0].plain {
			r.Fatal("not one of each")
		}
		got, want := both(t, plain, payload), both(t, tree, payload)
		if got != want {
			r.Errorf("%s, when %s, on_error %q, %v:\nplain %s\njq    %s", payload, plain.When, plain.OnError, columns, got, want)
		}
	})
}

// both is what a route makes, of its failures only that there are some.
func both(t *testing.T, r Route, payload string) string {
	a := applier(t, Options{}, r)
	a.Apply(record("t", payload))
	n := len(a.Failures)
	a.Failures = nil
	return fmt.Sprint(show(a), n, " failures")
}

func TestReadingsOfAMessage(t *testing.T) {
	set, err := Compile(nil)
	must(t, err)
	a, err := set.Applier(Options{Readings: true})
	must(t, err)
	for payload, want := range map[string]string{
		`{"a":{"b":[1,true,"x",null]},"c d":-2.5,"e":false}`: `.["c d"]=-2.5 .a.b[0]=1 .a.b[1]=1 .e=0`,
		`21.5`: ".=21.5", `true`: ".=1", `ON`: ".=1", `"x"`: "", `hello`: "", `{"a":1`: "", `[1 2]`: "", `[1,[2]]`: ".[0]=1 .[1][0]=2", "\xff\x00": "", `{"a":1e400,"b":1}`: ".b=1",
		`{"a":18446744073709551616}`: ".a=1.8446744073709552e+19",
	} {
		a.Reset()
		a.Apply(record("t", payload))
		var list []string
		for _, r := range a.Readings {
			list = append(list, fmt.Sprintf("%s=%v", r.Path, r.Value))
		}
		slices.Sort(list)
		if got := strings.Join(list, " "); got != want || len(a.Failures) != 0 {
			t.Errorf("%s: got %s, want %s; %v", payload, got, want, a.Failures)
		}
	}
	a.Reset()
	many, _ := json.Marshal(make([]int, MaxReadings+1))
	a.Apply(record("t", string(many)))
	if len(a.Readings) != 0 || len(a.Failures) != 1 {
		t.Errorf("%d readings, %v", len(a.Readings), a.Failures)
	}
}

func TestPublished(t *testing.T) {
	r := Route{Name: "p", Topic: "a/{x}/{y...}", Publish: "out.{y}.k_{x}", Columns: []Column{{"n", store.Integer, ".n"}, {"b", store.Blob, ".s"}}}
	escape := Options{Objects: true}
	if got := apply(t, escape, r, "a/b/c/d", `{"n":9007199254740993,"s":"hi"}`); got != `out.c.d.k_b 0: {"b":"aGk=","n":9007199254740993}` {
		t.Errorf("got %s", got)
	}
	if got := r.Subjects(); got != "out.>" {
		t.Errorf("subjects %s", got)
	}
	r.Map, r.Columns = ".l[]", nil
	if got := apply(t, escape, r, "a/b/c", `{"l":[1,{"z":2}]}`); got != "out.c.k_b 0: 1\nout.c.k_b 1: {\"z\":2}" {
		t.Errorf("got %s", got)
	}
	r.Topic = "a/{x}/{y}"
	if got := r.Subjects(); got != "out.*.*" {
		t.Errorf("subjects %s", got)
	}
}

// Two routes of one table, and a record that feeds three routes.
func TestOneRecordFeedsSeveralRoutes(t *testing.T) {
	a := values("INTEGER .a?")
	b := values("INTEGER .b?", "TEXT .c?")
	b.Name = "s"
	c := values("INTEGER .a")
	c.Name, c.Table = "u", "y"
	ap := applier(t, Options{}, a, b, c)
	ap.Apply(record("t", `{"a":1,"b":2,"c":"z"}`))
	want := "x: 7 received 1 NULL\nx: 7 received 2 \"z\"\ny: 7 received 1\n"
	if got := show(ap); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// A path with a constant in its place is what jq makes of it, without jq.
func TestOtherwise(t *testing.T) {
	for _, path := range []string{".a // 0", ".a//-1.5", `.a.b // "x y"`, ".a.b? // true", ".a? // null", ". // 7", `."a b" // false`} {
		for _, payload := range []string{`{}`, `{"a":null}`, `{"a":false}`, `{"a":0}`, `{"a":"t"}`, `{"a":{"b":2}}`, `{"a":[3]}`, `{"a b":4}`, `null`, `[]`, `5`} {
			for _, kind := range []string{"INTEGER", "REAL", "TEXT", "ANY"} {
				plain, jq := values(kind+" "+path), values(kind+" ("+path+")")
				if a := applier(t, Options{}, plain, renamed(jq)); !a.routes[0].plain || a.routes[1].plain {
					t.Fatalf("%s: not one of each", path)
				}
				want := both(t, jq, payload)
				if got, tree := both(t, plain, payload), both(t, withJQ(plain), payload); got != want || tree != want {
					t.Errorf("%s %s of %s: got %s, with a tree %s, jq %s", kind, path, payload, got, tree, want)
				}
			}
		}
	}
}

func renamed(r Route) Route {
	r.Name = "s"
	return r
}
