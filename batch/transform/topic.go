package transform

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mqttetl/mqttetl"
)

// pattern is a topic pattern: literal levels, names for one level or for one
// or more, + and ... for the same without a name, and # at the end.
type pattern struct {
	levels []level
	names  []string // in the order of the levels
	wide   int      // index of the level that takes several, -1: none
}

type level struct {
	text  string // literal, where kind is literal
	kind  levelKind
	named bool
}

type levelKind uint8

const (
	literal levelKind = iota
	one               // + or {name}
	several           // ... or {name...}
	rest              // #: none or more
)

// CheckPattern says why s is no pattern of topics.
func CheckPattern(s string) error {
	_, err := parsePattern(s)
	return err
}

func parsePattern(s string) (p pattern, err error) {
	if s == "" {
		return p, errors.New("must not be empty")
	}
	p.wide = -1
	parts := strings.Split(s, "/")
	for i, part := range parts {
		l, name, err := parseLevel(part)
		if err != nil {
			return p, fmt.Errorf("%q: %w", s, err)
		}
		if l.kind == rest && i < len(parts)-1 {
			return p, fmt.Errorf("%q: # is allowed only at the end; ... is one or more levels anywhere", s)
		}
		if l.kind == several || l.kind == rest {
			if p.wide >= 0 {
				return p, fmt.Errorf("%q: only one level may stand for several", s)
			}
			p.wide = i
		}
		p.levels = append(p.levels, l)
		for _, have := range p.names {
			if name != "" && strings.EqualFold(have, name) {
				return p, fmt.Errorf("%q: {%s} is there twice", s, name)
			}
		}
		if name != "" {
			p.names = append(p.names, name)
		}
	}
	return p, nil
}

func parseLevel(s string) (l level, name string, err error) {
	switch {
	case s == "+":
		return level{kind: one}, "", nil
	case s == "...":
		return level{kind: several}, "", nil
	case s == "#":
		return level{kind: rest}, "", nil
	case strings.HasPrefix(s, "{") && strings.HasSuffix(s, "}"):
		l.kind, l.named, name = one, true, s[1:len(s)-1]
		if head, ok := strings.CutSuffix(name, "..."); ok {
			l.kind, name = several, head
		}
		if err := CheckName(name); err != nil {
			return l, "", err
		}
		return l, name, nil
	case strings.ContainsAny(s, "+#{}"):
		return l, "", fmt.Errorf("level %q: a wildcard or {name} is a whole level", s)
	}
	return level{text: s}, "", nil
}

// CheckName holds names of tables, columns and topic levels to what is a word
// everywhere: letters, digits and _, not beginning with a digit.
func CheckName(s string) error {
	ok := s != "" && len(s) <= 64
	for i := 0; i < len(s); i++ {
		c := s[i]
		ok = ok && (c == '_' || c|0x20 >= 'a' && c|0x20 <= 'z' || i > 0 && c >= '0' && c <= '9')
	}
	if !ok {
		return fmt.Errorf("%q is no name: up to 64 letters, digits and _, not a digit first", s)
	}
	return nil
}

// match returns the text of the names, in their order.
func (p *pattern) match(topic string) (values []string, ok bool) {
	if strings.HasPrefix(topic, "$") && p.levels[0].kind != literal { // MQTT 5 §4.7.2
		return nil, false
	}
	parts := strings.Split(topic, "/")
	spare := len(parts) - len(p.levels) // levels that the wide one takes beside its own
	switch {
	case p.wide < 0 && spare != 0, spare < -1, spare == -1 && p.levels[p.wide].kind != rest:
		return nil, false
	}
	at := 0
	for _, l := range p.levels {
		n := 1
		if l.kind == several || l.kind == rest {
			n += spare
		}
		if l.kind == literal && parts[at] != l.text {
			return nil, false
		}
		if l.named {
			values = append(values, strings.Join(parts[at:at+n], "/"))
		}
		at += n
	}
	return values, true
}

// filter is the pattern as a topic filter, which may match more.
func (p *pattern) filter() mqttetl.Filter {
	var parts []string
	for _, l := range p.levels {
		switch l.kind {
		case literal:
			parts = append(parts, l.text)
		case one:
			parts = append(parts, "+")
		default:
			return mqttetl.Filter(strings.Join(append(parts, "#"), "/"))
		}
	}
	return mqttetl.Filter(strings.Join(parts, "/"))
}
