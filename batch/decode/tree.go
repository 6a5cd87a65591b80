package decode

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
)

func newJSON(o Options) (Decoder, error) { return &jsonDecoder{o}, nil }

type jsonDecoder struct{ o Options }

func (d *jsonDecoder) Decode(_ string, p []byte, emit func(any) error) error {
	s := scanner{b: p, max: d.o.MaxDepth, left: d.o.budget(p)}
	doc, err := s.document()
	if err == nil {
		return emit(doc)
	}
	if !d.o.Lenient || isSpent(err) {
		return err
	}
	docs, what, err := mend(p, d.o.MaxDepth, s.left, err)
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
	s := scanner{b: p, max: maxDepth, left: budgetOf(p)}
	return s.document()
}

func (s *scanner) document() (any, error) {
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
		return v.scalar(), s.leaf(v.kind, len(v.raw))
	}
}

// leaf takes the cost of a value that is no array and no object.
func (s *scanner) leaf(kind Kind, length int) error {
	cost := scalarCost
	switch {
	case kind == String:
		cost = textCost + 2*length
	case length > 15:
		cost = 4*textCost + 2*length // perhaps beyond 64 bits
	}
	return s.spend(cost)
}

func (s *scanner) spend(cost int) error {
	if err := s.left.take(cost); err != nil {
		return fmt.Errorf("payload is refused at byte %d: %w", s.i, err)
	}
	return nil
}

func (s *scanner) treeObject() (any, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	if err := s.spend(objectCost); err != nil {
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
		if err := s.memberCost(len(m), name); err != nil {
			return nil, err
		}
		if escaped {
			name = unescaped(make([]byte, 0, len(name)), name)
		}
		v, err := s.tree()
		if err != nil {
			return nil, err
		}
		m[string(name)] = v
	}
}

// memberCost takes the cost of the n-th member of an object.
func (s *scanner) memberCost(n int, name []byte) error {
	if err := s.left.member(n); err != nil {
		return s.spend(0)
	}
	return s.spend(textCost + 2*len(name))
}

func (s *scanner) treeArray() (any, error) {
	if err := s.open(); err != nil {
		return nil, err
	}
	if err := s.spend(textCost); err != nil {
		return nil, err
	}
	var a growing
	for first := true; ; first = false {
		ok, err := s.element(first)
		if err != nil {
			return nil, err
		}
		if !ok {
			return a.array(), nil
		}
		if err := s.spend(elementCost); err != nil {
			return nil, err
		}
		v, err := s.tree()
		if err != nil {
			return nil, err
		}
		a.add(v)
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
