package mqttetl

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Filter is a topic filter (MQTT 5 §4.7.1) as ParseFilter has accepted it.
type Filter string

// ParseFilter checks that s is a topic filter: UTF-8 without NUL, not empty, "#"
// only as the whole last level, "+" only as a whole level.
func ParseFilter(s string) (Filter, error) {
	switch {
	case s == "":
		return "", errors.New("topic filter must not be empty")
	case len(s) > 65535:
		return "", fmt.Errorf("topic filter of %d bytes: MQTT ends at 65535", len(s))
	case !isUTF8(s):
		return "", fmt.Errorf("topic filter %q is not UTF-8 without NUL", s)
	}
	levels := strings.Split(s, "/")
	for i, level := range levels {
		switch {
		case level == "#" && i < len(levels)-1:
			return "", fmt.Errorf("topic filter %q: # is allowed only at the end", s)
		case level != "#" && level != "+" && strings.ContainsAny(level, "#+"):
			return "", fmt.Errorf("topic filter %q: + and # stand for whole levels, not within %q", s, level)
		}
	}
	return Filter(s), nil
}

// CheckShare checks the name of a shared subscription's group (MQTT 5 §4.8.2).
func CheckShare(group string) error {
	switch {
	case group == "":
		return errors.New("share must not be empty")
	case len(group) > 65535:
		return fmt.Errorf("share of %d bytes: MQTT ends at 65535", len(group))
	case strings.ContainsAny(group, "/+#"):
		return fmt.Errorf("share %q must not hold /, + or #", group)
	case !isUTF8(group):
		return fmt.Errorf("share %q is not UTF-8 without NUL", group)
	}
	return nil
}

// CheckTopic checks the name of a topic to publish to (MQTT 5 §4.7).
func CheckTopic(topic []byte) error {
	switch {
	case len(topic) == 0:
		return errors.New("topic is empty")
	case len(topic) > 65535:
		return fmt.Errorf("topic of %d bytes: MQTT ends at 65535", len(topic))
	case bytes.ContainsAny(topic, "+#"):
		return fmt.Errorf("topic %.100q contains + or #, which only filters may", topic)
	case !utf8.Valid(topic) || bytes.IndexByte(topic, 0) >= 0:
		return fmt.Errorf("topic %.100q is not UTF-8 without NUL", topic)
	}
	return nil
}

// isUTF8 is what MQTT asks of every string (MQTT 5 §1.5.4).
func isUTF8(s string) bool { return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0 }

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
