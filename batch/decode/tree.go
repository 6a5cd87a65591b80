package decode

import (
	"encoding/json"
	"math/big"
	"strconv"
)

func newJSON(o Options) (Decoder, error) { return &jsonDecoder{o}, nil }

type jsonDecoder struct{ o Options }

func (d *jsonDecoder) Decode(_ string, p []byte, emit func(any) error) error {
	doc, err := parseJSON(p, d.o.MaxDepth)
	if err == nil {
		return emit(doc)
	}
	if !d.o.Lenient {
		return err
	}
	docs, what, err := mend(p, d.o.MaxDepth, err)
	if err != nil {
		return err
	}
	return d.o.emitMended(docs, what, emit)
}

func (o *Options) emitMended(docs []any, what string, emit func(any) error) error {
	o.mended(what)
	for _, doc := range docs {
		if err := emit(doc); err != nil {
			return err
		}
	}
	return nil
}

// parseJSON builds the tree of a payload.
func parseJSON(p []byte, maxDepth int) (any, error) {
	s := scanner{b: p, max: maxDepth}
	doc, err := s.tree()
	if err == nil {
		err = s.end()
	}
	return doc, err
}

func (s *scanner) tree() (any, error) {
	switch c := s.peek(); c {
	case '{':
		return s.treeObject()
	case '[':
		return s.treeArray()
	default:
		v, err := s.scalar(c)
		if err != nil {
			return nil, err
		}
		return v.scalar(), nil
	}
}

func (s *scanner) treeObject() (any, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	m := map[string]any{}
	for first := true; ; first = false {
		name, escaped, ok, err := s.member(first)
		if err != nil {
			return nil, err
		}
		if !ok {
			return m, nil
		}
		if escaped {
			name = unescape(nil, name)
		}
		v, err := s.tree()
		if err != nil {
			return nil, err
		}
		m[string(name)] = v
	}
}

func (s *scanner) treeArray() (any, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	a := []any{}
	for first := true; ; first = false {
		ok, err := s.element(first)
		if err != nil {
			return nil, err
		}
		if !ok {
			return a, nil
		}
		v, err := s.tree()
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
}

// scalar returns the document of a value that is no object and no array.
func (v *Value) scalar() any {
	switch v.kind {
	case Bool:
		return v.raw[0] == 't'
	case Int, Float:
		return number(v.raw, v.kind == Int)
	case String:
		return v.String()
	}
	return nil
}

// number returns a number of JSON's grammar, as exactly as gojq can hold it.
func number(raw []byte, whole bool) any {
	if whole {
		if n, ok := parseInt(raw); ok {
			return int(n)
		}
		n, _ := new(big.Int).SetString(string(raw), 10)
		return n
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return json.Number(raw)
	}
	return f
}
