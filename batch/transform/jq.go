package transform

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/itchyny/gojq"
)

// Limits of what a route may take for one record, whatever it holds. What they
// cannot hold, because it is one step of a jq program, the limits of a worker do.
const (
	TimeLimit   = 2 * time.Second // of all jq programs of a route together; of the clock, so that a busy machine has room
	OutputLimit = 10_000          // rows or objects
	valueLimit  = 1 << 20         // columns of rows: 40 MB
	SizeLimit   = 16 << 20        // bytes of text in them
	DepthLimit  = 10_000          // of arrays and objects in what jq makes; of messages decode has a lower one
	// treeLimit is how many values and bytes of text all results of a program
	// may have. What a program makes can hold the same array many times, so it
	// may be small in memory and endless as JSON.
	treeLimit = 4 * SizeLimit
)

// banned are functions whose result is not made of the message alone: the rows
// could not be made again.
var banned = map[string]string{
	"now": "the time", "localtime": "the machine's time zone", "strflocaltime": "the machine's time zone",
	"input": "input", "inputs": "input", "debug": "standard error", "stderr": "standard error",
	"env": "the environment", "$ENV": "the environment", "input_line_number": "input", "input_filename": "input",
	"get_search_list": "modules", "modulemeta": "modules", "halt": "the end of the program", "halt_error": "the end of the program",
}

// program is a compiled jq program.
type program struct {
	text string
	code *gojq.Code
	vars []int    // places of the variables that it uses, among those of variables
	keys []string // where the result is always an object with these keys; nil: not known
}

// variables are what jq programs of a route know beside the document: the topic,
// and the names in it, one of which may be topic.
func (p *pattern) variables() []string {
	list := []string{"$topic"}
	for _, n := range p.names {
		if n == "topic" {
			list[0] = ""
		}
		list = append(list, "$"+n)
	}
	return list
}

// compileJQ compiles text, which may use the variables. The problem has no key.
func compileJQ(text string, variables ...string) (*program, *Problem) {
	q, err := gojq.Parse(text)
	if err != nil {
		p := &Problem{Offset: -1, Text: err.Error()}
		if e, ok := errors.AsType[*gojq.ParseError](err); ok {
			p.Offset = max(0, e.Offset-len(e.Token))
		}
		return nil, p
	}
	if q.Meta != nil || len(q.Imports) > 0 {
		return nil, &Problem{Offset: 0, Text: "modules are not available"}
	}
	var used string
	var vars []int
	var names []string
	functions(reflect.ValueOf(q), func(name string) {
		if i := slices.Index(variables, name); i >= 0 && !slices.Contains(vars, i) {
			vars, names = append(vars, i), append(names, name)
		}
		if _, ok := banned[name]; ok && used == "" {
			used = name
		}
	})
	if used != "" {
		return nil, &Problem{Offset: strings.Index(text, used), Text: fmt.Sprintf(
			"%s depends on %s: a route must make the same of a message whenever it runs", used, banned[used])}
	}
	code, err := gojq.Compile(q, gojq.WithEnvironLoader(func() []string { return nil }), gojq.WithVariables(names))
	if err != nil {
		p := &Problem{Offset: -1, Text: err.Error()}
		if _, name, ok := strings.Cut(err.Error(), ": "); ok { // function not defined: foo/0
			name, arguments, _ := strings.Cut(name, "/")
			p.Offset = strings.Index(text, name)
			if arguments == "0" && !strings.HasPrefix(name, "$") {
				p.Text += fmt.Sprintf(": did you mean .%s?", name)
			}
			if known := named(variables); strings.HasPrefix(name, "$") && len(known) > 0 {
				p.Text += ", only " + strings.Join(known, ", ")
			}
		}
		return nil, p
	}
	return &program{text, code, vars, objectKeys(q)}, nil
}

func named(variables []string) []string {
	return slices.DeleteFunc(slices.Clone(variables), func(s string) bool { return s == "" })
}

// functions calls f with the name of every function that the query calls, and
// of every variable that it reads.
func functions(v reflect.Value, f func(string)) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			functions(v.Elem(), f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			functions(v.Index(i), f)
		}
	case reflect.Struct:
		if fn, ok := v.Interface().(gojq.Func); ok {
			f(fn.Name)
		}
		if kv, ok := v.Interface().(gojq.ObjectKeyVal); ok { // {$name}
			f(kv.Key)
		}
		for i := range v.NumField() {
			functions(v.Field(i), f)
		}
	}
}

// objectKeys are the keys of the object that ends the query, if it does and
// all of them are written out.
func objectKeys(q *gojq.Query) []string {
	for q.Op == gojq.OpPipe {
		q = q.Right
	}
	if q.Term == nil || q.Term.Type != gojq.TermTypeObject || len(q.Term.SuffixList) > 0 {
		return nil
	}
	keys := []string{}
	for _, kv := range q.Term.Object.KeyVals {
		key := kv.Key
		if kv.KeyString != nil && len(kv.KeyString.Queries) == 0 {
			key = kv.KeyString.Str
		}
		if key == "" {
			return nil
		}
		keys = append(keys, strings.TrimPrefix(key, "$"))
	}
	return keys
}

var (
	errTime    = errors.New("the jq programs of the route took too long")
	errOutputs = fmt.Errorf("more than %d results", OutputLimit)
	errValues  = fmt.Errorf("more than %d values in the rows", valueLimit)
	errDepth   = fmt.Errorf("jq: the result is nested more than %d deep", DepthLimit)
	errTree    = fmt.Errorf("jq: the results have more than %d values and bytes of text", treeLimit)
)

// run calls emit with each result. The input is not changed; variables are the
// values of those that the program was compiled with.
func (p *program) run(ctx context.Context, input any, variables []any, emit func(any) error) error {
	if d, ok := ctx.(*deadline); ok {
		defer d.spend(time.Now())
	}
	var values []any
	for _, i := range p.vars {
		values = append(values, variables[i])
	}
	iter := p.code.RunWithContext(ctx, input, values...)
	left := treeLimit
	for n := 0; ; n++ {
		v, ok := iter.Next()
		if !ok {
			return nil
		}
		if err, ok := v.(error); ok {
			return p.failed(ctx, err)
		}
		if n == OutputLimit {
			return errOutputs
		}
		if err := measure(v, DepthLimit, &left); err != nil {
			return err
		}
		if err := emit(v); err != nil {
			return err
		}
	}
}

// measure makes sure that what jq has made can be written: too deep, it would
// overflow the stack, which cannot be recovered from. It takes the size of v
// from left.
func measure(v any, depth int, left *int) error {
	*left--
	switch v := v.(type) {
	case string:
		*left -= len(v)
	case []any:
		if depth == 0 {
			return errDepth
		}
		for _, e := range v {
			if err := measure(e, depth-1, left); err != nil {
				return err
			}
		}
	case map[string]any:
		if depth == 0 {
			return errDepth
		}
		for k, e := range v {
			*left -= len(k)
			if err := measure(e, depth-1, left); err != nil {
				return err
			}
		}
	}
	if *left < 0 {
		return errTree
	}
	return nil
}

func (p *program) failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w: more than %v", errTime, ctx.(*deadline).limit)
	}
	if halt, ok := errors.AsType[*gojq.HaltError](err); ok && halt.Value() == nil {
		err = errors.New("break outside of a label")
	}
	return fmt.Errorf("jq: %w", err)
}

// first is the first result, nil if there is none.
func (p *program) first(ctx context.Context, input any, variables []any) (v any, err error) {
	done := errors.New("first")
	err = p.run(ctx, input, variables, func(result any) error {
		v = result
		return done
	})
	if err == done {
		err = nil
	}
	return v, err
}

// deadline is a context that ends a while after begin. It costs less than
// context.WithTimeout, which would be a third of a small jq program.
type deadline struct {
	context.Context
	limit time.Duration
	timer *time.Timer
	done  chan struct{}
	begun bool
	spent time.Duration // of the record at hand, about
}

func newDeadline(limit time.Duration) *deadline {
	return &deadline{Context: context.Background(), limit: limit}
}

func (d *deadline) spend(begun time.Time) { d.spent += time.Since(begun) }

func (d *deadline) Done() <-chan struct{} { return d.done }

func (d *deadline) Err() error {
	select {
	case <-d.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// begin starts the time unless it runs.
func (d *deadline) begin() context.Context {
	if d.begun {
		return d
	}
	d.begun = true
	if d.timer == nil {
		done := make(chan struct{})
		d.done, d.timer = done, time.AfterFunc(d.limit, func() { close(done) })
	} else {
		d.timer.Reset(d.limit)
	}
	return d
}

// end stops the time, for the next begin.
func (d *deadline) end() {
	if !d.begun {
		return
	}
	d.begun = false
	if !d.timer.Stop() {
		d.timer = nil // it has fired, or is about to: the channel is of no more use
	}
}
