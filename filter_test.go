package mqttetl

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestFilterMatches(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a/bc", false}, {"a/bc", "a/b", false}, {"a/b", "a", false},
		{"#", "a/b/c", true}, {"#", "", true}, {"#", "/", true}, {"#", "$SYS/x", false}, {"+/x", "$SYS/x", false},
		{"$SYS/#", "$SYS/x", true}, {"$SYS/#", "$SYS", true}, {"$SYS/+", "$SYS/x", true},
		{"a/#", "a", true}, {"a/#", "a/", true}, {"a/#", "a/b/c", true}, {"a/#", "ab", false}, {"a/#", "b", false},
		{"a/+", "a/b", true}, {"a/+", "a/", true}, {"a/+", "a", false}, {"a/+", "a/b/c", false},
		{"+", "a", true}, {"+", "/a", false}, {"+/+", "/a", true}, {"/+", "/a", true}, {"+/b/#", "a/b", true},
		{"+/b/#", "a/b/c/d", true}, {"a/+/c", "a//c", true}, {"a/+/c", "a/b/d", false}, {"a//b", "a//b", true},
		{"+/a", "a", false}, {"a/+/#", "a/b", true}, {"a/+/#", "a", false}, {"/", "/", true}, {"/", "", false},
	} {
		f, err := ParseFilter(c.filter)
		if err != nil {
			t.Fatal(err)
		}
		if got := f.Matches([]byte(c.topic)); got != c.want {
			t.Errorf("%q matches %q: %v, want %v", c.filter, c.topic, got, c.want)
		}
	}
}

// The rule of MQTT 5 §4.7.1 written level by level, as the specification has it.
func plainMatch(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i, level := range f {
		switch {
		case level == "#":
			return true
		case i >= len(t) || level != "+" && level != t[i]:
			return false
		}
		if i == len(t)-1 && len(f) == i+2 && f[i+1] == "#" {
			return true
		}
	}
	return len(f) == len(t)
}

func TestFilterAgainstTheSpecification(t *testing.T) {
	level := rapid.SampledFrom([]string{"", "a", "b", "ab", "$a"})
	rapid.Check(t, func(t *rapid.T) {
		topic := strings.Join(rapid.SliceOfN(level, 1, 4).Draw(t, "topic"), "/")
		levels := rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "b", "ab", "$a", "+"}), 1, 4).Draw(t, "filter")
		if rapid.Bool().Draw(t, "rest") {
			levels = append(levels, "#")
		}
		filter := strings.Join(levels, "/")
		if filter == "" {
			return
		}
		f, err := ParseFilter(filter)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := f.Matches([]byte(topic)), plainMatch(filter, topic); got != want {
			t.Fatalf("%q matches %q: %v, want %v", filter, topic, got, want)
		}
	})
}

func TestFilterRefused(t *testing.T) {
	for _, s := range []string{"", "a/#/b", "a#", "#a", "a/b+", "+a/b", strings.Repeat("a", 65536)} {
		if _, err := ParseFilter(s); err == nil {
			t.Errorf("%.20q is accepted", s)
		}
	}
}
