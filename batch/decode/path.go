package decode

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Path is a path that needs no jq: names and indexes from 0, such as
// .a.b[0], .["a b"], ."a b" and '.', each step with a '?' or without. Where
// both are defined it gives what jq gives, but that an index into a string is
// an error.
type Path struct {
	text  string
	steps []step
}

// step leads to a member, or to an element if name is unset.
type step struct {
	name     string
	named    bool
	index    int
	optional bool
}

// String returns the path as it was written.
func (p Path) String() string { return p.text }

// ParsePath reads a path. False: s is none, and jq has to judge it.
func ParsePath(s string) (Path, bool) {
	p := Path{text: strings.TrimSpace(s)}
	rest, ok := strings.CutPrefix(p.text, ".")
	if !ok {
		return Path{}, false
	}
	for dot := true; rest != "" || dot && len(p.steps) > 0; {
		var st step
		switch {
		case strings.HasPrefix(rest, "["):
			st, rest, ok = parseBracket(rest[1:])
		case dot && strings.HasPrefix(rest, `"`):
			st, rest, ok = parseQuoted(rest)
		case dot:
			st, rest, ok = parseName(rest)
		default:
			ok = false
		}
		if !ok {
			return Path{}, false
		}
		rest, st.optional = strings.CutPrefix(rest, "?")
		p.steps = append(p.steps, st)
		rest, dot = strings.CutPrefix(rest, ".")
	}
	return p, true
}

func parseName(s string) (step, string, bool) {
	n := 0
	for n < len(s) && (s[n] == '_' || s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z' || n > 0 && s[n] >= '0' && s[n] <= '9') {
		n++
	}
	return step{name: s[:n], named: true}, s[n:], n > 0
}

// parseQuoted reads a JSON string; jq's \( is none.
func parseQuoted(s string) (step, string, bool) {
	q, err := strconv.QuotedPrefix(s)
	if err != nil {
		return step{}, "", false
	}
	st := step{named: true}
	err = json.Unmarshal([]byte(q), &st.name)
	return st, s[len(q):], err == nil
}

func parseBracket(s string) (step, string, bool) {
	if strings.HasPrefix(s, `"`) {
		st, rest, ok := parseQuoted(s)
		rest, closed := strings.CutPrefix(rest, "]")
		return st, rest, ok && closed
	}
	digits, rest, closed := strings.Cut(s, "]")
	n, err := strconv.ParseUint(digits, 10, 31)
	return step{index: int(n)}, rest, closed && err == nil
}

// Get follows the path in a document. What is not there is nil, as in jq; a
// step that does not fit, such as a name in a number, is an error, or nil where
// the step has a '?'.
func (p Path) Get(doc any) (any, error) {
	for i, st := range p.steps {
		switch v := doc.(type) {
		case nil:
			return nil, nil
		case map[string]any:
			if !st.named {
				return p.misfit(i, "an object")
			}
			doc = v[st.name]
		case []any:
			if st.named {
				return p.misfit(i, "an array")
			}
			doc = nil
			if st.index < len(v) {
				doc = v[st.index]
			}
		default:
			return p.misfit(i, kindOf(v))
		}
	}
	return doc, nil
}

func (p Path) misfit(i int, found string) (any, error) {
	if p.steps[i].optional {
		return nil, nil
	}
	return nil, p.misfitError(i, found)
}

// misfitError says which step does not fit what was found.
func (p Path) misfitError(i int, found string) error {
	if st := p.steps[i]; st.named {
		return fmt.Errorf("%s: looks for %q in %s", p.text, st.name, found)
	}
	return fmt.Errorf("%s: looks for element %d in %s", p.text, p.steps[i].index, found)
}

func kindOf(doc any) string {
	switch doc.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case Bytes:
		return "bytes"
	case []any:
		return "an array"
	case map[string]any:
		return "an object"
	}
	return "a number"
}
