package access

import (
	"bufio"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/mqttetl/mqttetl"
)

// Access is what a client wants to do with a topic.
type Access uint8

// The accesses. None is the rule deny.
const (
	None  Access = 0
	Read  Access = 1
	Write Access = 2
)

// A rule allows an access to topics, or denies all.
type rule struct {
	filter mqttetl.Filter
	access Access
}

// ACL is what an acl_file says. As in Mosquitto what no rule allows is denied; of
// the rules for a user those that deny come first, and those of all users
// (pattern) after those of one.
type ACL struct {
	nobody   []rule // of clients without a user name
	users    map[string][]rule
	patterns []rule
}

// OpenACL reads an acl_file. changed is told of each change of the file: nil, or
// why it is refused.
func OpenACL(path string, changed func(error)) (*File[ACL], error) {
	return openLines(path, parseACL, changed)
}

// Rights are what one client may do.
type Rights struct{ rules []rule }

// For returns the rights of a client; user is "" for one without a name.
func (a *ACL) For(user, clientID string) *Rights {
	rules := a.nobody
	if user != "" {
		rules = a.users[user]
	}
	r := &Rights{rules: slices.Clip(rules)}
	// As in Mosquitto: one whose name is a wildcard has no rights by patterns.
	if strings.ContainsAny(user+clientID, "+#") {
		return r
	}
	for _, p := range a.patterns {
		if filter, ok := substitute(string(p.filter), user, clientID); ok {
			r.rules = append(r.rules, rule{filter, p.access})
		}
	}
	return r
}

// substitute puts the client's names in the place of %u and %c, which are whole
// levels. A name that is no level can match no topic.
func substitute(pattern, user, clientID string) (_ mqttetl.Filter, ok bool) {
	levels := strings.Split(pattern, "/")
	for i, level := range levels {
		name := user
		switch level {
		case "%c":
			name = clientID
		case "%u":
		default:
			continue
		}
		if name == "" || strings.Contains(name, "/") {
			return "", false
		}
		levels[i] = name
	}
	return mqttetl.Filter(strings.Join(levels, "/")), true
}

// May says whether the client may do this with a topic.
func (r *Rights) May(a Access, topic []byte) bool {
	for i := range r.rules {
		rule := &r.rules[i]
		if (rule.access == None || rule.access&a != 0) && rule.filter.Matches(topic) {
			return rule.access != None
		}
	}
	return false
}

func parseACL(path string, lines *bufio.Scanner) (*ACL, error) {
	a := &ACL{users: map[string][]rule{}}
	user := ""
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), " \t\r\n\v\f")
		if strings.HasPrefix(line, "#") {
			continue
		}
		word, rest, _ := strings.Cut(strings.TrimLeft(line, " "), " ")
		if err := a.line(&user, word, strings.TrimSpace(rest)); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
	a.nobody, a.patterns = ordered(a.nobody), ordered(a.patterns)
	for name, rules := range a.users {
		a.users[name] = ordered(rules)
	}
	return a, nil
}

func (a *ACL) line(user *string, word, rest string) error {
	switch word {
	case "":
		return nil
	case "user":
		if rest == "" {
			return errors.New("user without a name")
		}
		*user = rest
		return nil
	case "topic", "pattern":
	default:
		return fmt.Errorf("%q is none of user, topic and pattern", word)
	}
	r, err := parseRule(rest)
	if err != nil {
		return err
	}
	switch {
	case word == "pattern":
		a.patterns = append(a.patterns, r)
	case *user == "":
		a.nobody = append(a.nobody, r)
	default:
		a.users[*user] = append(a.users[*user], r)
	}
	return nil
}

var accesses = map[string]Access{"read": Read, "write": Write, "readwrite": Read | Write, "deny": None}

// parseRule reads [read|write|readwrite|deny] <topic>.
func parseRule(s string) (rule, error) {
	word, topic, two := strings.Cut(s, " ")
	access := Read | Write
	if two {
		var ok bool
		if access, ok = accesses[word]; !ok {
			return rule{}, fmt.Errorf("%q is none of read, write, readwrite and deny", word)
		}
	} else {
		topic = word
	}
	filter, err := mqttetl.ParseFilter(strings.TrimSpace(topic))
	return rule{filter, access}, err
}

// ordered has the rules that deny first.
func ordered(rules []rule) []rule {
	slices.SortStableFunc(rules, func(x, y rule) int {
		return min(1, int(x.access)) - min(1, int(y.access))
	})
	return rules
}
