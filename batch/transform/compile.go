package transform

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/mqttetl/mqttetl/batch/decode"
	"github.com/mqttetl/mqttetl/sink/store"
)

// Set is compiled routes. It does not change and may be shared.
type Set struct {
	routes []*route
	tables []store.Table
}

// Tables are the typed tables of the routes, in the order of the configuration.
// A table that several routes feed has the columns of all of them.
func (s *Set) Tables() []store.Table { return s.tables }

// Routes are the routes, in their order.
func (s *Set) Routes() []Route {
	list := make([]Route, len(s.routes))
	for i, r := range s.routes {
		list[i] = r.Route
	}
	return list
}

// HasBirths says whether a route reads Sparkplug.
func (s *Set) HasBirths() bool {
	return slices.ContainsFunc(s.routes, func(r *route) bool { return r.Decode == "sparkplug_b" })
}

// HasJQ says whether a route may need jq.
func (s *Set) HasJQ() bool {
	return slices.ContainsFunc(s.routes, func(r *route) bool { return !r.plain })
}

// runsJQ says whether the route has a program that the paths of package decode
// cannot take the place of.
func (r *route) runsJQ() bool {
	return r.mapper != nil || r.when != nil && !r.when.plain || r.at != nil && r.at.jq != nil ||
		slices.ContainsFunc(r.columns, func(c column) bool { return c.jq != nil })
}

// handsDocuments says whether a worker is given the documents of a payload: what
// these formats decode by is not at hand there.
func handsDocuments(format string) bool { return format == "sparkplug_b" || format == "protobuf" }

// route is a compiled route.
type route struct {
	Route
	pattern pattern
	exclude []pattern
	when    *condition // nil: always
	mapper  *program   // nil: the document
	columns []column
	inflate string  // compression of the payloads; "": none
	at      *column // of the time; nil: the receipt
	atField bool    // the time is the member time of what the map makes
	clock   clock
	table   int   // of Set.tables, -1: none
	places  []int // of the topic's names in a row
	subject subject

	// Where everything asked of a JSON document is a plain path.
	plain bool
	paths []decode.Path
}

// column is where a value comes from and where it goes.
type column struct {
	Column
	path  decode.Path
	jq    *program // nil: path
	place int      // in a row
	slot  int      // in the extractor
	exact bool     // the text of the payload, if that is one number or word

	other     bool // path // otherwise, a constant, as jq means it
	otherwise any
}

// Compile checks and compiles routes. The error joins an *Error for each route
// with problems. Names are unique, and routes that feed one table agree on it.
func Compile(routes []Route) (*Set, error) {
	s := &Set{}
	var errs []error
	names := map[string]bool{}
	for i := range routes {
		r, problems := compile(routes[i])
		if names[r.Name] {
			problems = append(problems, Problem{"name", -1, fmt.Sprintf("a second route named %q", r.Name)})
		}
		names[r.Name] = true
		if len(problems) == 0 {
			problems = s.place(r)
		}
		if len(problems) > 0 {
			errs = append(errs, &Error{r.Name, i, problems})
		}
		s.routes = append(s.routes, r)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// maxColumns is how many columns a table may have; SQLite has 2,000 at most.
const maxColumns = 500

// CheckTable says why a table cannot have the name.
func CheckTable(name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if store.Reserved(name) {
		return fmt.Errorf("table %s belongs to the archive itself", name)
	}
	return nil
}

// compile is all that concerns one route alone.
func compile(in Route) (r *route, problems []Problem) {
	r = &route{Route: in, table: -1}
	report := func(key string, err error) {
		if err != nil {
			problems = append(problems, Problem{key, 0, err.Error()})
		}
	}
	add := func(key string, p *Problem) {
		if p != nil {
			problems = append(problems, Problem{key, p.Offset, p.Text})
		}
	}
	var err error
	r.pattern, err = parsePattern(in.Topic)
	report("topic", err)
	for _, s := range in.Exclude {
		p, err := parsePattern(s)
		report("exclude", err)
		r.exclude = append(r.exclude, p)
	}
	if in.Table == "" && in.Publish == "" {
		problems = append(problems, Problem{"name", -1, "a route needs a table, or publish"})
	}
	if in.Table != "" {
		report("table", CheckTable(in.Table))
		if len(in.Columns) == 0 {
			problems = append(problems, Problem{"table", -1, "a table needs columns"})
		}
	}
	problems = append(problems, r.checkDecoder()...)
	if in.When != "" {
		var p *Problem
		r.when, p = newCondition(in.When, r.pattern.variables())
		add("when", p)
	}
	if in.Map != "" {
		var p *Problem
		r.mapper, p = compileJQ(in.Map, r.pattern.variables()...)
		add("map", p)
	}
	problems = append(problems, r.compileColumns()...)
	problems = append(problems, r.compileTime()...)
	problems = append(problems, r.checkDecompress()...)
	if in.Publish != "" {
		r.subject, err = parseSubject(in.Publish, r.pattern.names)
		report("publish", err)
	}
	switch in.OnError {
	case "", OnErrorDeadLetter, OnErrorNull:
	default:
		problems = append(problems, Problem{"on_error", 0, fmt.Sprintf("must be one of dead_letter, null, not %q", in.OnError)})
	}
	if len(problems) == 0 {
		r.findPlain()
	}
	return r, problems
}

// format is the decoder's name.
func (r *route) format() string {
	if r.Decode == "" {
		return "auto"
	}
	return r.Decode
}

// decoder makes a decoder; each user needs one.
func (r *route) decoder(births decode.Births, retry bool, mended func(string), late func() bool) (decode.Decoder, error) {
	if r.decoded {
		return documents{}, nil
	}
	o := decode.Options{Descriptor: r.Descriptor, Message: r.Message, Header: r.Header, Births: births, Retry: retry, Lenient: !r.Strict, Mended: mended, Late: late}
	for _, c := range r.Comma {
		o.Comma = c
	}
	return decode.New(r.format(), o)
}

func (r *route) checkDecoder() (problems []Problem) {
	add := func(key, text string) { problems = append(problems, Problem{key, 0, text}) }
	if !slices.Contains(decode.Formats(), r.format()) {
		add("decode", fmt.Sprintf("unknown decoder %q, one of %s", r.Decode, strings.Join(decode.Formats(), ", ")))
		return problems
	}
	protobuf, csv := r.Decode == "protobuf", r.Decode == "csv"
	for _, o := range []struct {
		key      string
		set, fit bool
		of       string
	}{
		{"descriptor", r.Descriptor != "", protobuf, "protobuf"}, {"message", r.Message != "", protobuf, "protobuf"},
		{"header", len(r.Header) > 0, csv, "csv"}, {"comma", r.Comma != "", csv, "csv"},
		{"rebirth", r.Rebirth != 0, r.Decode == "sparkplug_b", "sparkplug_b"},
	} {
		if o.set && !o.fit {
			add(o.key, o.key+" has no meaning without decode: "+o.of)
		}
	}
	if r.Strict && (r.Decode == "raw" || r.Decode == "sparkplug_b") {
		add("decode.lenient", "lenient has no meaning with decode: "+r.Decode)
	}
	if len([]rune(r.Comma)) > 1 {
		add("comma", "must be one character")
	}
	if protobuf && (r.Descriptor == "" || r.Message == "") {
		add("decode", "protobuf needs descriptor, a file of protoc -o, and message, the full name")
	}
	if len(problems) > 0 {
		return problems
	}
	if _, err := r.decoder(nil, false, nil, nil); err != nil {
		key := "decode"
		if protobuf {
			key = "descriptor"
		}
		add(key, err.Error())
	}
	return problems
}

// binaryFormats are the formats of which any payload may be one, compressed or not.
var binaryFormats = []string{"raw", "cbor", "msgpack", "protobuf", "sparkplug_b"}

// checkDecompress decides which payloads are decompressed. Unless the route says so, only
// where a compressed payload could be nothing else: with decode: auto a column of the whole
// payload may want the bytes.
func (r *route) checkDecompress() (problems []Problem) {
	whole := r.format() == "auto" && (r.mapper != nil || slices.ContainsFunc(r.columns, func(c column) bool { return c.jq != nil || c.path.Root() }))
	switch {
	case r.Decompress == "" && (whole || slices.Contains(binaryFormats, r.format())), r.Decompress == DecompressNone:
	case r.Decompress == "":
		r.inflate = "auto"
	case slices.Contains(decode.Compressions, r.Decompress):
		r.inflate = r.Decompress
	default:
		problems = append(problems, Problem{"decompress", 0, fmt.Sprintf("must be one of %s, none, not %q", strings.Join(decode.Compressions, ", "), r.Decompress)})
	}
	return problems
}

func (r *route) compileColumns() (problems []Problem) {
	taken := map[string]string{"seq": "every table has", "time": "every table has", "rowid": "SQLite has", "oid": "SQLite has", "_rowid_": "SQLite has"}
	for _, n := range r.pattern.names {
		if who := taken[strings.ToLower(n)]; who != "" {
			problems = append(problems, Problem{"topic", 0, fmt.Sprintf("{%s}: %s a column of this name", n, who)})
		}
		taken[strings.ToLower(n)] = "the topic gives"
	}
	for _, c := range r.Columns {
		key := "columns." + c.Name
		if err := CheckName(c.Name); err != nil {
			problems = append(problems, Problem{key, -1, err.Error()})
		}
		if who := taken[strings.ToLower(c.Name)]; who != "" {
			problems = append(problems, Problem{key, -1, fmt.Sprintf("%s a column %s already", who, c.Name)})
		}
		taken[strings.ToLower(c.Name)] = "the route has"
		compiled, p := newColumn(c, r.pattern.variables())
		if p == nil {
			p = r.nowhere(compiled)
		}
		compiled.exact = c.Type == store.Text && r.mapper == nil && compiled.jq == nil && !compiled.other && compiled.path.Root() && (r.format() == "auto" || r.format() == "json")
		if p != nil {
			problems = append(problems, Problem{key, p.Offset, p.Text})
			continue
		}
		r.columns = append(r.columns, compiled)
	}
	return problems
}

// newColumn compiles the path of a column; the problem has no key.
func newColumn(in Column, variables []string) (c column, problem *Problem) {
	c = column{Column: in, slot: -1}
	if c.Path == "" {
		c.Path = "." + c.Name
	}
	var ok bool
	if c.path, ok = decode.ParsePath(c.Path); ok {
		return c, nil
	}
	c.jq, problem = compileJQ(c.Path, variables...)
	if m := otherwise.FindStringSubmatch(c.Path); m != nil && problem == nil {
		path, plain := decode.ParsePath(m[1])
		if v, isConstant := constant(m[2]); plain && isConstant {
			c.path, c.jq, c.other, c.otherwise = path, nil, true, v
		}
	}
	return c, problem
}

// otherwise is a path and a constant in its place: .snr // 0. An index into text
// is an error to a path, and none to jq.
var otherwise = regexp.MustCompile(`^([^\[]+?)\s*//\s*(` + constants + `)$`)

// nowhere tells a path that cannot lead to anything, whatever the message.
func (r *route) nowhere(c column) *Problem {
	if c.jq != nil || c.other || c.path.Optional() {
		return nil
	}
	first, what, keys := c.path.FirstName(), "", []string(nil)
	switch {
	case r.mapper != nil:
		what, keys = "map makes", r.mapper.keys
	case r.Map != "": // did not compile
	case r.Decode == "csv" && len(r.Header) > 0:
		what, keys = "header has", r.Header
	case r.Decode == "text" || r.Decode == "number" || r.Decode == "raw":
		if !c.path.Root() {
			return &Problem{Text: fmt.Sprintf("%s leads nowhere: decode: %s gives one value, which is at .", c.path, r.Decode)}
		}
	}
	if keys == nil || slices.Contains(keys, first) {
		return nil
	}
	if c.path.Root() {
		return nil
	}
	return &Problem{Text: fmt.Sprintf("%s leads nowhere: %s only %s", c.path, what, strings.Join(keys, ", "))}
}

func (r *route) compileTime() (problems []Problem) {
	r.clock, problems = newClock(r.Time)
	if r.Time.Path == "" {
		r.atField = r.mapper != nil
		return problems
	}
	c, p := newColumn(Column{Name: "time", Path: r.Time.Path}, r.pattern.variables())
	if p != nil {
		return append(problems, Problem{"time.path", p.Offset, p.Text})
	}
	r.at = &c
	return problems
}

// findPlain notes whether an Extractor can do all of the route's work.
func (r *route) findPlain() {
	if f := r.format(); f != "json" && f != "auto" || r.mapper != nil {
		return
	}
	slot := func(p decode.Path) int {
		r.paths = append(r.paths, p)
		return len(r.paths) - 1
	}
	if r.when != nil {
		if !r.when.plain {
			return
		}
		r.when.slot = slot(r.when.path)
	}
	if r.at != nil {
		if r.at.jq != nil {
			return
		}
		r.at.slot = slot(r.at.path)
	}
	for i := range r.columns {
		if r.columns[i].jq != nil {
			return
		}
		r.columns[i].slot = slot(r.columns[i].path)
	}
	r.plain = true
}

// place gives the route its table and its values their places in the rows.
func (s *Set) place(r *route) (problems []Problem) {
	t := &store.Table{Name: r.Table}
	if r.Table != "" {
		r.table = slices.IndexFunc(s.tables, func(t store.Table) bool { return strings.EqualFold(t.Name, r.Table) })
		if r.table < 0 {
			r.table = len(s.tables)
			s.tables = append(s.tables, store.Table{Name: r.Table})
		}
		t = &s.tables[r.table]
	}
	put := func(key, name string, kind store.ColumnType) int {
		i := slices.IndexFunc(t.Columns, func(c store.Column) bool { return strings.EqualFold(c.Name, name) })
		if i < 0 {
			i = len(t.Columns)
			t.Columns = append(t.Columns, store.Column{Name: name, Type: kind})
		} else if have := t.Columns[i].Type; have != kind {
			problems = append(problems, Problem{key, -1, fmt.Sprintf(
				"column %s of table %s is %s here and %s in a route before", name, t.Name, kind, have)})
		}
		return 2 + i
	}
	for _, n := range r.pattern.names {
		r.places = append(r.places, put("topic", n, store.Text))
	}
	for i := range r.columns {
		c := &r.columns[i]
		c.place = put("columns."+c.Name, c.Name, c.Type)
	}
	if r.Table != "" && len(t.Columns) > maxColumns {
		problems = append(problems, Problem{"columns", -1, fmt.Sprintf("table %s would have %d columns, more than %d", t.Name, len(t.Columns), maxColumns)})
	}
	return problems
}
