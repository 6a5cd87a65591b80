package replay

import (
	"fmt"
	"regexp"
	"strings"
)

// Rewrite changes topics: the map first, then the prefix.
type Rewrite struct {
	Prefix string // put before every topic
	Maps   []Map  // the first that matches is applied
}

// Map replaces a topic that its pattern matches as a whole.
type Map struct {
	pattern *regexp.Regexp
	to      []byte
}

// ParseMap reads "pattern=replacement": a regular expression (RE2) for whole
// topics, and what takes their place, with $1 or ${1} for its groups.
func ParseMap(s string) (Map, error) {
	from, to, ok := strings.Cut(s, "=")
	if !ok || from == "" {
		return Map{}, fmt.Errorf("%q is no topic map: must be pattern=replacement", s)
	}
	p, err := regexp.Compile(`\A(?:` + from + `)\z`)
	if err != nil {
		return Map{}, fmt.Errorf("topic map %q: %w", s, err)
	}
	return Map{p, []byte(to)}, nil
}

// Topic returns the topic under which a record of the topic is played.
func (w *Rewrite) Topic(topic []byte) []byte {
	if len(w.Maps) == 0 && w.Prefix == "" {
		return topic
	}
	out := []byte(w.Prefix)
	for _, m := range w.Maps {
		if at := m.pattern.FindSubmatchIndex(topic); at != nil {
			return m.pattern.Expand(out, m.to, topic, at)
		}
	}
	return append(out, topic...)
}
