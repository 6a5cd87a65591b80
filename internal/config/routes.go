package config

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"github.com/mqttetl/mqttetl/batch/transform"
	"github.com/mqttetl/mqttetl/sink/store"
)

// routeNode is a route and where in the file its keys have their values.
type routeNode struct {
	transform.Route
	node   ast.Node
	values map[string]place // by the key of a transform.Problem
}

// place is a value, and how far after its beginning the text of it begins
// that was handed on.
type place struct {
	key, value ast.Node
	offset     int
}

func (d *decoder) routes(n ast.Node) (list []routeNode) {
	d.list(n, "routes", func(n ast.Node) { list = append(list, d.route(n)) })
	return list
}

func (d *decoder) route(n ast.Node) routeNode {
	r := routeNode{node: n, values: map[string]place{}}
	before := len(d.problems)
	seen := d.mapping(n, "the route", []field{
		{"name", d.text(&r.Name, "name", checkRouteName)},
		{"topic", d.text(&r.Topic, "topic", checkUTF8)},
		{"exclude", func(n ast.Node) { d.texts(n, "exclude", &r.Exclude, checkExclude) }},
		{"empty", d.boolean(&r.Empty, "empty")},
		{"decode", func(n ast.Node) { d.decode(n, &r) }},
		{"decompress", d.text(&r.Decompress, "decompress", nil)},
		{"descriptor", d.text(&r.Descriptor, "descriptor", checkPath)},
		{"message", d.text(&r.Message, "message", checkUTF8)},
		{"header", func(n ast.Node) { d.texts(n, "header", &r.Header, checkUTF8) }},
		{"comma", d.text(&r.Comma, "comma", nil)},
		{"when", d.text(&r.When, "when", checkProgram)},
		{"map", d.text(&r.Map, "map", checkProgram)},
		{"table", d.text(&r.Table, "table", transform.CheckTable)},
		{"columns", func(n ast.Node) { d.columns(n, &r) }},
		{"time", func(n ast.Node) { d.time(n, &r) }},
		{"publish", d.text(&r.Publish, "publish", nil)},
		{"rebirth", d.duration(&r.Rebirth, "rebirth", checkRebirth)},
		{"on_error", func(n ast.Node) { d.onError(n, &r) }},
	})
	d.require(n, seen, "the route", "name", "topic")
	if isMapping(d.resolve(n)) && seen["table"] == nil && seen["publish"] == nil {
		d.report(n, "the route needs table, publish, or both")
	}
	for key, value := range seen {
		if _, ok := r.values[key]; !ok {
			r.values[key] = place{value: value}
		}
	}
	if len(d.problems) > before {
		r.Name = "" // it is not compiled: what it would be told follows from these
	}
	return r
}

func checkExclude(s string) error {
	if err := checkUTF8(s); err != nil {
		return err
	}
	return transform.CheckPattern(s)
}

func checkRebirth(v time.Duration) error {
	if v < 10*time.Second {
		return errors.New("must be at least 10s")
	}
	return nil
}

// onError reads a word. Without quotes YAML takes null for nothing: it is meant
// where it is written, not where the value is missing.
func (d *decoder) onError(n ast.Node, r *routeNode) {
	if v := d.resolve(n); v != nil && v.GetToken().Type == token.NullType {
		r.OnError = transform.OnErrorNull
		return
	}
	d.choice(&r.OnError, "on_error", transform.OnErrorDeadLetter, transform.OnErrorNull)(n)
}

func checkRouteName(s string) error {
	if err := checkName(s); err != nil {
		return err
	}
	if strings.ContainsAny(s, " :,") || s == transform.ReadingsRoute {
		return fmt.Errorf("%q must hold no blank, colon or comma, and not be %s", s, transform.ReadingsRoute)
	}
	return nil
}

func checkProgram(s string) error {
	if strings.TrimSpace(s) == "" {
		return errors.New("must not be empty: remove the key")
	}
	return nil
}

// texts appends a list of texts.
func (d *decoder) texts(n ast.Node, what string, dst *[]string, check func(string) error) {
	d.list(n, what, func(n ast.Node) {
		var s string
		d.text(&s, what, check)(n)
		*dst = append(*dst, s)
	})
}

// columns reads name: TYPE path. The order of the file is that of the table.
func (d *decoder) columns(n ast.Node, r *routeNode) {
	have := map[string]bool{}
	for _, pair := range d.pairs(n, "columns") {
		name := pair.Key.GetToken().Value
		if have[strings.ToLower(name)] {
			d.report(pair.Key, "%s is there twice in columns", name)
			continue
		}
		have[strings.ToLower(name)] = true
		s, ok := d.scalar(pair.Value, "the column "+name)
		if !ok {
			continue
		}
		kind, rest, _ := strings.Cut(strings.TrimLeft(s.text, " "), " ")
		c := transform.Column{Name: name, Path: strings.TrimSpace(rest)}
		var err error
		if c.Type, err = store.ParseColumnType(kind); err != nil {
			d.report(s.node, "the column %s is a type and a path, such as REAL .%s: %v", name, name, err)
			continue
		}
		at := place{pair.Key, s.node, 0}
		if c.Path != "" {
			at.offset = strings.LastIndex(s.text, c.Path)
		}
		r.values["columns."+name] = at
		r.Columns = append(r.Columns, c)
	}
}

// decode is a mapping, or the format alone.
func (d *decoder) decode(n ast.Node, r *routeNode) {
	lenient := true
	if resolved := d.resolve(n); resolved != nil && !isMapping(resolved) {
		d.text(&r.Decode, "decode", nil)(n)
		return
	}
	seen := d.mapping(n, "decode", []field{
		{"format", d.text(&r.Decode, "format", nil)},
		{"lenient", d.boolean(&lenient, "lenient")},
	})
	r.Strict = !lenient
	if at := seen["format"]; at != nil {
		r.values["decode"] = place{value: at}
	}
	if at := seen["lenient"]; at != nil {
		r.values["decode.lenient"] = place{value: at}
	}
}

// time is a mapping, or the path alone.
func (d *decoder) time(n ast.Node, r *routeNode) {
	put := func(key string, dst *string, check func(string) error) field {
		return field{key, func(n ast.Node) {
			r.values["time."+key] = place{value: n}
			d.text(dst, key, check)(n)
		}}
	}
	path := put("path", &r.Time.Path, checkProgram)
	if resolved := d.resolve(n); resolved != nil && !isMapping(resolved) {
		path.set(n)
		return
	}
	d.mapping(n, "time", []field{
		path, put("format", &r.Time.Format, nil), put("timezone", &r.Time.Timezone, nil), put("fallback", &r.Time.Fallback, nil),
		put("not_before", &r.Time.NotBefore, nil), put("not_after", &r.Time.NotAfter, nil),
	})
}

// routesAsWhole compiles the routes, and reports what they need of other sections.
func (d *decoder) routesAsWhole(nodes []routeNode, c *Config) {
	var whole []routeNode
	for _, r := range nodes {
		if r.Name == "" {
			continue
		}
		whole = append(whole, r)
		c.Routes = append(c.Routes, r.Route)
		if r.Table != "" && c.Archive == nil {
			d.report(r.values["table"].value, "table needs the section archive")
		}
		if r.Publish != "" && c.NATS == nil {
			d.report(r.values["publish"].value, "publish needs the section nats")
		}
		if r.Publish != "" && c.NATS != nil && strings.HasPrefix(r.Publish+".", c.NATS.SubjectPrefix+".") {
			d.report(r.values["publish"].value, "publish: subjects below nats.subject_prefix, %s, are those of the raw messages", c.NATS.SubjectPrefix)
		}
	}
	_, err := transform.Compile(c.Routes)
	if err == nil {
		return
	}
	for _, err := range unjoin(err) {
		e, ok := errors.AsType[*transform.Error](err)
		if !ok {
			d.report(whole[0].node, "%v", err)
			continue
		}
		for _, p := range e.Problems {
			d.routeProblem(&whole[e.Index], p)
		}
	}
}

func unjoin(err error) []error {
	if list, ok := err.(interface{ Unwrap() []error }); ok {
		return list.Unwrap()
	}
	return []error{err}
}

func (d *decoder) routeProblem(r *routeNode, p transform.Problem) {
	at, ok := r.values[p.Key]
	if !ok {
		at, ok = r.values["name"]
		p.Offset = 0
	}
	text := p.Key + ": " + p.Text
	switch {
	case !ok:
		d.report(r.node, "%s", text)
	case p.Offset < 0 && at.key != nil:
		d.report(at.key, "%s", text)
	default:
		d.reportInside(at.value, at.offset+max(0, p.Offset), text)
	}
}

// reportInside reports something at the given byte of a text.
func (d *decoder) reportInside(n ast.Node, offset int, text string) {
	n = d.resolve(n)
	if block, ok := n.(*ast.LiteralNode); ok {
		d.reportInBlock(block, offset, text)
		return
	}
	t := n.GetToken()
	if s, ok := n.(*ast.StringNode); ok {
		origin, from := strings.TrimSpace(t.Origin), 0
		if strings.HasPrefix(origin, "'") || strings.HasPrefix(origin, `"`) {
			from = 1
		}
		// The value is there as it is, but for quotes, unless it has escapes
		// or several lines.
		if offset <= len(s.Value) && strings.HasPrefix(origin[min(from, len(origin)):], s.Value[:offset]) {
			d.reportAt(t, from+len([]rune(s.Value[:offset])), "%s", text)
			return
		}
	}
	d.reportAt(t, 0, "%s", text)
}

// reportInBlock finds the line of a block text (|) that holds the byte.
func (d *decoder) reportInBlock(n *ast.LiteralNode, offset int, text string) {
	start := n.Start.Position.Line // of the |; the text begins on the next line
	head := strings.Split(n.Value.Value[:min(offset, len(n.Value.Value))], "\n")
	line := start + len(head)
	last := head[len(head)-1]
	if line > len(d.lines) || !strings.HasPrefix(n.Start.Value, "|") {
		d.reportAt(n.Start, 0, "%s", text)
		return
	}
	at := strings.Index(d.lines[line-1], last)
	indent := len(d.lines[line-1]) - len(strings.TrimLeft(d.lines[line-1], " "))
	if last == "" || at < 0 {
		at = indent
	}
	d.problems = append(d.problems, Problem{d.file, line, 1 + len([]rune(d.lines[line-1][:at])) + len([]rune(last)), text})
}
