package config

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// decoder walks the parsed YAML and collects every problem with its position.
type decoder struct {
	file     string
	env      func(string) (string, bool)
	stores   bool // variables of secrets may be unset
	inSecret bool // what is being decoded is one
	anchors  map[string]ast.Node
	lines    []string // of the file
	problems Problems
}

// field is one key of a mapping and what to do with its value.
type field struct {
	name string
	set  func(ast.Node)
}

// parse returns the root of the one document in src, nil after a problem.
func (d *decoder) parse(src []byte) ast.Node {
	file, err := parser.ParseBytes(src, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntax(err, src)
		return nil
	}
	for i, doc := range file.Docs {
		if i > 0 && doc.Body != nil {
			d.report(doc.Body, "a second YAML document: the file must hold one")
		}
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		d.problems = append(d.problems, Problem{d.file, 1, 1, "the file is empty: sources is missing"})
		return nil
	}
	return file.Docs[0].Body
}

// quotedEnd is what the parser quotes of the file, which may be a password.
var quotedEnd = regexp.MustCompile(`: ".*"$`)

// syntax reports an error of the YAML parser, which stops at the first.
func (d *decoder) syntax(err error, src []byte) {
	var s *yaml.SyntaxError
	if !errors.As(err, &s) || s.Token == nil {
		d.problems = append(d.problems, Problem{d.file, 1, 1, err.Error()})
		return
	}
	message := quotedEnd.ReplaceAllString(s.Message, "")
	p := Problem{d.file, s.Token.Position.Line, max(1, s.Token.Position.Column), message}
	lines := strings.Split(string(src), "\n")
	if p.Line <= len(lines) && strings.Contains(lines[p.Line-1], "${") {
		p.Message += `; between { } or [ ] a ${VAR} must be in quotes`
	}
	d.problems = append(d.problems, p)
}

// report adds a problem at the place where n begins.
func (d *decoder) report(n ast.Node, format string, args ...any) {
	d.reportAt(firstToken(n), 0, format, args...)
}

func (d *decoder) reportAt(t *token.Token, offset int, format string, args ...any) {
	p := Problem{File: d.file, Line: 1, Col: 1, Message: fmt.Sprintf(format, args...)}
	if t != nil && t.Position != nil {
		p.Line, p.Col = max(1, t.Position.Line), max(1, t.Position.Column)+offset
	}
	d.problems = append(d.problems, p)
}

// resolve looks through anchors, aliases and tags. It returns nil after a problem.
func (d *decoder) resolve(n ast.Node) ast.Node {
	for range 16 { // an alias may point at an alias, and in a broken file at itself
		switch v := n.(type) {
		case *ast.AnchorNode:
			if v.Value == nil {
				d.report(n, "anchor without a value")
				return nil
			}
			d.anchors[v.Name.String()] = v.Value
			n = v.Value
		case *ast.AliasNode:
			target, ok := d.anchors[v.Value.String()]
			if !ok {
				d.report(n, "%s: there is no anchor of this name before it; put a text that begins with * in quotes", d.alias(v))
				return nil
			}
			n = target
		case *ast.TagNode:
			n = v.Value
		case nil:
			return nil
		default:
			return n
		}
	}
	d.report(n, "aliases that refer to one another without end")
	return nil
}

// mapping calls the setter of each key that n holds and returns the values by
// key. what names the mapping in messages.
func (d *decoder) mapping(n ast.Node, what string, fields []field) map[string]ast.Node {
	seen := map[string]ast.Node{}
	for _, pair := range d.pairs(n, what) {
		d.pair(pair, what, fields, seen)
	}
	return seen
}

// pairs are the keys and values of a mapping.
func (d *decoder) pairs(n ast.Node, what string) []*ast.MappingValueNode {
	switch v := d.resolve(n).(type) {
	case nil:
	case *ast.MappingNode:
		return v.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{v}
	case *ast.NullNode:
		d.report(v, "%s is empty: remove the key, or write {} for the defaults", what)
	default:
		d.report(v, "%s must be a mapping of keys to values, not %s", what, d.describe(v))
	}
	return nil
}

func (d *decoder) pair(pair *ast.MappingValueNode, what string, fields []field, seen map[string]ast.Node) {
	if pair.Key == nil || pair.Value == nil {
		d.report(pair, "a key without a value in %s", what)
		return
	}
	key := pair.Key.GetToken().Value
	if _, ok := seen[key]; ok {
		d.report(pair.Key, "%s is there twice in %s", key, what)
		return
	}
	var names []string
	for _, f := range fields {
		if f.name == key {
			seen[key] = pair.Value
			f.set(pair.Value)
			return
		}
		names = append(names, f.name)
	}
	if closest := Closest(key, names); closest != "" {
		d.report(pair.Key, "unknown key %q in %s, did you mean %q?", key, what, closest)
		return
	}
	d.report(pair.Key, "unknown key %q in %s, which knows %s", key, what, strings.Join(names, ", "))
}

// list calls each for every element of n.
func (d *decoder) list(n ast.Node, what string, each func(ast.Node)) {
	n = d.resolve(n)
	if n == nil {
		return
	}
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		d.report(n, "%s must be a list, not %s", what, d.describe(n))
		return
	}
	if len(seq.Values) == 0 {
		d.report(n, "%s is empty", what)
	}
	for _, v := range seq.Values {
		each(v)
	}
}

// scalar is a value with its variables expanded.
type scalar struct {
	node     ast.Node
	text     string
	expanded bool // a variable took part: the text counts as what it looks like
}

// scalar returns the expanded text of a value; ok is false after a problem.
func (d *decoder) scalar(n ast.Node, what string) (s scalar, ok bool) {
	if n = d.resolve(n); n == nil {
		return scalar{}, false
	}
	s.node = n
	switch v := n.(type) {
	case *ast.StringNode:
		s.text = v.Value
	case *ast.LiteralNode:
		s.text = v.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		s.text = n.GetToken().Value
		return s, true
	default:
		d.report(n, "%s must be a single value, not %s", what, d.describe(n))
		return s, false
	}
	text, expanded, err := expand(s.text, d.env)
	if e := (*expandError)(nil); errors.As(err, &e) {
		if e.unset && d.stores && d.inSecret {
			return s, false
		}
		d.reportAt(n.GetToken(), sourceOffset(n.GetToken(), s.text, e.offset), "%s", e.message)
		return s, false
	}
	s.text, s.expanded = text, expanded
	return s, true
}

// secret marks a value that only the service needs.
func (d *decoder) secret(set func(ast.Node)) func(ast.Node) {
	return func(n ast.Node) {
		d.inSecret = true
		defer func() { d.inSecret = false }()
		set(n)
	}
}

// sourceOffset tells how many columns after the start of the token the given
// offset of its value is; 0, the start, where that is not on one line.
func sourceOffset(t *token.Token, value string, offset int) int {
	origin := strings.TrimSpace(t.Origin)
	at := strings.Index(origin, value)
	if at < 0 || strings.Contains(origin, "\n") {
		return 0
	}
	return len([]rune(origin[:at+offset]))
}

func (d *decoder) alias(n *ast.AliasNode) string {
	if d.inSecret {
		return "an alias"
	}
	return "alias *" + n.Value.String()
}

// describe names what is where something else was wanted; of a secret it
// says the kind alone.
func (d *decoder) describe(n ast.Node) string {
	if d.inSecret {
		switch n.(type) {
		case *ast.StringNode, *ast.LiteralNode:
			return "a text"
		case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
			return "a number"
		case *ast.BoolNode:
			return "true or false"
		}
	}
	switch v := n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode:
		return "the text " + strconv.Quote(v.Value)
	case *ast.LiteralNode:
		return "text of several lines"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + n.GetToken().Value
	case *ast.BoolNode:
		return n.GetToken().Value
	}
	return "this"
}

// text sets *dst to a text that satisfies check; nil: any text.
func (d *decoder) text(dst *string, what string, check func(string) error) func(ast.Node) {
	return func(n ast.Node) {
		s, ok := d.scalar(n, what)
		if !ok {
			return
		}
		switch s.node.(type) {
		case *ast.StringNode, *ast.LiteralNode:
		default:
			d.report(s.node, "%s must be text, not %s: put it in quotes", what, d.describe(s.node))
			return
		}
		if check != nil {
			if err := check(s.text); err != nil {
				d.report(s.node, "%s: %v", what, err)
				return
			}
		}
		*dst = s.text
	}
}

// choice sets *dst to one of the given words. A number that is spelled like
// one of them counts: version: 5.
func (d *decoder) choice(dst *string, what string, words ...string) func(ast.Node) {
	return func(n ast.Node) {
		s, ok := d.scalar(n, what)
		if !ok {
			return
		}
		for _, w := range words {
			if s.text == w {
				*dst = w
				return
			}
		}
		d.report(s.node, "%s must be one of %s, not %q", what, strings.Join(words, ", "), s.text)
	}
}

// integer sets *dst to a whole number from least to most.
func (d *decoder) integer(dst *int, what string, least, most int) func(ast.Node) {
	return func(n ast.Node) {
		s, ok := d.scalar(n, what)
		if !ok {
			return
		}
		v, err := strconv.ParseInt(s.text, 0, 64)
		if _, isInt := s.node.(*ast.IntegerNode); err != nil || !isInt && !s.expanded {
			d.report(s.node, "%s must be a whole number from %d to %d, not %s", what, least, most, d.found(s))
			return
		}
		if v < int64(least) || v > int64(most) {
			d.report(s.node, "%s must be from %d to %d, not %d", what, least, most, v)
			return
		}
		*dst = int(v)
	}
}

func (d *decoder) boolean(dst *bool, what string) func(ast.Node) {
	return func(n ast.Node) {
		s, ok := d.scalar(n, what)
		if !ok {
			return
		}
		v, err := strconv.ParseBool(s.text)
		if _, isBool := s.node.(*ast.BoolNode); err != nil || !isBool && !s.expanded {
			d.report(s.node, "%s must be true or false, not %s", what, d.found(s))
			return
		}
		*dst = v
	}
}

// size sets *dst to a number of bytes from least upward.
func (d *decoder) size(dst *int64, what string, least int64) func(ast.Node) {
	return func(n ast.Node) {
		s, ok := d.scalar(n, what)
		if !ok {
			return
		}
		v, err := parseSize(s.text)
		if err != nil {
			d.report(s.node, "%s: %v", what, err)
			return
		}
		if v < least {
			d.report(s.node, "%s must be at least %d bytes, not %s", what, least, s.text)
			return
		}
		*dst = v
	}
}

// duration sets *dst to a duration that satisfies check.
func (d *decoder) duration(dst *time.Duration, what string, check func(time.Duration) error) func(ast.Node) {
	return func(n ast.Node) {
		s, ok := d.scalar(n, what)
		if !ok {
			return
		}
		v, err := time.ParseDuration(s.text)
		if err != nil {
			d.report(s.node, "%s must be a duration such as 500ms or 30s, not %s", what, d.found(s))
			return
		}
		if err := check(v); err != nil {
			d.report(s.node, "%s %v, not %s", what, err, s.text)
			return
		}
		*dst = v
	}
}

// found describes the value as the reader of the message knows it.
func (d *decoder) found(s scalar) string {
	if s.expanded {
		return strconv.Quote(s.text)
	}
	return d.describe(s.node)
}

// firstToken is where a node begins for the eye: a block mapping's own token
// is the colon after its first key.
func firstToken(n ast.Node) *token.Token {
	switch v := n.(type) {
	case *ast.MappingNode:
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return firstToken(v.Values[0])
		}
	case *ast.MappingValueNode:
		return v.Key.GetToken()
	}
	return n.GetToken()
}
