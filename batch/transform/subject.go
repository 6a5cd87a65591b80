package transform

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mqttetl/mqttetl/internal/natsmsg"
)

// subject is a template of NATS subjects: tokens with {name} in them.
type subject []piece

// piece is text as it stands, or the index of a topic's name.
type piece struct {
	text string
	name int // -1: text
}

func parseSubject(s string, names []string) (list subject, err error) {
	for token := range strings.SplitSeq(s, ".") {
		if len(list) > 0 {
			list = append(list, piece{".", -1})
		}
		if token == "" {
			return nil, fmt.Errorf("%q: a token is empty", s)
		}
		for token != "" {
			open := strings.IndexByte(token, '{')
			if open < 0 {
				open = len(token)
			}
			if text := token[:open]; text != "" {
				if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f || strings.ContainsRune("/*>%}", r) }) {
					return nil, fmt.Errorf("%q: tokens are printable ASCII without / * > %% }, and {name}", s)
				}
				list = append(list, piece{text, -1})
			}
			if token = token[open:]; token == "" {
				break
			}
			name, after, ok := strings.Cut(token[1:], "}")
			i := slices.Index(names, strings.TrimSuffix(name, "..."))
			if !ok || i < 0 {
				return nil, fmt.Errorf("%q: the topic has no {%s}", s, name)
			}
			list = append(list, piece{name: i})
			token = after
		}
	}
	if natsmsg.Reserved(s) || strings.HasPrefix(s, "_INBOX") { // a name may follow
		return nil, fmt.Errorf("%q: subjects that begin with $ or _INBOX belong to the server", s)
	}
	return list, nil
}

// fill puts the values of the names, escaped, in their places.
func (s subject) fill(values []string) string {
	var b strings.Builder
	for _, p := range s {
		if p.name < 0 {
			b.WriteString(p.text)
		} else {
			b.WriteString(natsmsg.EscapeTopic(values[p.name]))
		}
	}
	return b.String()
}

// Subjects is the NATS pattern that every subject of the route matches, "" if
// it publishes nothing.
func (r *Route) Subjects() string {
	if r.Publish == "" {
		return ""
	}
	var tokens []string
	for token := range strings.SplitSeq(r.Publish, ".") {
		switch {
		case !strings.Contains(token, "{"):
			tokens = append(tokens, token)
		case strings.Contains(r.Topic, strings.TrimSuffix(token, "}")+"...}"):
			return strings.Join(append(tokens, ">"), ".")
		default:
			tokens = append(tokens, "*")
		}
	}
	return strings.Join(tokens, ".")
}
