package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

// TestRoutes runs what is measured of routes, with few messages.
func TestRoutes(t *testing.T) {
	b, err := open(t.Context(), t.Output(), t.TempDir(), "", 0.01)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	r, err := b.runGroups(regexp.MustCompile(`^routes$`), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []subject{noRoutes, threeColumns, hundredRoutes, jqMap, rerunColumns, withoutSlow, withSlow} {
		if m := r[toolPoint(s)]; len(m) != 1 || m[0].Rate <= 0 || m[0].CPU <= 0 {
			t.Errorf("%s: %+v", s, m)
		}
	}
	var text bytes.Buffer
	(&report{w: &text, r: r, rounds: 1}).write()
	for _, want := range []string{"| transform rerun with three columns, messages a second | ≥ 200000 |", "| archive stage, a jq map |", "| all, paced, with a slow jq route |"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, text.String())
		}
	}
}
