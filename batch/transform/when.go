package transform

import (
	"context"
	"regexp"
	"strings"

	"github.com/itchyny/gojq"

	"github.com/mqttetl/mqttetl/batch/decode"
)

// condition decides whether a route takes a document. The plain forms, a path
// alone or compared with a constant, need no jq.
type condition struct {
	jq    *program // for the other forms
	path  decode.Path
	plain bool
	equal int // 1: ==, -1: !=, 0: the path alone
	to    any
	slot  int // of the path in the route's extractor
}

const constants = `null|true|false|-?[0-9.]+|"[^"\\]*"`

var comparison = regexp.MustCompile(`^(\S+|\S.*\S)\s*(==|!=)\s*(` + constants + `)$`)

// constant is the value of one of them.
func constant(text string) (v any, ok bool) {
	p, problem := compileJQ(text)
	if problem != nil {
		return nil, false
	}
	v, _ = p.first(context.Background(), nil, nil)
	return v, v != nil || text == "null"
}

// newCondition compiles text; the problem has no key.
func newCondition(text string, variables []string) (*condition, *Problem) {
	jq, problem := compileJQ(text, variables...)
	if problem != nil {
		return nil, problem
	}
	c := &condition{jq: jq}
	left := strings.TrimSpace(text)
	if m := comparison.FindStringSubmatch(left); m != nil {
		left = m[1]
		c.equal = 1
		if m[2] == "!=" {
			c.equal = -1
		}
		var ok bool
		if c.to, ok = constant(m[3]); !ok {
			return c, nil
		}
	}
	c.path, c.plain = decode.ParsePath(left)
	return c, nil
}

// holds says whether the document fulfils the condition.
func (c *condition) holds(d *deadline, doc any, variables []any) (bool, error) {
	if c.plain {
		v, err := c.path.Get(doc)
		return c.judge(v), err
	}
	v, err := c.jq.first(d.begin(), forJQ(doc), variables)
	return truth(v), err
}

// extracted is holds for what an Extractor has found.
func (c *condition) extracted(v *decode.Value) (bool, error) {
	if v.Kind() <= decode.Null && c.to == nil && c.equal != 0 { // the usual question
		return c.equal == 1, nil
	}
	if c.to == nil && v.Kind() != decode.Misfit && v.Kind() != decode.Bool {
		return v.Kind() > decode.Null && c.equal != 1, nil
	}
	doc, err := v.Any()
	return c.judge(doc), err
}

func (c *condition) judge(v any) bool {
	switch c.equal {
	case 0:
		return truth(v)
	default:
		return (gojq.Compare(forJQ(v), c.to) == 0) == (c.equal == 1)
	}
}

// truth is jq's: all but false and null.
func truth(v any) bool { return v != nil && v != false }
