package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/deploy"
	"github.com/mqttetl/mqttetl/sink/store"
)

// withRoutes is a configuration that ends in routes, of which line 1 here is line 1 there.
func withRoutes(routes string) string {
	return routes + "\nsources: [{url: mqtt://broker, subscribe: [a]}]\narchive: {}\nnats: {}\n"
}

func TestRoutesArrive(t *testing.T) {
	c := parse(t, withRoutes(`routes:
  - name: climate
    topic: zigbee2mqtt/{device}
    exclude: ["zigbee2mqtt/bridge/#", .../set]
    empty: true
    decode: {format: json, lenient: false}
    decompress: gzip
    when: .temperature != null
    table: climate
    time: {path: .last_seen, format: auto, timezone: Europe/Berlin, fallback: none, not_before: 2020-01-01, not_after: 24h}
    columns:
      temperature: real .temperature
      battery:     INTEGER   .battery?
      n: ANY
    on_error: "null"
  - {name: p, topic: "t/{a...}", map: '{x: .y}', columns: {x: REAL}, publish: "out.{a}", time: .t}
tests:
  - {topic: t, payload: '{"y":1}', received: 2026-01-05T20:52:56Z, expect: {climate: [{n: 1, t: 2.5, s: x, z: null, b: true}], p: []}}
  - {topic: t, payload_base64: AQI=, error: no}
`))
	want := []transform.Route{{Name: "climate", Topic: "zigbee2mqtt/{device}", Exclude: []string{"zigbee2mqtt/bridge/#", ".../set"}, Empty: true, Decode: "json", Strict: true, Decompress: "gzip",
		When: ".temperature != null", Table: "climate", OnError: "null",
		Time:    transform.Time{Path: ".last_seen", Format: "auto", Timezone: "Europe/Berlin", Fallback: "none", NotBefore: "2020-01-01", NotAfter: "24h"},
		Columns: []transform.Column{{Name: "temperature", Type: store.Real, Path: ".temperature"}, {Name: "battery", Type: store.Integer, Path: ".battery?"}, {Name: "n", Type: store.Any}},
	}, {Name: "p", Topic: "t/{a...}", Map: "{x: .y}", Columns: []transform.Column{{Name: "x", Type: store.Real}}, Publish: "out.{a}", Time: transform.Time{Path: ".t"}}}
	if !reflect.DeepEqual(c.Routes, want) {
		t.Errorf("got\n%+v\nwant\n%+v", c.Routes, want)
	}
	tests := []Test{{Line: 18, Topic: "t", Payload: []byte(`{"y":1}`), Received: time.Date(2026, 1, 5, 20, 52, 56, 0, time.UTC),
		Expect: map[string][]map[string]any{"climate": {{"n": int64(1), "t": 2.5, "s": "x", "z": nil, "b": true}}, "p": {}}},
		{Line: 19, Topic: "t", Payload: []byte{1, 2}, Error: "no"}}
	if !reflect.DeepEqual(c.Tests, tests) {
		t.Errorf("got\n%+v\nwant\n%+v", c.Tests, tests)
	}
}

// A null without quotes is what docs/config.md shows; a value that is missing is none.
func TestOnErrorNull(t *testing.T) {
	for _, word := range []string{"null", `"null"`, "null # each column", "&n null"} {
		c := parse(t, withRoutes(oneRoute("topic: t", "table: a", "columns: {a: REAL}", "on_error: "+word)))
		if got := c.Routes[0].OnError; got != transform.OnErrorNull {
			t.Errorf("on_error: %s is %q", word, got)
		}
	}
}

// oneRoute is a route with these lines, the first of which is line 3.
func oneRoute(lines ...string) string {
	return "routes:\n  - name: r\n    " + strings.Join(lines, "\n    ") + "\n"
}

func TestRouteProblems(t *testing.T) {
	for name, c := range map[string]struct{ src, want string }{
		"unknown key":          {oneRoute("topic: t", "table: a", "colums: {a: REAL}"), `5:5: unknown key "colums" in the route, did you mean "columns"?`},
		"no topic":             {oneRoute("table: a", "columns: {a: REAL}"), "2:5: topic is missing in the route"},
		"nothing to do":        {oneRoute("topic: t"), "2:5: the route needs table, publish, or both"},
		"wildcard in a level":  {oneRoute("topic: a/b+/c", "table: a", "columns: {a: REAL}"), `3:12: topic: "a/b+/c": level "b+"`},
		"exclude":              {oneRoute("topic: t", "exclude: [a, a/#/set]", "table: a", "columns: {a: REAL}"), `4:18: exclude: "a/#/set": # is allowed only at the end; ...`},
		"exclude twice wide":   {oneRoute("topic: t", "exclude: ['.../{x...}']", "table: a", "columns: {a: REAL}"), `4:15: exclude: ".../{x...}": only one level may stand for several`},
		"rebirth":              {oneRoute("topic: t", "decode: sparkplug_b", "rebirth: 1s", "table: a", "columns: {a: REAL}"), "5:14: rebirth must be at least 10s, not 1s"},
		"rebirth of json":      {oneRoute("topic: t", "decode: json", "rebirth: 1m", "table: a", "columns: {a: REAL}"), "5:14: rebirth: rebirth has no meaning without decode: sparkplug_b"},
		"empty":                {oneRoute("topic: t", "empty: null_row", "table: a", "columns: {a: REAL}"), "4:12: empty must be true or false"},
		"jq variable":          {oneRoute("topic: t/{a}", "table: a", "when: $b == 1", "columns: {b: REAL}"), "5:11: when: variable not defined: $b, only $topic, $a"},
		"name twice":           {oneRoute("topic: '{a}/{A}'", "table: a", "columns: {b: REAL}"), `3:13: topic: "{a}/{A}": {A} is there twice`},
		"name of ours":         {oneRoute("topic: '{time}'", "table: a", "columns: {b: REAL}"), `3:13: topic: {time}: every table has a column of this name`},
		"jq syntax":            {oneRoute("topic: t", "table: a", "when: .a >", "columns: {b: REAL}"), "5:15: when: unexpected EOF"},
		"jq syntax in quotes":  {oneRoute("topic: t", "table: a", "map: '{a: .b | }'", "columns: {a: REAL}"), `5:20: map: unexpected token "}"`},
		"jq syntax in a block": {oneRoute("topic: t", "table: a", "map: |", "  .a |", "    {b: ]}", "columns: {b: REAL}"), `7:13: map: unexpected token "]"`},
		"jq unknown function":  {oneRoute("topic: t", "table: a", "when: .a | nope", "columns: {b: REAL}"), "5:16: when: function not defined: nope/0"},
		"dot forgotten":        {oneRoute("topic: t", "table: a", "columns: {b: REAL temperature}"), "5:23: columns.b: function not defined: temperature/0: did you mean .temperature?"},
		"not forgotten":        {oneRoute("topic: t", "table: a", "columns: {b: REAL $x}"), "5:23: columns.b: variable not defined: $x, only $topic"},
		"jq environment":       {oneRoute("topic: t", "table: a", "when: $ENV.HOME", "columns: {b: REAL}"), "5:11: when: $ENV depends on the environment"},
		"jq clock":             {oneRoute("topic: t", "table: a", "when: .t < now", "columns: {b: REAL}"), "5:16: when: now depends on the time"},
		"jq input":             {oneRoute("topic: t", "table: a", "map: '[inputs]'", "columns: {b: REAL}"), "5:12: map: inputs depends on input"},
		"jq module":            {oneRoute("topic: t", "table: a", `map: 'import "a" as a; .'`, "columns: {b: REAL}"), "5:11: map: modules are not available"},
		"column's jq":          {oneRoute("topic: t", "table: a", "columns:", "  b: REAL .a |"), "6:19: columns.b: unexpected EOF"},
		"column's type":        {oneRoute("topic: t", "table: a", "columns:", "  b: FLOAT .a"), `6:10: the column b is a type and a path, such as REAL .b: "FLOAT" is no column type`},
		"column's name":        {oneRoute("topic: t", "table: a", "columns:", "  a b: REAL .a"), `6:7: columns.a b: "a b" is no name`},
		"column of ours":       {oneRoute("topic: t", "table: a", "columns: {seq: REAL}"), "5:15: columns.seq: every table has a column seq already"},
		"column of the topic":  {oneRoute("topic: t/{a}", "table: a", "columns: {A: REAL}"), "5:15: columns.A: the topic gives a column A already"},
		"column twice":         {oneRoute("topic: t", "table: a", "columns: {a: REAL, A: REAL}"), "5:24: A is there twice in columns"},
		"map makes no such":    {oneRoute("topic: t", "table: a", "map: '.x | {a: 1}'", "columns: {b: REAL}"), "6:18: columns.b: .b leads nowhere: map makes only a"},
		"header has no such":   {oneRoute("topic: t", "table: a", "decode: csv", "header: [a, b]", "columns: {c: REAL .c}"), "7:23: columns.c: .c leads nowhere: header has only a, b"},
		"a number has no path": {oneRoute("topic: t", "table: a", "decode: number", "columns: {c: REAL .c}"), "6:23: columns.c: .c leads nowhere: decode: number gives one value"},
		"no columns":           {oneRoute("topic: t", "table: a"), "4:12: table: a table needs columns"},
		"reserved table":       {oneRoute("topic: t", "table: Messages", "columns: {a: REAL}"), "4:12: table: table Messages belongs to the archive itself"},
		"table of SQLite":      {oneRoute("topic: t", "table: sqlite_a", "columns: {a: REAL}"), "4:12: table: table sqlite_a belongs"},
		"table is no name":     {oneRoute("topic: t", "table: a-b", "columns: {a: REAL}"), `4:12: table: "a-b" is no name`},
		"decoder":              {oneRoute("topic: t", "table: a", "decode: jsn", "columns: {a: REAL}"), `5:13: decode: unknown decoder "jsn", one of auto`},
		"decoder in mapping":   {oneRoute("topic: t", "table: a", "decode: {format: jsn}", "columns: {a: REAL}"), `5:22: decode: unknown decoder "jsn", one of auto`},
		"decode's key":         {oneRoute("topic: t", "table: a", "decode: {format: json, lenent: true}", "columns: {a: REAL}"), `5:28: unknown key "lenent" in decode, did you mean "lenient"?`},
		"lenient is a boolean": {oneRoute("topic: t", "table: a", "decode: {lenient: very}", "columns: {a: REAL}"), `5:23: lenient must be true or false, not the text "very"`},
		"lenient raw":          {oneRoute("topic: t", "table: a", "decode: {format: raw, lenient: false}", "columns: {a: REAL .}"), `5:36: decode.lenient: lenient has no meaning with decode: raw`},
		"decompress":           {oneRoute("topic: t", "table: a", "decompress: rar", "columns: {a: REAL}"), `5:17: decompress: must be one of auto, gzip, zlib, deflate, zstd, none, not "rar"`},
		"time bound":           {oneRoute("topic: t", "table: a", "time: {path: .t, not_before: soon}", "columns: {a: REAL}"), `5:34: time.not_before: must be a date such as 2001-01-01`},
		"time bound after":     {oneRoute("topic: t", "table: a", "time: {path: .t, not_after: -1h}", "columns: {a: REAL}"), `5:33: time.not_after: must be a duration after the receipt`},
		"descriptor missing":   {oneRoute("topic: t", "table: a", "decode: protobuf", "columns: {a: REAL}"), "5:13: decode: protobuf needs descriptor"},
		"descriptor absent":    {oneRoute("topic: t", "table: a", "decode: protobuf", "descriptor: /no/such", "message: a.B", "columns: {a: REAL}"), "6:17: descriptor: "},
		"descriptor for json":  {oneRoute("topic: t", "table: a", "descriptor: x", "columns: {a: REAL}"), "5:17: descriptor: descriptor has no meaning without decode: protobuf"},
		"time zone":            {oneRoute("topic: t", "table: a", "time: {path: .t, timezone: Mars/Base}", "columns: {a: REAL}"), `5:32: time.timezone: "Mars/Base" is no time zone`},
		"time format":          {oneRoute("topic: t", "table: a", "time: {path: .t, format: nonsense}", "columns: {a: REAL}"), `5:30: time.format: "nonsense" is no time format`},
		"time fallback":        {oneRoute("topic: t", "table: a", "time: {path: .t, fallback: never}", "columns: {a: REAL}"), `5:32: time.fallback: must be one of received, none`},
		"time path":            {oneRoute("topic: t", "table: a", "time: .t |", "columns: {a: REAL}"), `5:15: time.path: unexpected EOF`},
		"on_error":             {oneRoute("topic: t", "table: a", "on_error: drop", "columns: {a: REAL}"), `5:15: on_error must be one of dead_letter, null, not "drop"`},
		"on_error missing":     {oneRoute("topic: t", "table: a", "columns: {a: REAL}", "on_error:"), "6:14: on_error must be a single value, not nothing"},
		"subject's name":       {oneRoute("topic: t/{a}", "publish: x.{b}", "columns: {c: REAL}"), `4:14: publish: "x.{b}": the topic has no {b}`},
		"subject of the raw":   {oneRoute("topic: t/{a}", "publish: mqtt.x", "columns: {c: REAL}"), `4:14: publish: subjects below nats.subject_prefix, mqtt,`},
		"two of a name":        {oneRoute("topic: t", "table: a", "columns: {a: REAL}") + "  - {name: r, topic: t, table: b, columns: {a: REAL}}\n", `6:12: name: a second route named "r"`},
		"two that disagree":    {oneRoute("topic: t", "table: a", "columns: {x: REAL}") + "  - {name: s, topic: t, table: A, columns: {X: TEXT .x}}\n", "6:45: columns.X: column X of table a is TEXT here and REAL in a route before"},
		"disagree with topic":  {oneRoute("topic: t/{x}", "table: a", "columns: {y: REAL}") + "  - {name: s, topic: t, table: a, columns: {x: REAL .x}}\n", "6:45: columns.x: column x of table a is REAL here and TEXT in a route before"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("x.yaml", []byte(withRoutes(c.src)), environment())
			problems, ok := errors.AsType[Problems](err)
			if !ok {
				t.Fatalf("no problem: %v", err)
			}
			if got := problems.Error(); !strings.HasPrefix(got, "x.yaml:"+c.want) || len(problems) != 1 {
				t.Errorf("got\n%s\nwant\nx.yaml:%s", got, c.want)
			}
		})
	}
}

func TestRoutesNeedSections(t *testing.T) {
	src := "sources: [{url: mqtt://broker, subscribe: [a]}]\n" + oneRoute("topic: t", "table: a", "publish: x", "columns: {a: REAL}")
	_, err := Parse("x.yaml", []byte(src), environment())
	want := "x.yaml:5:12: table needs the section archive\nx.yaml:6:14: publish needs the section nats"
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// A test is of one message.
func TestTestsHaveTopics(t *testing.T) {
	for topic, want := range map[string]string{
		"a/+": `4:17: topic: "a/+": a message has a topic without + and #`, "'a/#'": `4:17: topic: "a/#": a message has a topic without + and #`, "''": "4:17: topic",
	} {
		_, err := Parse("x.yaml", []byte(source()+"tests: [{topic: "+topic+", payload: x, error: e}]\n"), environment())
		if err == nil || !strings.HasPrefix(err.Error(), "x.yaml:"+want) {
			t.Errorf("%s: got %v, want %s", topic, err, want)
		}
	}
}

// The routes of the example are commented out; without the signs they work.
func TestExampleRoutes(t *testing.T) {
	at := strings.Index(deploy.Example, "# routes:")
	lines := strings.Split(deploy.Example[at:], "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "# ")
	}
	src := deploy.Example[:at] + strings.Join(lines, "\n")
	_, err := Parse("x.yaml", []byte(src), environment())
	// What is left is that the descriptor is not on this machine.
	problems, _ := errors.AsType[Problems](err)
	if len(problems) != 1 || !strings.Contains(problems[0].Message, "plant.pb") {
		t.Errorf("problems: %v", err)
	}
	file := filepath.Join(t.TempDir(), "payload")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := parse(t, source()+"tests: [{topic: t, payload_file: "+file+", error: e}]\n")
	if string(c.Tests[0].Payload) != "x" {
		t.Errorf("payload_file gives %q", c.Tests[0].Payload)
	}
}
