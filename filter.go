package mqttetl

import (
	"fmt"
	"strings"
)

// Filter is a topic filter (MQTT 5 §4.7.1) as ParseFilter has accepted it.
type Filter string

// ParseFilter checks that s is a topic filter: not empty, "#" only as the whole
// last level, "+" only as a whole level.
func ParseFilter(s string) (Filter, error) {
	if s == "" {
		return "", fmt.Errorf("topic filter %q: must not be empty", s)
	}
	if len(s) > 65535 {
		return "", fmt.Errorf("topic filter of %d bytes: the limit is 65535", len(s))
	}
	levels := strings.Split(s, "/")
	for i, level := range levels {
		switch {
		case level == "#" && i < len(levels)-1:
			return "", fmt.Errorf("topic filter %q: # stands only at the end", s)
		case level != "#" && level != "+" && strings.ContainsAny(level, "#+"):
			return "", fmt.Errorf("topic filter %q: + and # stand for whole levels, not within %q", s, level)
		}
	}
	return Filter(s), nil
}

// Matches says whether the topic matches the filter. A wildcard at the first
// level does not match topics that begin with "$" (MQTT 5 §4.7.2).
func (f Filter) Matches(topic []byte) bool {
	if len(topic) > 0 && topic[0] == '$' && (f[0] == '+' || f[0] == '#') {
		return false
	}
	t := 0 // topic[t:] begins with the level to be matched
	for i := 0; ; {
		switch {
		case f[i:] == "#":
			return true
		case i < len(f) && f[i] == '+':
			for t < len(topic) && topic[t] != '/' {
				t++
			}
			i++
		default:
			for i < len(f) && f[i] != '/' && t < len(topic) && topic[t] == f[i] {
				i, t = i+1, t+1
			}
		}
		switch {
		case i == len(f):
			return t == len(topic)
		case t == len(topic):
			return f[i:] == "/#" // "a/#" matches its parent "a"
		case f[i] != '/' || topic[t] != '/':
			return false
		}
		i, t = i+1, t+1
	}
}
