package decode

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// wireTemplate is a Template.
type wireTemplate struct {
	version    any
	ref        any
	definition bool
	metrics    []wireMetric
	parameters map[string]any
}

func parseTemplate(raw []byte, left *budget) (t wireTemplate, err error) {
	t.parameters = map[string]any{}
	metrics, _ := countFields(raw, 2)
	if err := left.take(objectCost + metricCost*metrics); err != nil {
		return t, err
	}
	t.metrics = make([]wireMetric, 0, min(metrics, maxMetrics))
	err = eachField(raw, func(f field) (err error) {
		switch {
		case f.bytes(1):
			t.version, err = f.text()
		case f.bytes(2):
			if len(t.metrics) == maxMetrics {
				return fmt.Errorf("more than %d members of a Template", maxMetrics)
			}
			m, err := parseMetric(f.raw, left)
			t.metrics = append(t.metrics, m)
			return err
		case f.bytes(3):
			if err := left.take(firstMemberCost + 2*len(f.raw)); err != nil {
				return err
			}
			return t.parameter(f.raw)
		case f.bytes(4):
			t.ref, err = f.text()
		case f.varint(5):
			t.definition = f.n != 0
		}
		return err
	})
	return t, err
}

func (t *wireTemplate) parameter(raw []byte) error {
	var name string
	var datatype uint32
	var v wireValue
	err := eachField(raw, func(f field) (err error) {
		switch {
		case f.bytes(1):
			name, err = f.text()
		case f.varint(2):
			datatype = uint32(f.n)
		default:
			v.take(f, parameterValueAt, stringValue)
		}
		return err
	})
	if err != nil {
		return err
	}
	t.parameters[name], err = v.simple(datatype)
	return err
}

// document returns {version, template_ref, is_definition, metrics, parameters},
// the last two as objects {name: value}. Of equal names the last one counts.
func (t *wireTemplate) document(members *Birth, depth int, left *budget) (any, error) {
	if depth < 0 {
		return nil, errTooDeep
	}
	metrics := make(map[string]any, len(t.metrics))
	for i := range t.metrics {
		m := &t.metrics[i]
		born := members.find(m)
		name, datatype, err := m.identity(born)
		if err != nil {
			return nil, fmt.Errorf("member %d of a Template: %w", i, err)
		}
		if metrics[name], err = metricValue(m, datatype, born.members(), depth, left); err != nil {
			return nil, fmt.Errorf("member %s of a Template: %w", name, err)
		}
	}
	return map[string]any{
		"version": t.version, "template_ref": t.ref, "is_definition": t.definition,
		"metrics": metrics, "parameters": t.parameters,
	}, nil
}

// identity returns a metric's name and type, from itself before its birth.
func (m *wireMetric) identity(born *BirthMetric) (name string, datatype uint32, err error) {
	if m.err != nil {
		return "", 0, m.err
	}
	if born != nil {
		name, datatype = born.Name, born.DataType
	}
	if m.name != nil {
		name = *m.name
	} else if born == nil {
		if m.alias != nil {
			return "", 0, fmt.Errorf("alias %d is not in its birth", *m.alias)
		}
		return "", 0, errors.New("neither name nor alias")
	}
	if m.datatype != nil {
		datatype = *m.datatype
	}
	return name, datatype, nil
}

// birthMetrics returns what a birth declares: every metric that has a name. The
// members of a template that cannot be read are not known; its value says why.
func birthMetrics(metrics []wireMetric, depth int, left *budget) (out []BirthMetric, err error) {
	if err := left.take(bornCost * len(metrics)); err != nil {
		return nil, err
	}
	out = make([]BirthMetric, 0, len(metrics))
	for i := range metrics {
		m := &metrics[i]
		if m.name == nil || m.err != nil {
			continue
		}
		b := BirthMetric{Name: *m.name, Alias: m.alias}
		if m.datatype != nil {
			b.DataType = *m.datatype
		}
		if m.value.kind == templateValue && depth > 0 {
			t, err := parseTemplate(m.value.raw, left)
			if err == nil {
				b.Members, err = birthMetrics(t.metrics, depth-1, left)
			}
			if isSpent(err) {
				return nil, err
			}
		}
		out = append(out, b)
	}
	return out, nil
}

// propertySet returns {key: value}.
func propertySet(raw []byte, depth int, left *budget) (any, error) {
	if depth < 0 {
		return nil, errTooDeep
	}
	var keys []string
	var values []any
	err := eachField(raw, func(f field) error {
		switch {
		case f.bytes(1):
			if err := left.take(firstMemberCost + 2*len(f.raw)); err != nil {
				return err
			}
			s, err := f.text()
			keys = append(keys, s)
			return err
		case f.bytes(2):
			if err := left.take(memberCost); err != nil {
				return err
			}
			v, err := propertyValue(f.raw, depth-1, left)
			values = append(values, v)
			return err
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(keys) != len(values) {
		return nil, fmt.Errorf("a PropertySet of %d keys and %d values", len(keys), len(values))
	}
	m := make(map[string]any, len(keys))
	for i, k := range keys {
		m[k] = values[i]
	}
	return m, nil
}

// Kinds of a PropertyValue that stand where Metric has bytes and DataSet.
const (
	propertySetValue  = bytesValue
	propertySetsValue = dataSetValue
)

func propertyValue(raw []byte, depth int, left *budget) (any, error) {
	var datatype uint32
	var null bool
	var v wireValue
	err := eachField(raw, func(f field) error {
		switch {
		case f.varint(1):
			datatype = uint32(f.n)
		case f.varint(2):
			null = f.n != 0
		default:
			v.take(f, propertyValueAt, propertySetsValue)
		}
		return nil
	})
	if err != nil || null {
		return nil, err
	}
	switch v.kind {
	case propertySetValue:
		return propertySet(v.raw, depth, left)
	case propertySetsValue:
		list := []any{}
		err := eachField(v.raw, func(f field) error {
			if !f.bytes(1) {
				return nil
			}
			if err := left.take(5*exactCost + objectCost); err != nil {
				return err
			}
			s, err := propertySet(f.raw, depth, left)
			list = append(list, s)
			return err
		})
		return list, err
	}
	if err := left.take(textCost + len(v.raw)); err != nil {
		return nil, err
	}
	return v.simple(datatype)
}

// eachVarint calls take with each number of a packed field.
func eachVarint(b []byte, take func(uint64) error) error {
	for len(b) > 0 {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return protowire.ParseError(n)
		}
		if err := take(v); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
