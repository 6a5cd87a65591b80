package replay

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/mqttetl/mqttetl"
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
	if to == "" {
		return Map{}, fmt.Errorf("topic map %q: the replacement is empty, and so would be the topic", s)
	}
	if err := errors.Join(CheckTopic(to), checkGroups(p, to)); err != nil {
		return Map{}, fmt.Errorf("topic map %q: %w", s, err)
	}
	return Map{p, []byte(to)}, nil
}

// CheckTopic refuses what no topic to publish to may hold (MQTT 5 §4.7.1, §4.7.3).
func CheckTopic(part string) error {
	if strings.ContainsAny(part, "+#\x00") {
		return fmt.Errorf("%q: a topic holds no +, # and NUL", part)
	}
	return nil
}

// references are the $name, ${name} and $$ of a replacement, as package regexp
// reads them: without braces a name goes on while letters, digits or _ follow.
var references = regexp.MustCompile(`\$(?:\$|\{([^}]*)\}|([\pL\p{Nd}_]+))`)

// checkGroups refuses references to groups that the pattern does not have: they
// would be replaced by nothing.
func checkGroups(pattern *regexp.Regexp, to string) error {
	for _, ref := range references.FindAllStringSubmatch(to, -1) {
		name := ref[1] + ref[2]
		if ref[0] == "$$" || hasGroup(pattern, name) {
			continue
		}
		err := fmt.Errorf("%s: the pattern has no group %q", ref[0], name)
		for n := len(ref[2]) - 1; n > 0; n-- {
			if hasGroup(pattern, name[:n]) {
				return mqttetl.WithHint(err, fmt.Sprintf("${%s}%s is group %s and then %s", name[:n], name[n:], name[:n], name[n:]))
			}
		}
		return mqttetl.WithHint(err, "$1 is what the first ( ) has matched, and $$ a dollar")
	}
	return nil
}

func hasGroup(pattern *regexp.Regexp, name string) bool {
	if n, err := strconv.Atoi(name); err == nil && strconv.Itoa(n) == name {
		return n <= pattern.NumSubexp()
	}
	return name != "" && pattern.SubexpIndex(name) >= 0
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
