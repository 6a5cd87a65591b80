package transform

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unsafe"

	"github.com/itchyny/gojq"

	"github.com/mqttetl/mqttetl/batch/decode"
	"github.com/mqttetl/mqttetl/sink/store"
)

// convert makes of a document, or a part of one, a value of the type. See the
// package comment for the rules.
func convert(v any, t store.ColumnType) (store.Value, error) {
	switch v := v.(type) {
	case nil:
		return store.Value{}, nil
	case bool:
		return fromBool(v, t)
	case int:
		return fromInt(int64(v), t)
	case float64:
		return fromFloat(v, t)
	case *big.Int:
		return fromDigits(v.String(), t)
	case json.Number:
		return fromDigits(v.String(), t)
	case string:
		return fromText(v, t)
	case decode.Bytes:
		if t == store.Blob || t == store.Any {
			return store.BytesValue(string(v)), nil
		}
		return store.Value{}, fmt.Errorf("bytes are no %s", t)
	}
	if t != store.Text && t != store.Any {
		return store.Value{}, fmt.Errorf("%s is no %s", describe(v), t)
	}
	p, err := marshal(v)
	return store.StringValue(p), err
}

// marshal is v as JSON, keys in order, byte strings as base64.
func marshal(v any) (string, error) {
	p, err := gojq.Marshal(forJQ(v))
	return string(p), err
}

func describe(v any) string {
	if _, ok := v.([]any); ok {
		return "an array"
	}
	return "an object"
}

func fromBool(v bool, t store.ColumnType) (store.Value, error) {
	n := 0
	if v {
		n = 1
	}
	switch t {
	case store.Real:
		return store.FloatValue(float64(n)), nil
	case store.Text, store.Blob:
		return fromText(strconv.FormatBool(v), t)
	}
	return store.IntValue(int64(n)), nil
}

func fromInt(v int64, t store.ColumnType) (store.Value, error) {
	switch t {
	case store.Real:
		return store.FloatValue(float64(v)), nil
	case store.Text:
		return store.StringValue(strconv.FormatInt(v, 10)), nil
	case store.Blob:
		return store.Value{}, fmt.Errorf("the number %d is no BLOB", v)
	}
	return store.IntValue(v), nil
}

func fromFloat(v float64, t store.ColumnType) (store.Value, error) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return store.Value{}, notFiniteError{strconv.FormatFloat(v, 'g', -1, 64)}
	}
	switch t {
	case store.Integer:
		n, ok := decode.FloatInt64(v)
		if !ok {
			return store.Value{}, notWhole(v)
		}
		return store.IntValue(n), nil
	case store.Text:
		s, err := marshal(v)
		return store.StringValue(s), err
	case store.Blob:
		return store.Value{}, fmt.Errorf("the number %v is no BLOB", v)
	}
	return store.FloatValue(v), nil
}

// notFiniteError is a number that is none. A route that is not strict makes NULL of it.
type notFiniteError struct{ text string }

func (e notFiniteError) Error() string { return e.text + " is no number that a column holds" }

// notNumberError is text that is no number, which a route that is not strict may make one of.
type notNumberError struct {
	s string
	t store.ColumnType
}

func (e notNumberError) Error() string { return fmt.Sprintf("the text %q is no %s", shorten(e.s), e.t) }

// notWhole says what to do about a device that turns out to send fractions.
func notWhole(v float64) error {
	if math.Abs(v) < 1<<63 {
		return fmt.Errorf("%v has a fraction, which INTEGER cannot hold: make the column REAL and rerun the route, or round in jq", v)
	}
	return fmt.Errorf("%v is beyond INTEGER of 64 bits", v)
}

// fromDigits takes a number that neither an int nor a float64 can hold.
func fromDigits(s string, t store.ColumnType) (store.Value, error) {
	switch t {
	case store.Text, store.Any:
		return store.StringValue(s), nil
	case store.Real:
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return store.FloatValue(f), nil
		}
	}
	return store.Value{}, fmt.Errorf("the number %s is beyond %s", shorten(s), t)
}

func shorten(s string) string {
	if len(s) > 40 {
		return s[:40] + "…"
	}
	return s
}

func fromText(s string, t store.ColumnType) (store.Value, error) {
	switch t {
	case store.Text, store.Any:
		return store.StringValue(s), nil
	case store.Blob:
		return store.BytesValue(s), nil
	}
	n := decode.Trim(s)
	if n == "" {
		return store.Value{}, nil
	}
	if i, err := strconv.ParseInt(n, 10, 64); err == nil {
		return fromInt(i, t)
	} else if errors.Is(err, strconv.ErrRange) {
		return fromDigits(n, t)
	}
	if decode.NotFinite(n) {
		return store.Value{}, notFiniteError{fmt.Sprintf("%q", n)}
	}
	f, err := strconv.ParseFloat(n, 64)
	if err != nil && errors.Is(err, strconv.ErrRange) {
		return fromDigits(n, t)
	}
	if err != nil || strings.ContainsAny(n, "xXpP_") {
		return store.Value{}, notNumberError{s, t}
	}
	return fromFloat(f, t)
}

// errNowhere is a path without "?" that leads nowhere.
func errNowhere(path string) error { return fmt.Errorf("there is no %s", path) }

// fromJSON is convert for what an Extractor has found. The text of the value may
// be that of the payload.
func fromJSON(v *decode.Value, c *column) (store.Value, error) {
	t, path := c.Type, &c.path
	if c.exact && v.Kind() >= decode.Bool && v.Kind() <= decode.Float {
		return store.StringValue(sharedString(v.Raw())), nil
	}
	if c.other {
		if v.IsNull() || v.Kind() == decode.Bool && v.Raw()[0] == 'f' {
			return convert(c.otherwise, t)
		}
	}
	switch v.Kind() {
	case decode.Null:
		return store.Value{}, nil
	case decode.Missing:
		if path.Optional() {
			return store.Value{}, nil
		}
		return store.Value{}, errNowhere(path.String())
	case decode.Misfit:
		return store.Value{}, v.Err()
	case decode.Bool:
		b, err := v.Bool()
		if err != nil {
			return store.Value{}, err
		}
		return fromBool(b, t)
	case decode.Int:
		if t == store.Real {
			break
		}
		n, err := v.Int64()
		if err != nil {
			break
		}
		return fromInt(n, t)
	case decode.Float:
		f, err := v.Float64()
		if err != nil {
			break
		}
		return fromFloat(f, t)
	case decode.String:
		return fromText(sharedString(v.Text()), t)
	}
	if v.Kind() == decode.Int && t == store.Real {
		f, err := v.Float64()
		return store.FloatValue(f), err
	}
	doc, err := v.Any() // objects, arrays, and numbers beyond 64 bits
	if err != nil {
		return store.Value{}, err
	}
	return convert(doc, t)
}

// sharedString is p without a copy.
func sharedString(p []byte) string { return unsafe.String(unsafe.SliceData(p), len(p)) }

// time reads a time of a document.
func (c *clock) value(v any, received int64) (at int64, null bool, err error) {
	switch v := v.(type) {
	case nil:
		return 0, true, nil
	case int:
		at, err = c.number(int64(v), true, float64(v))
	case float64:
		at, err = c.number(0, false, v)
	case string:
		if v = decode.Trim(v); v == "" {
			return 0, true, nil
		}
		at, err = c.text(v, received)
	default:
		err = fmt.Errorf("time: %w", c.errForm(fmt.Sprintf("%.40v", v)))
	}
	return at, false, err
}

// json is value for what an Extractor has found.
func (c *clock) json(v *decode.Value, received int64) (at int64, null bool, err error) {
	switch v.Kind() {
	case decode.Missing, decode.Null:
		return 0, true, nil
	case decode.Int:
		if n, err := v.Int64(); err == nil {
			at, err := c.number(n, true, float64(n))
			return at, false, err
		}
	case decode.String:
		return c.value(sharedString(v.Text()), received)
	}
	doc, err := v.Any()
	if err != nil {
		return 0, false, err
	}
	return c.value(doc, received)
}
