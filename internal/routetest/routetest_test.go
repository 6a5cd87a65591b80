package routetest

import (
	"slices"
	"strings"
	"testing"

	"github.com/mqttetl/mqttetl/internal/config"
)

const head = "sources: [{name: a, url: \"mqtt://127.0.0.1:1\", subscribe: [\"#\"]}]\nlog: {dir: log}\narchive: {path: a.db}\n" + `routes:
  - {name: temperatures, topic: "factory/{line}/temp", decode: json, table: temperatures, columns: {celsius: REAL .c, label: TEXT .label, raw: "BLOB .raw?", on: INTEGER .on}}
tests:
`

// run runs the tests of a configuration and returns the lines of all failures.
func run(t *testing.T, tests string) (lines []string) {
	t.Helper()
	cfg, err := config.Parse("c.yaml", []byte(head+tests), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatalf("%s: %v", tests, err)
	}
	failed, err := Run(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range failed {
		if f.Line == 0 || f.Topic == "" {
			t.Errorf("a failure without its place: %+v", f)
		}
		lines = append(lines, f.Lines...)
	}
	return lines
}

func TestRun(t *testing.T) {
	const message = `  - {topic: factory/1/temp, payload: '{"c":21.5,"label":"x","on":true,"raw":null}', received: 2026-01-02T03:04:05Z, expect: `
	for expect, want := range map[string][]string{
		// What holds.
		"{temperatures: [{celsius: 21.5, label: x, line: \"1\", on: true, raw: null, time: \"2026-01-02T03:04:05Z\"}]}": nil,
		"{temperatures: [{celsius: 21.500000000000004}]}":                                                               nil, // the rounding of the last digit
		"{temperatures: [{celsius: 21.5000001}]}":                                                                       {"temperatures, row 1: celsius: want 21.5000001, got 21.5"},
		"{temperatures: [{on: 1}]}":                                                                                     nil,
		// What does not.
		"{temperatures: [{celsius: 22, label: y}]}": {"temperatures, row 1: celsius: want 22, got 21.5", `temperatures, row 1: label: want "y", got "x"`},
		"{temperatures: [{nothing: 1}]}":            {"temperatures, row 1: there is no column nothing, only time, line, celsius, label, raw, on"},
		"{temperatures: [{}, {celsius: 1}]}":        {"temperatures, row 2: missing, want celsius=1"},
		"{temperatures: []}":                        {`temperatures, row 1: not expected: time=2026-01-02T03:04:05Z line="1" celsius=21.5 label="x" raw=NULL on=1`},
		"{}":                                        {`temperatures, row 1: not expected: time=2026-01-02T03:04:05Z line="1" celsius=21.5 label="x" raw=NULL on=1`},
		"{other: []}":                               {"no route has the table other"},
	} {
		if got := run(t, message+expect+"}\n"); !slices.Equal(got, want) {
			t.Errorf("%s:\n%s\nwant\n%s", expect, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

func TestRunOfErrors(t *testing.T) {
	const bad = `  - {topic: factory/1/temp, payload: "no JSON", `
	for rest, want := range map[string]string{
		`error: "` + "JSON" + `"`: "",
		`error: "something else"`: "want an error with \"something else\", no route has failed with it",
		`expect: {}`:              "route temperatures: ",
	} {
		got := strings.Join(run(t, bad+rest+"}\n"), "\n")
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", rest, got, want)
		}
	}
}
